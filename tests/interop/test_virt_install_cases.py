"""virt-manager's own command lines and the documents that they must give, each in the context that it assumes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.documents import differences, documents
from support.guesthoused import BIN
from support.reference import REFERENCE

FOLDER = REFERENCE / "virtinstall"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no reference data beside the checkout")

# what is not as in the reference, and why; the rest must be
KNOWN = {
    "kvm-fedoralatest-url": "a tree in a local folder is booted from there, without a copy of its kernel",
    "location-iso": "a CD named by a relative path stays in the drive there; here every installation CD is taken out",
    "location-manual-kernel": "the same",
    "location-iso-and-cloud-init": "the same",
    "reinstall-pxe": "test:/// shows an existing guest as its file has it, libvirt's test driver completes it",
}
# the bridge that the reference's host has for its default route: a fact of that host, in no file of the context
_BRIDGE = (
    ("-  <interface type=bridge>", "+  <interface type=network>"),
    ("-   <source bridge=testsuitebr0>", "+   <source network=default>"),
)


def cases() -> list[dict[str, Any]]:
    if not FOLDER.is_dir():
        return []
    return [json.loads(line) for line in (FOLDER / "cases.jsonl").read_text().splitlines()]


def uri(flavour: dict[str, Any]) -> str:
    """The host that ``flavour`` describes, as a URI."""
    parameters = {
        "capabilities": flavour["capabilities"] and str(FOLDER / flavour["capabilities"]),
        "domcapabilities": flavour["domain_capabilities"] and str(FOLDER / flavour["domain_capabilities"]),
        "as": None if flavour["uri"].startswith("test:") else flavour["uri"],
    }
    query = "&".join(f"{key}={quote(value, safe='/:')}" for key, value in parameters.items() if value)
    return f"test://{FOLDER / flavour['host_state']}?{query}"


def _with_files(text: str, folder: Path) -> str:
    """``text`` with paths that exist: some cases name files that are not in the reference."""

    def made(match: re.Match[str]) -> str:
        if (FOLDER / match[0]).exists():
            return match[0]
        file = folder / Path(match[0]).name
        file.write_text("#cloud-config\n")
        return str(file)

    return re.sub(r"tests/data/cli/[\w./-]+", made, text)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["id"])
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    flavours = json.loads((FOLDER / "flavours.json").read_text())
    args = [_with_files(text, tmp_path) for text in case["args"]]
    argv = [str(BIN / "virt-install"), "--connect", uri(flavours[case["flavour"]]), *args]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=FOLDER, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr
    if case["id"] in KNOWN:
        expected = (FOLDER / case["expected_xml"]).read_text()
        assert done.returncode or differences(expected, done.stdout), "no longer a difference: take it off the list"
        return
    assert done.returncode == 0, done.stderr
    if not case["expected_xml"]:
        assert not documents(done.stdout)
        return
    shown = done.stdout.replace(f"{FOLDER}/", "TESTSUITE_SCRUBBED/")
    shown = re.sub(r"/var/tmp/virtinst-[^<\"']*?-([a-z0-9.]+)([<\"'])", r"/VIRTINST-TESTSUITE/\1\2", shown)
    found = differences((FOLDER / case["expected_xml"]).read_text(), shown)
    for pair in _BRIDGE:
        while all(line in found for line in pair):
            for line in pair:
                found.remove(line)
    assert not found, "\n".join(found)
