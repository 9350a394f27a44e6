"""The grammar of virsh's command lines: words, quotes, several commands, options before, between and after data."""

from __future__ import annotations

from guesthouse.cli.virsh import index
from guesthouse.cli.virsh.command import ALIAS, DATA, FLAG, NUMBER, REST, Command, Option
from guesthouse.cli.virsh.given import Given

HELP = Option("help", FLAG, "print help for this function")


class GrammarError(Exception):
    """A line that virsh does not take. ``messages``: each is printed behind "error: "; ``hint``: a line of advice."""

    def __init__(self, *messages: str, hint: str = "") -> None:
        super().__init__(*messages)
        self.messages = messages
        self.hint = hint


def parse_words(words: list[str]) -> list[Given]:
    """The command that the arguments of a process make (one command; no quoting). Raises GrammarError."""
    if words and words[0].startswith("#"):
        return []
    return [_parse_command(words)] if words else []


def parse_line(line: str) -> list[Given]:
    """The commands in ``line``, which may hold several, comments and quotes. Raises GrammarError; then none is run."""
    return [_parse_command(words) for words in split_line(line) if words]


def split_line(line: str) -> list[list[str]]:
    """The words of each command in ``line``. Raises GrammarError for an open double quote or a dangling backslash.

    Commands end at a semicolon or a newline. A word that begins with # starts a comment. A backslash keeps the next
    character, within double quotes too; before a newline both vanish. An open single quote ends with the line.
    """
    commands: list[list[str]] = [[]]
    pos, end = 0, len(line)
    while pos < end:
        char = line[pos]
        if char in " \t":
            pos += 1
        elif line.startswith("\\\n", pos):
            pos += 2
        elif char in ";\n":
            commands.append([])
            pos += 1
        elif char == "#":
            newline = line.find("\n", pos)
            pos = end if newline < 0 else newline + 1
            commands.append([])
        else:
            word, pos = _word(line, pos)
            commands[-1].append(word)
    return commands


def _word(line: str, pos: int) -> tuple[str, int]:
    """The word that starts at ``pos``, and where it ends."""
    word: list[str] = []
    quote = ""
    end = len(line)
    while pos < end:
        char = line[pos]
        if not quote and char in " \t;\n":
            break
        if char == "'" and quote != '"':
            quote = "" if quote else "'"
        elif char == "\\" and quote != "'":
            pos += 1
            if pos == end:
                raise GrammarError("dangling \\")
            if line[pos] != "\n":
                word.append(line[pos])
        elif char == '"' and quote != "'":
            quote = "" if quote else '"'
        else:
            word.append(char)
        pos += 1
    if quote == '"':
        raise GrammarError('missing "')
    return "".join(word), pos


def _parse_command(words: list[str]) -> Given:
    name = words[0]
    command = index.find(name)
    if command is None:
        raise GrammarError(f"unknown command: '{name}'", hint=index.hint(name))
    lenient = command.name == "help"  # "help" ignores what it does not know
    places = [o for o in command.options if o.kind not in (FLAG, ALIAS) and not o.named]
    seen: set[str] = set()
    values: list[tuple[Option, str]] = []
    queue = iter(words[1:])
    data_only = False
    for word in queue:
        if not data_only and word == "--":
            data_only = True
            continue
        if not data_only and word.startswith("--") and word[2].isascii() and word[2].isalnum():
            key, equals, text = word[2:].partition("=")
            try:
                option, value = _option(command, key, text if equals else None, seen)
            except GrammarError:
                if lenient:
                    continue
                raise
            if option.kind == FLAG:
                values.append((option, ""))
                continue
            if value is None:
                value = next(queue, None)
            if value is None:
                kind = "number" if option.kind == NUMBER else "string"
                raise GrammarError(f"expected syntax: --{option.name} <{kind}>")
            if option.kind != REST and option in places:
                places.remove(option)
            values.append((option, value))
        elif places:
            option = places[0] if places[0].kind == REST else places.pop(0)
            seen.add(option.name)
            values.append((option, word))
        elif not lenient:
            raise GrammarError(f"unexpected data '{word}'")
    if any(option is HELP for option, _ in values):
        helper = index.find("help")
        assert helper is not None
        return Given(helper, [(helper.options[0], command.name)])
    missing = [o for o in command.options if o.required and o.name not in seen]
    if missing:
        raise GrammarError(*(_missing(command, option) for option in missing))
    return Given(command, values)


def _option(command: Command, name: str, value: str | None, seen: set[str]) -> tuple[Option, str | None]:
    """The option that ``--name`` or ``--name=value`` means, and its value if there is one."""
    if name == "help":
        if value is not None:
            raise GrammarError("invalid '=' after option --help")
        return HELP, None
    for option in command.options:
        if option.name != name:
            continue
        if option.kind == ALIAS:
            name, equals, fixed = option.target.partition("=")
            if equals:
                if value is not None:
                    raise GrammarError(f"invalid '=' after option --{option.name}")
                value = fixed
            continue
        if name in seen and option.kind != REST:
            raise GrammarError(f"option --{name} already seen")
        if option.kind == FLAG and value is not None:
            raise GrammarError(f"invalid '=' after option --{name}")
        seen.add(name)
        return option, value
    from guesthouse.cli import nearest

    known = [option.name for option in command.options if option.kind != ALIAS]
    hint = nearest.hint(name, [*known, "help"], before="--")
    raise GrammarError(f"command '{command.name}' doesn't support option --{name}", hint=hint)


def _missing(command: Command, option: Option) -> str:
    what = f"<{option.name}>" if option.kind in (DATA, REST) else f"--{option.name}"
    return f"command '{command.name}' requires {what} option"
