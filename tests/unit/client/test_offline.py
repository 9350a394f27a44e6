"""A host out of a file: what it answers, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.errors import NoConnect, NoDomain, NoStorageVol, NoSupport

STATE = """<node>
  <domain type='test'><name>one</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid></domain>
  <network><name>lan</name></network>
  <pool type='dir'><name>images</name><capacity unit='GiB'>2</capacity><available>5</available>
    <target><path>/images/</path></target>
    <volume><name>a.img</name><target><format type='qcow2'/></target></volume></pool>
</node>"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.xml"
    path.write_text(STATE)
    return path


def test_what_is_there(state: Path) -> None:
    with client.connect(f"test://{state}") as conn:
        assert conn.get_type() == "TEST"
        assert [domain.name for domain in conn.list_all_domains()] == ["one"]
        assert conn.lookup_by_name("one").uuid == "6695eb01-f6a4-8304-79aa-97f2502e193f"
        assert conn.network_lookup_by_name("lan").is_active()
        pool = conn.storage_pool_lookup_by_name("images")
        assert (pool.get_info().capacity, pool.get_info().available) == (2 * 1024**3, 5)
        volume = conn.storage_vol_lookup_by_path("/images/a.img")
        assert (volume.pool, volume.name) == ("images", "a.img")
        assert "<path>/images/a.img</path>" in volume.get_xml_desc()
        with pytest.raises(NoDomain):
            conn.lookup_by_name("two")
        with pytest.raises(NoStorageVol):
            pool.vol_lookup_by_name("b.img")


def test_virsh_lists_it(state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from guesthouse.cli.virsh.main import main

    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", f"test://{state}")
    for line, words in (
        ("list --all", ["1", "one", "running"]),
        ("net-list", ["lan", "active", "no", "yes"]),
        ("pool-list", ["images", "active", "no"]),
        ("vol-list images", ["a.img", "/images/a.img"]),
    ):
        assert main([line]) == 0
        assert capsys.readouterr().out.splitlines()[2].split() == words
    assert main(["dominfo one"]) == 0
    assert main(["nodeinfo"]) == 0


def test_it_gives_itself_out_for_another(state: Path, tmp_path: Path) -> None:
    (tmp_path / "caps.xml").write_text("<capabilities/>")
    with client.connect(f"test://{state}?capabilities={tmp_path}/caps.xml&as=qemu:///system") as conn:
        assert conn.get_uri() == "qemu:///system"
        assert conn.get_type() == "QEMU"
        assert conn.get_capabilities() == "<capabilities/>"
        with pytest.raises(NoSupport):
            conn.get_domain_capabilities()


def test_it_starts_nothing(state: Path) -> None:
    with client.connect(f"test://{state}") as conn, pytest.raises(NoSupport):
        conn.create_xml("<domain type='test'/>")


def test_the_default_host() -> None:
    with client.connect("test:///default") as conn:
        assert conn.lookup_by_name("test").get_state()[0] == 1
        assert "<domain type='test'/>" in conn.get_capabilities()


@pytest.mark.parametrize("text", [None, "", "<node>", "no document"])
def test_no_such_host(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "state.xml").write_text(text)
    with pytest.raises(NoConnect):
        client.connect(f"test://{tmp_path}/state.xml")
