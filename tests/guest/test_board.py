"""The board of a guest as QEMU has it: processors, nodes, memory modules, tables; and a UEFI that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from guesthouse import client, errors
from support import domains, namespaces
from support.guesthoused import Guesthoused
from support.qmp import Qmp

_PAUSED, _RESET_NVRAM = 1, 32
_NVRAM = 4
_UEFI_SAYS = b"BdsDxe"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("board")))
    yield guesthoused
    guesthoused.close()


def test_processors_nodes_and_modules_are_there(daemon: Guesthoused) -> None:
    with client.connect(daemon.uri) as conn:
        for name in ("board-q35", "board-pc"):
            conn.define_xml(domains.text(name)).create_with_flags(_PAUSED)
    rows = {str(row["name"]): row for row in daemon.runtime_rows().values()}
    daemon.kill()  # each monitor has one place
    with ExitStack() as closing:
        closing.callback(daemon.start)
        qmp = Qmp(Path(str(rows["board-q35"]["folder"])) / "monitor.sock")
        closing.callback(qmp.close)
        places = [cpu["props"] for cpu in qmp.ask("query-cpus-fast")]
        assert sorted((cpu["socket-id"], cpu["core-id"], cpu["node-id"]) for cpu in places) == [
            (0, 0, 0),
            (0, 1, 0),
            (1, 0, 1),
        ]
        assert len(qmp.ask("query-hotpluggable-cpus")) == 4
        modules = {device["data"]["id"]: device["data"] for device in qmp.ask("query-memory-devices")}
        assert (modules["dimm0"]["size"], modules["dimm0"]["node"], modules["dimm0"]["slot"]) == (128 << 20, 1, 0)
        assert (modules["virtiomem0"]["max-size"], modules["virtiomem0"]["requested-size"]) == (256 << 20, 64 << 20)
        objects = {each["id"]: each for each in qmp.ask("query-memdev")}
        assert objects["ram-node0"]["share"] and not objects["ram-node1"]["share"]
        threads = {thread["id"]: thread for thread in qmp.ask("query-iothreads")}
        assert threads.keys() == {"iothread4", "iothread1", "iothread2"}
        assert qmp.ask("qom-get", path="/objects/iothread4", property="thread-pool-max") == 8
        iommu = qmp.ask("qom-get", path="/machine/peripheral/iommu0", property="aw-bits")
        assert iommu == 48
        qmp = Qmp(Path(str(rows["board-pc"]["folder"])) / "monitor.sock")
        closing.callback(qmp.close)
        assert {each["id"]: each["policy"] for each in qmp.ask("query-memdev")} == {
            "ram-node0": "bind",
            "ram-node1": "preferred",
        }
        ram = daemon.root / "lib/qemu/ram"
        assert sorted(file.name for file in ram.glob("*/*")) == ["ram-node0", "ram-node1"]
        [pid] = [pid for pid in daemon.qemu_pids() if b"board-pc" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert b"WORD=a b" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    with client.connect(daemon.uri) as conn:
        for domain in conn.list_all_domains():
            domain.destroy()
            domain.undefine()
    assert not list(ram.glob("*"))


@pytest.mark.slow  # OVMF takes ten seconds without KVM
def test_uefi_runs_and_its_variables_stay(daemon: Guesthoused) -> None:
    with client.connect(daemon.uri) as conn:
        domain = conn.define_xml(domains.text("board-uefi"))
        variables = daemon.root / "lib/qemu/nvram/board-uefi_VARS.fd"
        assert not variables.exists()
        domain.create()
        live = domain.get_xml_desc()
        assert "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>" in live
        assert f"<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{variables}</nvram>" in live
        assert "<os firmware='efi'>" in domain.get_xml_desc(2)
        fresh = Path("/usr/share/OVMF/OVMF_VARS_4M.fd").read_bytes()
        stream = domain.open_console()
        said = b""
        deadline = time.monotonic() + 60
        while _UEFI_SAYS not in said and time.monotonic() < deadline:
            said += stream.recv(4096) or b""
        assert _UEFI_SAYS in said
        domain.destroy()
        used = variables.read_bytes()
        assert used != fresh
        domain.create_with_flags(_PAUSED)
        assert variables.read_bytes() == used
        domain.destroy()
        domain.create_with_flags(_PAUSED | _RESET_NVRAM)
        assert variables.read_bytes() == fresh
        domain.destroy()
        with pytest.raises(errors.OperationInvalid, match="cannot undefine domain with nvram"):
            domain.undefine()
        domain.undefine_flags(_NVRAM)
        assert not variables.exists()
