"""Commands about virsh itself."""

from __future__ import annotations

import os

from guesthouse.cli.virsh import help as helper
from guesthouse.cli.virsh import index
from guesthouse.cli.virsh.command import alias, command, flag, rest, string
from guesthouse.cli.virsh.given import Failed, Given, split_commas
from guesthouse.cli.virsh.shell import Shell


@command(
    "virsh",
    "help",
    "show help",
    string("command", "a command or a group of commands; without it, all of them", "command"),
    description="Show what there is: all commands, those of a group, or one of them with its options.",
    connect=False,
)
def show_help(shell: Shell, given: Given) -> None:
    name = given.raw("command")
    if not name:
        helper.all_groups(shell)
        return
    found = index.find(name)
    if found is not None:
        helper.one_command(shell, found)
        return
    for group, title in index.GROUPS.items():
        if name in (group, title):
            helper.one_group(shell, group)
            return
    raise Failed(f"command or command group '{name}' doesn't exist")


@command(
    "virsh",
    "cd",
    "change to another folder",
    string("dir", "the folder to go to; without it, home", "file"),
    description="Change the folder that file names are relative to.",
    connect=False,
)
def change_folder(shell: Shell, given: Given) -> None:
    if not shell.interactive:
        raise Failed("cd: command valid only in interactive mode")
    folder = given.raw("dir") or os.path.expanduser("~")  # noqa: PTH111
    try:
        os.chdir(folder)
    except OSError as error:
        raise Failed(f"cd: {error.strerror}: {folder}") from None


@command("virsh", "pwd", "show the current folder", description="Show the current folder.", connect=False)
def show_folder(shell: Shell, given: Given) -> None:
    shell.out(f"{os.getcwd()}\n")  # noqa: PTH109


@command(
    "virsh",
    "echo",
    "print the arguments",
    flag("shell", "quote for use in a shell"),
    flag("xml", "escape for use in XML"),
    flag("split", "split each argument at commas; two commas stand for one"),
    flag("err", "print as an error"),
    alias("str", "string"),
    alias("hi", "string=hello"),
    rest("string", "what to print"),
    description="Print the arguments, quoted if asked; good for trying out how virsh reads a line.",
    connect=False,
)
def echo(shell: Shell, given: Given) -> None:
    given.exclusive("shell", "xml")
    given.exclusive("shell", "split")
    given.exclusive("xml", "split")
    text = "".join(f"{_quoted(word, given)} " for word in given.rest()).removesuffix(" ")
    if not text:
        return
    if given.has("err"):
        shell.error(text)
    else:
        shell.out(text)


_XML = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "'": "&apos;", '"': "&quot;"}
_SHELL_SPECIAL = frozenset("\r\t\n !\"#$&'()*;<>?[\\]^`{|}~")


def _quoted(word: str, given: Given) -> str:
    if given.has("xml"):
        return "".join(_XML.get(char, char) for char in word)
    if given.has("shell"):
        if word and not _SHELL_SPECIAL & set(word):
            return word
        return "'" + word.replace("'", "'\\''") + "'"
    if given.has("split"):
        return "".join(f"{piece}\n" for piece in split_commas(word))
    return word


@command(
    "virsh",
    "connect",
    "connect to a hypervisor, or connect again",
    string("name", "URI of the connection", empty=True),
    flag("readonly", "connect for reading only"),
    description="Connect to a hypervisor; virsh does so by itself when a command needs it.",
    connect=False,
)
def connect(shell: Shell, given: Given) -> None:
    shell.connect(given.text("name"), given.has("readonly"), again=True)


@command("virsh", "quit", "leave the interactive shell", connect=False)
def leave(shell: Shell, given: Given) -> None:
    shell.interactive = False


command("virsh", "exit", "leave the interactive shell", connect=False)(leave)
