"""The program: its own options, one line or several of commands, or the interactive shell."""

from __future__ import annotations

import os
import sys

from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.grammar import GrammarError, parse_line, parse_words
from guesthouse.cli.virsh.shell import DEBUG, ERROR, INFO, Shell
from guesthouse.errors import GuesthouseError

# letter: long name, and whether it takes a value: "no", "yes", "maybe"
_INT_MAX = 2**31 - 1
_OPTIONS = {
    "c": ("connect", "yes"),
    "d": ("debug", "yes"),
    "e": ("escape", "yes"),
    "h": ("help", "no"),
    "k": ("keepalive-interval", "yes"),
    "K": ("keepalive-count", "yes"),
    "l": ("log", "yes"),
    "q": ("quiet", "no"),
    "r": ("readonly", "no"),
    "t": ("timing", "no"),
    "v": ("version", "maybe"),
}


def main(argv: list[str] | None = None) -> int:
    """Run virsh with ``argv`` (default: the arguments of this process); returns its exit code."""
    args = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    shell = Shell()
    try:
        code = _main(shell, args)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except KeyboardInterrupt:
        code = 130
    finally:
        shell.close()
    return code


def _main(shell: Shell, args: list[str]) -> int:
    try:
        words = _own_options(shell, args)
        if words is None:
            return 0
        _environment(shell)
        commands = _commands(shell, words)
        if shell.uri is not None and not _completes(commands):
            shell.connect()
    except Failed as failed:
        shell.error(str(failed))
        return 1
    except GrammarError as error:
        complain(shell, error)
        return 1
    except GuesthouseError as error:
        shell.error(error.message)
        return 1
    if shell.uri is None:
        shell.uri = os.environ.get("VIRSH_DEFAULT_CONNECT_URI")
    if words:
        return 0 if shell.run(commands) else 1
    from guesthouse.cli.virsh import interactive

    return interactive.loop(shell)


def _completes(commands: list[Given]) -> bool:
    """Whether all there is to do is to complete a line, for which nothing may be said of the connection."""
    return [given.command.name for given in commands] == ["complete"]


def complain(shell: Shell, error: GrammarError) -> None:
    """Print what is wrong with a line."""
    for message in error.messages:
        shell.error(message)
    if error.hint:
        shell.hint(error.hint)


def _commands(shell: Shell, words: list[str]) -> list[Given]:
    """The commands in the process's arguments. A single argument is a line, several are the words of one command."""
    if len(words) == 1:
        shell.debug(INFO, f'commands: "{words[0]}"')
        if not words[0]:
            raise GrammarError()
        commands = parse_line(words[0])
    else:
        commands = parse_words(words)
    for given in commands:
        for option, value in given.values:
            kind, text = ("bool", "(none)") if option.kind == "flag" else ("optdata", value)
            shell.debug(INFO, f"{given.command.name}: {option.name}({kind}): {text}")
    return commands


def _environment(shell: Shell) -> None:
    """VIRSH_DEBUG and VIRSH_LOG_FILE, where no option said otherwise."""
    if shell.debug_level == ERROR and (text := os.environ.get("VIRSH_DEBUG")) is not None:
        level = parse_number(text)
        if level is None or not DEBUG <= level <= ERROR:
            shell.error("VIRSH_DEBUG not set with a valid numeric value")
        else:
            shell.debug_level = level
    if shell.log_path is None and (path := os.environ.get("VIRSH_LOG_FILE")):
        shell.log_path = path
        shell.open_log()


def _own_options(shell: Shell, args: list[str]) -> list[str] | None:
    """Take in the options before the command; returns the rest, None where an option was all there is to do.

    Raises Failed or GrammarError for what is no option of virsh.
    """
    position = 0
    while position < len(args):
        arg = args[position]
        if len(arg) < 2 or arg[0] != "-":
            break
        position += 1
        if arg == "--":
            break
        value: str | None
        if arg.startswith("--"):
            name, equals, value = arg[2:].partition("=")
            letter = _long(name, arg)
            wants = _OPTIONS[letter][1]
            if equals and wants == "no":
                raise Failed(f"unsupported option '-{letter}'. See --help.")
            if not equals:
                value = None
                if wants == "yes":
                    value, position = _value(letter, args, position)
            if _apply(shell, letter, f"--{_OPTIONS[letter][0]}", value):
                return None
            continue
        for index, letter in enumerate(arg[1:], 2):
            if letter == "V":
                _version("long")
                return None
            if letter not in _OPTIONS:
                raise Failed(f"unsupported option '-{letter}'. See --help.")
            value = None
            if _OPTIONS[letter][1] == "yes":
                value = arg[index:]
                if not value:
                    value, position = _value(letter, args, position)
            if _apply(shell, letter, f"-{letter}", value):
                return None
            if value is not None:
                break
    return args[position:]


def _long(name: str, arg: str) -> str:
    """The letter of the long option ``name``, which may be cut short as long as it means one."""
    found = [letter for letter, (long, _) in _OPTIONS.items() if long == name]
    found = found or [letter for letter, (long, _) in _OPTIONS.items() if long.startswith(name)]
    if len(found) != 1:
        from guesthouse.cli import nearest

        near = nearest.hint(name, [long for long, _ in _OPTIONS.values()], before="--")
        raise GrammarError(f"unsupported option '{arg}'. See --help.", hint=near)
    return found[0]


def _value(letter: str, args: list[str], position: int) -> tuple[str, int]:
    if position == len(args):
        raise Failed(f"option '-{letter}'/'--{_OPTIONS[letter][0]}' requires an argument")
    return args[position], position + 1


def _apply(shell: Shell, letter: str, spelled: str, value: str | None) -> bool:
    """Take in one option; whether nothing is left to do."""
    if letter == "c":
        shell.uri = value
    elif letter == "d":
        level = parse_number(value or "")
        if level is None:
            raise Failed(f"option {spelled} takes a numeric argument")
        if DEBUG <= level <= ERROR:
            shell.debug_level = level
        else:
            shell.error(f"ignoring debug level {level} out of range [{DEBUG}-{ERROR}]")
    elif letter == "e":
        text = value or ""
        control = len(text) == 2 and text[0] == "^" and ("a" <= text[1] <= "z" or "@" <= text[1] <= "_")
        if not control and (len(text) != 1 or not text.isascii() or text == "^"):
            raise Failed(f"Invalid string '{text}' for escape sequence")
        shell.escape = text
    elif letter in "kK":
        count = parse_number(value or "")
        if count is None or count > _INT_MAX:
            raise Failed(f"Invalid value for option {spelled}")
        if count < 0:
            raise Failed(f"option {spelled} requires a positive integer argument")
        if letter == "k":
            shell.keepalive = (count, shell.keepalive[1])
        else:
            shell.keepalive = (shell.keepalive[0], count)
        shell.keepalive_asked = True
    elif letter == "l":
        shell.log_path = value
        shell.open_log()
    elif letter == "q":
        shell.quiet = True
    elif letter == "r":
        shell.readonly = True
    elif letter == "t":
        shell.timing = True
    elif letter == "v":
        _version(value or "short")
        return True
    else:
        from guesthouse.cli.virsh.help import usage

        usage(shell)
        return True
    return False


def _version(kind: str) -> None:
    from guesthouse import __version__

    if kind != "long":
        print(__version__)
        return
    print(f"Virsh command line tool of guesthouse {__version__}, compatible with libvirt 9.0.0")
    print()
    print("Hypervisors: QEMU/KVM")
    print("Transports:  Unix sockets, TCP")
