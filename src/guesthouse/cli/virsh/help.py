"""Help texts, all derived from the declarations of the commands."""

from __future__ import annotations

from guesthouse.cli.virsh import index
from guesthouse.cli.virsh.command import ALIAS, DATA, FLAG, NUMBER, REST, STRING, Command, Option
from guesthouse.cli.virsh.shell import Shell

_OPTIONS = """\

virsh [options]... [<command_string>]
virsh [options]... <command> [args...]

  options:
    -c | --connect=URI      hypervisor connection URI
    -d | --debug=NUM        debug level [0-4]
    -e | --escape <char>    set escape sequence for console
    -h | --help             this help
    -k | --keepalive-interval=NUM
                            keepalive interval in seconds, 0 for disable
    -K | --keepalive-count=NUM
                            number of possible missed keepalive messages
    -l | --log=FILE         output logging to file
    -q | --quiet            quiet mode
    -r | --readonly         connect readonly
    -t | --timing           print timing information
    -v                      short version
    -V                      long version
         --version[=TYPE]   version, TYPE is short or long (default short)
  commands (non interactive mode):

"""
_END = """\

  (specify help <group> for details about the commands in the group)

  (specify help <command> for details about the command)

"""


def _lines(commands: list[Command]) -> str:
    return "".join(f"    {command.name:<30} {command.help}\n" for command in commands if not command.hidden)


def usage(shell: Shell) -> None:
    """What ``virsh --help`` prints."""
    shell.out(_OPTIONS)
    for group, commands in index.all_commands().items():
        shell.out(f" {index.GROUPS[group]} (help keyword '{group}')\n{_lines(commands)}\n")
    shell.out(_END)


def all_groups(shell: Shell) -> None:
    """What ``help`` prints."""
    shell.out("Grouped commands:\n\n")
    for group in index.GROUPS:
        one_group(shell, group)
        shell.out("\n")


def one_group(shell: Shell, group: str) -> None:
    """What ``help GROUP`` prints."""
    commands = index.all_commands()[group]
    shell.out(f" {index.GROUPS[group]} (help keyword '{group}'):\n{_lines(commands)}")


def one_command(shell: Shell, command: Command) -> None:
    """What ``help COMMAND`` and ``COMMAND --help`` print."""
    shown = [option for option in command.options if option.kind != ALIAS]
    shell.out(f"  NAME\n    {command.name} - {command.help}\n\n  SYNOPSIS\n")
    shell.out("".join([f"    {command.name}", *_synopsis(shown), "\n"]))
    if command.description:
        shell.out(f"\n  DESCRIPTION\n    {command.description}\n")
    if shown:
        shell.out("\n  OPTIONS\n")
        by_place = False
        for option in shown:
            by_place = by_place or _by_place(option)
            shell.out(f"    {_usage(option, by_place):<15}  {option.help}\n")
    shell.out("\n")


def _by_place(option: Option) -> bool:
    """Whether the option's value may stand without its name (one that takes the rest does not count)."""
    return option.kind in (NUMBER, STRING, DATA) and not option.named


def _synopsis(options: list[Option]) -> list[str]:
    words = []
    by_place = False
    for option in options:
        by_place = by_place or _by_place(option)
        if option.kind == FLAG:
            word = f"[--{option.name}]"
        elif option.kind == NUMBER and not option.required:
            word = f"[--{option.name} <number>]"
        elif option.kind == STRING:
            word = f"[--{option.name} <string>]"
        elif option.kind == REST:
            inner = f"[--{option.name}] <string>" if by_place else f"<{option.name}>"
            if not option.required:
                word = f"[{inner}]..."
            else:
                word = f"{{{inner}}}..." if by_place else f"{inner}..."
        else:
            word = f"<{option.name}>"
        words.append(f" {word}")
    return words


def _usage(option: Option, by_place: bool) -> str:
    if option.kind == FLAG:
        return f"--{option.name}"
    if option.kind == NUMBER:
        return f"[--{option.name}] <number>" if option.required else f"--{option.name} <number>"
    if option.kind == STRING:
        return f"--{option.name} <string>"
    if option.kind == DATA or by_place:
        return f"[--{option.name}] <string>"
    return f"<{option.name}>"
