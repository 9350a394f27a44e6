"""libvirt's own domains on this host: each that can start here starts, and QEMU has the devices that it asks for.

Their disks, kernels and networks are made-up ones of libvirt's tests: files and networks that exist stand for them. What
needs other things that this host lacks is in the list, with what the daemon says.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from guesthouse import client
from guesthouse.client import Connect
from guesthouse.errors import GuesthouseError
from support import media_kernel, namespaces, qemuxml
from support.guesthoused import Guesthoused
from support.reference import needs_reference

_PAUSED = 1
_LONG = 200
_FORMATS = {"qcow2", "qed", "raw", "vmdk", "vdi", "vpc", "qcow"}
#: Case -> why it does not start here; ``--regenerate`` writes it anew.
KNOWN = qemuxml.domains.DATA / "qemu" / "not_started.json"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("reference")))
    yield guesthoused
    guesthoused.close()


class Host:
    """Files of this host for those that the documents name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}
        self._kernel, self._initrd = media_kernel.kernel_and_initrd()

    def disk(self, name: str, kind: str) -> str:
        key = f"{name}:{kind}"
        if key not in self._made:
            kind = kind if kind in _FORMATS else "raw"
            self._made[key] = self._folder / f"disk{len(self._made)}.{kind}"
            argv = ["qemu-img", "create", "-q", "-f", kind, self._made[key], "16M"]
            subprocess.run(argv, check=True, capture_output=True)
        return str(self._made[key])

    def adapt(self, text: str) -> str:
        """The document with what is here in the place of what is not."""
        root = etree.fromstring(text.encode())
        root.set("type", "qemu")
        for element in root.iter("emulator"):
            element.getparent().remove(element)
        kind = root.find("os/type")
        if kind is not None and kind.get("machine", "pc") not in ("pc", "q35"):
            machine = "q35" if "q35" in kind.get("machine", "") else "pc"
            kind.set("machine", machine if "isapc" not in kind.get("machine", "") else "isapc")
        for tag, path in (("kernel", self._kernel), ("initrd", self._initrd)):
            for element in root.findall(f"os/{tag}"):
                element.text = str(path)
        for disk in [*root.iter("disk"), *root.iter("backingStore")]:
            self._disk(disk)
        for nic in root.iter("interface"):
            source = nic.find("source")
            if nic.get("type") == "network" and source is not None:
                source.attrib.clear()
                source.set("network", "default")
            elif nic.get("type") == "bridge" and source is not None:
                source.set("bridge", "virbr0")
        for element in root.iter("source", "log"):
            for name in ("path", "file", "dev"):
                if element.get(name, "").startswith("/scratch/"):
                    element.set(name, str(self._folder / element.get(name, "").rpartition("/")[2]))
        for display in root.iter("graphics"):
            for name in ("port", "tlsPort", "websocket"):
                if display.get(name, "").isdigit():
                    del display.attrib[name]
                    display.set("autoport", "yes")
        return etree.tostring(root).decode()

    def _disk(self, disk: Any) -> None:
        source = disk.find("source")
        if source is None or disk.get("type") not in ("file", "block"):
            return
        attribute = "file" if disk.get("type") == "file" else "dev"
        driver = disk.find("driver") if disk.tag == "disk" else disk.find("format")
        form = driver.get("type", "raw") if driver is not None else "raw"
        if attribute in source.attrib:
            path = self.disk(source.attrib.pop(attribute), form)
            source.set("file", path)
            disk.set("type", "file")


def aliases(text: str) -> set[str]:
    """The aliases of devices that QEMU knows by their own."""
    root = etree.fromstring(text.encode())
    found = set()
    for tag in ("disk", "interface", "sound", "watchdog", "rng", "memballoon", "video", "hub", "smartcard", "redirdev"):
        for device in root.findall(f"devices/{tag}"):
            alias = device.find("alias")
            if alias is not None:
                found.add(alias.get("name"))
    return found


def starts(conn: Connect, text: str) -> str:
    """Define, start (paused) and end it: nothing, or why it does not start, or what QEMU lacks."""
    try:
        guest = conn.define_xml(text)
    except GuesthouseError as error:
        return f"defined: {error.message}"
    try:
        try:
            conn.call("domain_create_with_flags", dom=guest, flags=_PAUSED)
        except GuesthouseError as error:
            return f"started: {error.message}"
        listing = conn.call(
            "qemu_domain_monitor_command",
            dom=guest,
            cmd=json.dumps({"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}),
            flags=0,
        ).result
        there = {item["name"] for item in json.loads(listing)["return"]}
        anonymous = {name for name in aliases(guest.get_xml_desc()) if name not in there}
        # these are no devices of their own on some buses
        missing = {n for n in anonymous if not re.match(r"(video|disk.*|fdc|ua-.*disk|net)\d*", n)}
        guest.destroy()
        return f"QEMU has no {', '.join(sorted(missing))}" if missing else ""
    finally:
        guest.undefine_flags(1 | 2 | 4 | 16)


@needs_reference
@pytest.mark.slow
def test_they_start(
    daemon: Guesthoused, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    host = Host(namespaces.reachable(tmp_path_factory.mktemp("disks")))
    found: dict[str, str] = {}
    cases = {case["name"]: case for case in qemuxml.cases()}
    with client.connect(daemon.uri) as conn:
        for name, case in sorted(cases.items()):
            if why := starts(conn, host.adapt((qemuxml.CASES / case["xml"]).read_text())):
                why = re.sub(r"\d{4}-\d\d-\d\dT\S+ |/\S*/(disks|reference)\d[^/]*", "", why.splitlines()[0])
                found[name] = why if len(why) < _LONG else f"{why[:_LONG]}..."
    print(f"{len(cases) - len(found)} of {len(cases)} start")
    if request.config.getoption("--regenerate"):
        KNOWN.write_text(json.dumps(found, indent=1) + "\n")
    known = json.loads(KNOWN.read_text())
    assert not found.keys() - known.keys(), {name: why for name, why in found.items() if name not in known}
