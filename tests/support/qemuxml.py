"""libvirt's own cases of domain documents and QEMU command lines: how many come out the same here, and why others do not.

``python tests/support/qemuxml.py`` prints the score by family, ``... NAME`` what differs in one case, ``... --write`` puts
the list of those that differ into tests/data/qemu/different.json. A reason there that begins with "refused:" is our own
error; the others are written by hand, and ``--write`` keeps them.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from guesthouse.errors import GuesthouseError
from guesthouse.model.defaults import prepare
from guesthouse.model.devices.graphics import Listen
from guesthouse.model.domain import Domain
from guesthouse.qemu import command
from support import argv, domains
from support.reference import REFERENCE

CASES = REFERENCE / "xml/qemuxml"
DIFFERENT = domains.DATA / "qemu" / "different.json"
UNKNOWN = "not looked into yet"

Case = dict[str, Any]


@cache
def cases() -> list[Case]:
    """All of them; none where there is no reference data."""
    if not CASES.exists():
        return []
    found: list[Case] = json.loads((CASES / "cases.json").read_text())["cases"]
    return found


def with_arguments() -> list[Case]:
    """Those whose command line is for a QEMU of today."""
    return [case for case in cases() if case["caps"] == "x86_64-latest"]


def with_old_arguments() -> list[Case]:
    """Those whose command line is for a QEMU that had only what the case is about."""
    return [case for case in cases() if case["caps"] == "explicit"]


def with_documents() -> list[Case]:
    """Those with the document that libvirt makes, each once."""
    found = {c["name"]: c for c in cases() if c.get("out") or c.get("out_inactive")}
    return list(found.values())


def arguments_differ(case: Case) -> list[str]:
    """What our command line has (+) and has not (-); the refusal alone where there is none. Empty: they mean the same."""
    meaning = argv.old_meaning if case["caps"] == "explicit" else argv.meaning
    wanted = meaning(argv.read((CASES / case["args"]).read_text()))
    try:
        live = domains.live(domains.define((CASES / case["xml"]).read_text(), domains.REFERENCE_HOST))
        _configure(case["name"], live)
        got = meaning(command.build(live, domains.wiring(live)).argv)
    except GuesthouseError as error:
        return [f"refused: {error}"]
    less = [f"- {' '.join(option)}" for option in wanted - got]
    return [*less, *(f"+ {' '.join(option)}" for option in got - wanted)]


def _configure(name: str, live: Domain) -> None:
    """What libvirt's test has its configuration say, where its name tells."""
    if name.endswith("auto-socket-cfg"):
        for display in live.dev.graphics:
            folder = f"/var/lib/libvirt/qemu/domain--1-{live.name}"
            display.listens = [Listen(type="socket", socket=f"{folder}/{display.type}.sock")]
    if "tlsx509" in name:
        for device in (*live.dev.serials, *live.dev.channels):
            if device.type == "tcp" and device.source is not None:
                device.source.tls = device.source.tls or "yes"


def documents_differ(case: Case) -> list[str]:
    """Lines of a difference between libvirt's document and ours; the refusal alone where there is none."""
    wanted = (CASES / (case.get("out") or case["out_inactive"])).read_text()
    domain = Domain.from_xml((CASES / case["xml"]).read_text())
    try:
        prepare(domain, domains.REFERENCE_HOST)
    except GuesthouseError as error:
        return [f"refused: {error}"]
    out = as_the_test_knows_it(domain.to_xml(secrets=True), wanted)
    if domain.cells:  # a definition counts memory anew, libvirt's test does not
        for name in ("memory", "currentMemory"):
            line = re.compile(f"<{name} unit='KiB'>\\d+</{name}>")
            if (theirs := line.search(wanted)) is not None:
                out = line.sub(theirs[0], out, count=1)
    lines = difflib.unified_diff(wanted.splitlines(), out.splitlines(), "libvirt's", "ours", n=1, lineterm="")
    return list(lines)


def as_the_test_knows_it(out: str, wanted: str) -> str:
    """``out`` without what libvirt's test leaves out: it knows nothing of some emulators (no default CPU, no default
    USB controller), and gives no USB addresses to guests that are not new."""
    default = "mode='custom' match='exact' check='none'>\n    <model fallback='forbid'>qemu64</model>"
    if "<cpu" not in wanted:
        out = out.replace(f"  <cpu {default}\n  </cpu>\n", "")
    if "<cpu>" in wanted:
        out = out.replace(f"<cpu {default}", "<cpu>")
    if "<controller type='usb' index='0'>" in wanted:
        out = out.replace("<controller type='usb' index='0' model='piix3-uhci'>", "<controller type='usb' index='0'>")
    if "<address type='usb'" not in wanted:
        out = re.sub(r" *<address type='usb' .*\n", "", out)
        out = re.sub(r"(<(input|hub) [^/>]*)>\n *</\2>", r"\1/>", out)
    return out


def score() -> dict[str, dict[str, list[str]]]:
    """``arguments``, ``old arguments`` and ``documents``: case -> what differs (nothing where all is the same)."""
    return {
        "arguments": {case["name"]: arguments_differ(case) for case in with_arguments()},
        "old arguments": {case["name"]: arguments_differ(case) for case in with_old_arguments()},
        "documents": {case["name"]: documents_differ(case) for case in with_documents()},
    }


def known() -> dict[str, dict[str, str]]:
    """Those that are known to differ: kind -> case -> reason."""
    found: dict[str, dict[str, str]] = json.loads(DIFFERENT.read_text())
    return found


def write() -> None:
    """Bring the list up to date."""
    old = known() if DIFFERENT.exists() else {}
    new: dict[str, dict[str, str]] = {}
    for kind, found in score().items():
        new[kind] = {}
        for name, lines in sorted(found.items()):
            if not lines:
                continue
            reason = old.get(kind, {}).get(name, UNKNOWN)
            if lines[0].startswith("refused:"):
                reason = lines[0].splitlines()[0]
            elif reason.startswith("refused:"):
                reason = UNKNOWN
            new[kind][name] = reason
    DIFFERENT.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n")


def show() -> None:
    reasons = known()
    for kind, found in score().items():
        families = Counter(name.split("-")[0] for name in found)
        good = Counter(name.split("-")[0] for name, lines in found.items() if not lines)
        print(f"{kind}: {good.total()} of {families.total()} the same")
        for family in sorted(families):
            bad = [name for name, lines in found.items() if lines and name.split("-")[0] == family]
            print(f"  {family:20} {good[family]:3} of {families[family]:3}")
            for name in bad:
                print(f"      {name}: {reasons.get(kind, {}).get(name, UNKNOWN)}")


def main(words: list[str]) -> None:
    if words == ["--write"]:
        write()
    elif words:
        for name in words:
            for case in with_arguments():
                if case["name"] == name:
                    print("\n".join(["arguments:", *arguments_differ(case)]))
            for case in with_old_arguments():
                if case["name"] == name:
                    print("\n".join(["old arguments:", *arguments_differ(case)]))
            for case in with_documents():
                if case["name"] == name:
                    print("\n".join(["document:", *documents_differ(case)]))
    else:
        show()


if __name__ == "__main__":
    main(sys.argv[1:])
