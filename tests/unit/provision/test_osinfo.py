"""Operating systems in osinfo-db: names, ancestors, devices, resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse.provision import osinfo

pytestmark = pytest.mark.skipif(not Path("/usr/share/osinfo/os").is_dir(), reason="osinfo-db is not installed")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("debianwheezy", "debian7"),
        ("debian7", "debian7"),
        ("http://debian.org/debian/7", "debian7"),
        ("win10", "win10"),
        ("generic", "generic"),
    ],
)
def test_names(name: str, first: str) -> None:
    assert osinfo.find(name).name == first


def test_an_unknown_name_comes_with_its_neighbours() -> None:
    with pytest.raises(osinfo.Unknown, match=r"Unknown OS name 'debain11'.*debian11"):
        osinfo.find("debain11")
    with pytest.raises(osinfo.Unknown):
        osinfo.find("http://debian.org/debian/nosuch")


def test_devices_come_down_from_ancestors() -> None:
    debian7 = osinfo.find("debian7")
    # virtio-net is told of an ancestor only
    own = {"http://pcisig.com/pci/1af4/1000"}
    assert own <= debian7.devices
    assert debian7.supports("virtio-block") and debian7.supports("usb3")
    assert not debian7.supports_q35, "it has virtio, but not 1.0"
    debian11 = osinfo.find("debian11")
    assert debian11.supports_q35 and debian11.supports("virtio-gpu")
    assert not osinfo.find("win10").supports("virtio-net"), "drivers that must be installed first do not count"
    assert osinfo.find("generic").devices == frozenset()


def test_files_beside_add_to_a_system() -> None:
    assert osinfo.find("win10").is_windows
    assert osinfo.find("win10").clock == "localtime"
    assert osinfo.find("debian11").clock == "utc"


def test_resources() -> None:
    debian7 = osinfo.find("debian7")
    wanted = debian7.recommended("x86_64")
    assert (wanted.ram, wanted.storage) == (1024**3, 20 * 1024**3)
    assert wanted.cpus == 2, "twice the minimum, where nothing is recommended"
    assert debian7.minimum("x86_64").ram == 128 * 1024**2
    assert osinfo.find("generic").recommended("x86_64") == osinfo.Resources()


def test_firmware_and_descent() -> None:
    assert osinfo.find("win11").requires_efi("x86_64")
    assert not osinfo.find("debian11").requires_efi("x86_64")
    assert osinfo.find("debian11").descends_from("debian7")
    assert osinfo.find("centos7.0").descends_from("rhel6.0")
    assert not osinfo.find("win10").descends_from("debian7")


def test_a_database_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "os/example.org"
    (folder / "own-1.d").mkdir(parents=True)
    (folder / "own-1.xml").write_text(
        '<libosinfo><os id="http://example.org/own/1"><short-id>own1</short-id><name>Own 1</name>'
        '<derives-from id="http://example.org/own/1"/>'
        '<devices><device id="http://pcisig.com/pci/1af4/1001"/></devices></os></libosinfo>'
    )
    (folder / "own-1.d/more.xml").write_text(
        '<libosinfo><os id="http://example.org/own/1"><devices>'
        '<device id="http://pcisig.com/pci/1af4/1000"/>'
        '<device id="http://pcisig.com/pci/1af4/1001" supported="false"/></devices></os></libosinfo>'
    )
    monkeypatch.setenv("OSINFO_USER_DIR", str(tmp_path))
    osinfo.by_id.cache_clear()
    system = osinfo.find("http://example.org/own/1")
    assert system.label == "Own 1"
    assert system.supports("virtio-net")
    assert not system.supports("virtio-block")
    osinfo.by_id.cache_clear()


def test_the_list_has_every_short_id() -> None:
    listed = {name for line in osinfo.listing() for name in line.split(", ")}
    assert listed >= set(osinfo.short_ids())
    assert "generic" in listed


def test_the_first_that_is_known() -> None:
    assert "debian11" in osinfo.first(["debian99", "debian11", "linux2022"]).short_ids
    assert "linux2022" in osinfo.first(["linux2022", "debian11"]).short_ids
    with pytest.raises(osinfo.Unknown, match="'none8'"):
        osinfo.first(["none7", "none8"])
