"""Domain documents put to C libvirtd and to our daemon: do both say the same?

``documents`` are (name, XML) pairs. Of each is asked, in one go over one connection to each daemon: ``define`` (its
refusal), ``inactive`` and ``migratable`` (what dumpxml says), ``again`` (the same defined once more), ``native``
(domxml-to-native, compared as meaning), and with ``start`` also ``start`` (paused: its refusal), ``argv`` (what QEMU
was given), ``live`` and ``next`` (the two documents then).

A test says ``differences(documents, theirs, ours)`` and hands the result to :func:`unknown` with the rows of what is
known. ``python tests/support/xmldiff.py FILE.xml ...`` prints what differs of some files; with ``XMLDIFF_SOCKET`` in
the environment the socket of a running C libvirtd is used.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import argv
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

SCRIPT = Path(__file__).with_name("xmldiff_ask.py")

Document = tuple[str, str]
Answer = dict[str, str]


class Difference(NamedTuple):
    """``lines``: "-" what libvirt says and we do not, "+" what we say and libvirt does not."""

    name: str
    aspect: str
    lines: list[str]

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.aspect}", *(f"    {line}" for line in self.lines)])


def domain(devices: str, *, machine: str = "pc", kind: str = "qemu", more: str = "", emulator: bool = True) -> str:
    """A small guest around ``devices``; ``more`` stands before them."""
    program = "<emulator>/usr/bin/qemu-system-x86_64</emulator>" if emulator else ""
    return (
        f"<domain type='{kind}'><name>d</name><uuid>{uuid.UUID(int=7)}</uuid><memory>131072</memory>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>{more}"
        f"<devices>{program}{devices}</devices></domain>"
    )


def ask(
    socket: Path | str, documents: Sequence[Document], *, start: bool = False, revive: Callable[[], None] | None = None
) -> list[Answer]:
    """What the daemon behind ``socket`` says of each; nothing of one that it dies of, where ``revive`` starts it anew."""
    uri = f"qemu+unix:///system?socket={socket}"
    found: list[Answer] = []
    while len(found) < len(documents):
        rows = json.dumps([(name, xml, start) for name, xml in documents[len(found) :]])
        done = subprocess.run(
            ["/usr/bin/python3", str(SCRIPT), uri], input=rows, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, done.stderr
        found += json.loads(done.stdout)
        if not found[-1]:
            assert revive is not None, f"the daemon died of {documents[len(found) - 1]}"
            revive()
    return found


def differences(
    documents: Sequence[Document],
    theirs: Path | str,
    ours: Path | str,
    *,
    start: bool = False,
    revive: Callable[[], None] | None = None,
) -> list[Difference]:
    """All that differs. ``theirs`` and ``ours`` are the daemons' sockets; ours tells where its state is. A document that
    libvirtd dies of differs in its "life" alone; ``revive`` starts libvirtd anew."""
    with ThreadPoolExecutor(2) as pool:
        wanted = pool.submit(ask, theirs, documents, start=start, revive=revive)
        got = pool.submit(ask, ours, documents, start=start)
        answers = zip(documents, wanted.result(), got.result(), strict=True)
    found: list[Difference] = []
    for (name, xml), want, have in answers:
        if want:
            found += compare(name, xml, want, {aspect: _placed(text, Path(ours)) for aspect, text in have.items()})
        else:
            found.append(Difference(name, "life", ["- the end of libvirtd"]))
    return found


def _placed(text: str, socket: Path) -> str:
    """What the daemon of this socket says, with libvirt's folders for its own."""
    root = socket.parents[1]
    text = text.replace(f"{root}/run/channel", "/var/lib/libvirt/qemu/channel")
    for folder, place in (("lib", "/var/lib"), ("run", "/run"), ("log", "/var/log"), ("etc", "/etc")):
        text = text.replace(f"{root}/{folder}", f"{place}/libvirt")
    return text


def compare(name: str, xml: str, wanted: Mapping[str, str], got: Mapping[str, str]) -> list[Difference]:
    """What differs between two answers to one document."""
    found = []
    for aspect in dict.fromkeys([*wanted, *got]):
        if aspect != "define" and wanted.get("define") != got.get("define") and aspect != "native":
            continue  # said once
        left, right = wanted.get(aspect, "nothing"), got.get(aspect, "nothing")
        if left.startswith("error ") or right.startswith("error "):
            lines = [] if _same_refusal(left, right) else [f"- {_short(left)}", f"+ {_short(right)}"]
        elif aspect in ("native", "argv"):
            lines = _arguments_differ(_even(left, xml), _even(right, xml), cards=aspect == "argv")
        else:
            if aspect == "live":  # libvirt asks QEMU what became of the processor
                left, right = (
                    re.sub(r"  <cpu [^>]*/>\n|  <cpu .*?</cpu>\n", "", text, flags=re.S) for text in (left, right)
                )
            one, other = _even(left, xml).splitlines(), _even(right, xml).splitlines()
            diff = difflib.unified_diff(one, other, n=0, lineterm="")
            lines = [line for line in diff if line.strip() and not line.startswith(("---", "+++", "@@"))]
        if lines:
            found.append(Difference(name, aspect, lines))
    return found


def _short(text: str) -> str:
    return text if text.startswith("error ") else "no refusal"


def _same_refusal(theirs: str, ours: str) -> bool:
    """Ours may say more: where the value stands, and what to do."""
    ours = re.sub(r" \(at [^)\n]*\)", "", ours)
    return ours == theirs or ours.startswith((f"{theirs};", f"{theirs}\n"))


def _even(text: str, xml: str) -> str:
    """An answer without what was made up by chance."""
    for made in re.findall(
        r"<mac address='([^']*)'|(?:instance|interface)id='([^']*)'|<uuid>([^<]*)<|\"mac\": *\"([^\"]*)|-uuid (\S*)",
        text,
    ):
        chance = next(filter(None, made))
        if chance not in xml.lower():
            text = text.replace(chance, "CHANCE")
    text = re.sub(r"<domain type='(\w+)' id='\d+'", r"<domain type='\1'", text)
    return re.sub(r"/domain-\d+-", "/domain-1-", text)


def _arguments_differ(theirs: str, ours: str, *, cards: bool) -> list[str]:
    """``cards``: network cards count, too; in domxml-to-native libvirt makes them taps of nobody's."""

    def meaning(text: str) -> argv.Meaning:
        found: argv.Meaning = Counter()
        for (option, value), times in argv.meaning(argv.read(text)).items():
            if not cards and (option in ("-netdev", "-add-fd") or re.search(r'"netdev": |id=charnet', value)):
                continue
            value = re.sub(r"/[^\",=]*/qemu/(ram|nvram|channel/target)/(domain-)?(-?\d+-)?", r"/S/\1/", value)
            value = re.sub(r"/[^\",=]*/qemu/domain--?\d+-", "/S/domain-", value)
            value = re.sub(r"(?<=base=\d{4}-\d\d-\d\dT\d\d):\d\d:\d\d", "", value)
            if option == "-chardev":  # a socket that the daemon opened, or one that QEMU opens
                value = re.sub(r",(fd|path=[^,]*),server=on,wait=off", ",fd,server=on,wait=off", value)
            found[option, value.replace('"backing": null, ', "")] += times
        return found

    wanted, got = meaning(theirs), meaning(ours)
    less = [f"- {' '.join(option)}" for option in wanted - got]
    return [*less, *(f"+ {' '.join(option)}" for option in got - wanted)]


class Known(NamedTuple):
    """A row of what is known to differ: glob patterns of name and aspect, a pattern found in the lines, the reason."""

    name: str
    aspect: str
    lines: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        return (
            fnmatchcase(difference.name, self.name)
            and fnmatchcase(difference.aspect, self.aspect)
            and re.search(self.lines, "\n".join(difference.lines)) is not None
        )


def known(file: Path) -> list[Known]:
    """The rows of a JSON file: lists of name, aspect, lines, reason."""
    return [Known(*row) for row in json.loads(file.read_text())]


def unknown(found: Iterable[Difference], rows: Sequence[Known]) -> list[Difference]:
    """Those that no row covers."""
    return [each for each in found if not any(row.covers(each) for row in rows)]


def stale(found: Sequence[Difference], rows: Sequence[Known]) -> list[Known]:
    """Rows that cover nothing any more; of a whole run there should be none."""
    return [row for row in rows if not any(row.covers(each) for each in found)]


class Daemons:
    """Both daemons for a ``with``: ``theirs`` and ``ours`` are their sockets."""

    def __enter__(self) -> Daemons:
        self._folder = tempfile.TemporaryDirectory(prefix="xmldiff-")
        root = Path(self._folder.name)
        root.chmod(0o755)
        self._c: Libvirtd | None = None
        self.theirs = os.environ.get("XMLDIFF_SOCKET", "")
        if not self.theirs:
            self._c = Libvirtd(root / "libvirtd")
            self.theirs = str(self._c.socket)
        self._guesthoused = Guesthoused(root / "guesthoused")
        self.ours = str(self._guesthoused.socket)
        return self

    def revive(self) -> None:
        """Start libvirtd anew."""
        assert self._c is not None, "libvirtd is another's"
        self._c.restart()

    def __exit__(self, *args: object) -> None:
        if self._c is not None:
            self._c.close()
        self._guesthoused.close()
        self._folder.cleanup()


def show(documents: Sequence[Document], *, start: bool = False, rows: Sequence[Known] = ()) -> None:
    """Start both daemons and print what differs."""
    with Daemons() as daemons:
        found = differences(documents, daemons.theirs, daemons.ours, start=start, revive=daemons.revive)
    new = unknown(found, rows)
    for each in new:
        print(each)
    print(f"{len(documents)} documents, {len({each.name for each in found})} differ, {len(new)} differences unknown")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--start"]
    show([(file, Path(file).read_text()) for file in words], start="--start" in sys.argv)
