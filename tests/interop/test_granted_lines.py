"""What virsh says, and asks, where a daemon grants what none here can: a server that says yes, to C virsh and to ours."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from guesthouse.errors import Domain, GuesthouseError, NoInterface, NoSupport
from guesthouse.wire import connection as wire
from support.lines import PROGRAMS

_ADDRESSES = (
    "<start mode='onboot'/><mtu size='1492'/><protocol family='ipv4'><ip address='10.0.0.1' prefix='8'/></protocol>"
)
_PORT = "<interface type='ethernet' name='eth{}'><mac address='52:54:00:00:00:0{}'/></interface>"
INTERFACES = {
    "eth0": f"<interface type='ethernet' name='eth0'>{_ADDRESSES}<mac address='52:54:00:00:00:00'/></interface>",
    "bond0": f"<interface type='bond' name='bond0'>{_ADDRESSES}<bond mode='802.3ad'>{_PORT.format(0, 0)}</bond></interface>",
    "vlan0": "<interface type='vlan' name='vlan0'><start mode='none'/><vlan tag='4'><interface name='eth0'/></vlan></interface>",
    "br0": f"<interface type='bridge' name='br0'>{_ADDRESSES}<bridge stp='off'>{_PORT.format(0, 0)}</bridge></interface>",
    "br1": f"<interface type='bridge' name='br1'><bridge>{_PORT.format(0, 0)}{_PORT.format(1, 1)}</bridge></interface>",
    "br2": "<interface type='bridge' name='br2'><bridge/></interface>",
}

LINES = """\
iface-define {work}/file.xml
iface-define {work}/file.xml --validate
iface-undefine eth0
iface-start eth0
iface-destroy 52:54:00:00:00:00
iface-begin
iface-commit
iface-rollback
-q iface-begin
iface-bridge eth0 br9
iface-bridge eth0 br9 --no-stp --delay 5
iface-bridge bond0 br9 --no-start
-q iface-bridge vlan0 br9
iface-bridge br0 br9
iface-bridge eth0 br1
iface-unbridge br0
iface-unbridge br0 --no-start
-q iface-unbridge br0
iface-unbridge br1
iface-unbridge br2
iface-unbridge eth0
nodedev-create {work}/file.xml
nodedev-create {work}/file.xml --validate
nodedev-define {work}/file.xml
nodedev-define {work}/file.xml --validate
nodedev-undefine mdev_1
nodedev-start mdev_1
nodedev-destroy mdev_1
nodedev-autostart mdev_1
nodedev-autostart mdev_1 --disable
nodedev-detach pci_1
nodedev-detach pci_1 --driver vfio
nodedev-reattach pci_1
nodedev-reset pci_1
nodedev-reset 20000000c9831b4b,0x10000000c9831b4b
-q nodedev-start mdev_1
-q nodedev-detach pci_1
""".splitlines()

# what C virsh does and ours does not, as (what it gave, what stands for it) in the text of an answer
_MENDED = {
    "iface-destroy 52:54:00:00:00:00": ("(1, 'Interface", "(0, 'Interface"),  # it did what it was asked
    **dict.fromkeys(
        ("iface-unbridge br0", "iface-unbridge br0 --no-start", "-q iface-unbridge br0"),
        ('<bridge stp="off"><interface name="eth0" type="ethernet"></interface></bridge>', ""),  # eth0 is none
    ),
}

_OPENING = ("auth_", "connect_")


class Server:
    """Lets one client in and answers it; ``asked`` are its calls that are about something."""

    def __init__(self, path: Path) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(20)
        self._door.close()

    def _serve(self) -> None:
        client, _ = self._door.accept()
        machine = wire.Connection()
        with client:
            while data := client.recv(65536):
                for event in machine.feed(data):
                    if isinstance(event, wire.KeepAlive) and event.ping:
                        client.sendall(wire.pong())
                    elif isinstance(event, wire.Call):
                        client.sendall(self._answer(event))

    def _answer(self, call: wire.Call) -> bytes:
        assert call.row is not None
        name, record = call.row.name, call.args()
        args = record.asdict() if record is not None else {}
        if not name.startswith(_OPENING):
            self.asked.append((name, {key: _even(value) for key, value in args.items()}))
        try:
            value = self._value(name, args)
        except GuesthouseError as error:
            return wire.reply_error(call, error)
        if value is None and call.row.ret is not None:
            return wire.reply_error(call, NoSupport())
        return wire.reply(call, value) if value is not None else wire.reply(call)

    @staticmethod
    def _value(name: str, args: dict[str, Any]) -> Any:
        match name:
            case "auth_list":
                return {"types": [0]}
            case "connect_supports_feature":
                return {"supported": 1}
            case "connect_get_uri":
                return {"uri": "qemu:///system"}
            case "interface_lookup_by_name":
                if args["name"] not in INTERFACES:
                    raise NoInterface(f"couldn't find interface named '{args['name']}'", domain=Domain.INTERFACE)
                return {"iface": {"name": args["name"], "mac": "52:54:00:00:00:00"}}
            case "interface_lookup_by_mac_string":
                return {"iface": {"name": "eth0", "mac": args["mac"]}}
            case "interface_get_xml_desc":
                return {"xml": INTERFACES[args["iface"].name]}
            case "interface_define_xml":
                made = etree.fromstring(args["xml"])
                return {"iface": {"name": made.get("name") or "nameless", "mac": ""}}
            case "node_device_lookup_by_name":
                return {"dev": {"name": args["name"]}}
            case "node_device_lookup_scsi_host_by_wwn" | "node_device_create_xml" | "node_device_define_xml":
                return {"dev": {"name": "new_device"}}
        return None


def _even(value: Any) -> Any:
    """A document by what it means, not by its blanks."""
    if isinstance(value, str) and value.startswith("<"):
        root = etree.fromstring(value, etree.XMLParser(remove_blank_text=True))
        return etree.tostring(root, method="c14n").decode()
    return str(value)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """By program: of each line the exit code, output and errors, and what was asked."""
    work = tmp_path_factory.mktemp("granted")
    (work / "file.xml").write_text("<interface type='ethernet' name='eth5'/>")
    path = work / "sock"
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, program in PROGRAMS.items():
        found[name] = []
        for line in LINES:
            path.unlink(missing_ok=True)
            server = Server(path)
            argv = [program, "-c", f"qemu+unix:///system?socket={path}", *line.replace("{work}", str(work)).split()]
            run = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
            server.close()
            found[name].append((run.returncode, run.stdout, run.stderr, server.asked))
    return found


def test_many_are_granted(told: dict[str, list[tuple[Any, ...]]]) -> None:
    assert sum(code == 0 for code, *_ in told["c"]) > 25


@pytest.mark.parametrize("index", range(len(LINES)), ids=LINES)
def test_line(told: dict[str, list[tuple[Any, ...]]], index: int) -> None:
    theirs, mended = _MENDED.get(LINES[index], ("", ""))
    want = str(told["c"][index])
    assert theirs in want, "not different any more"
    assert str(told["ours"][index]) == want.replace(theirs, mended)
