"""CD images and trees: who they say they are, and their kernels."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest

from guesthouse.provision import media

FILES = {"/INSTALL.AMD": None, "/INSTALL.AMD/VMLINUZ.;1": b"kernel", "/INSTALL.AMD/INITRD.GZ;1": b"initrd"}
NAMES = {
    "/INSTALL.AMD": "install.amd",
    "/INSTALL.AMD/VMLINUZ.;1": "vmlinuz",
    "/INSTALL.AMD/INITRD.GZ;1": "initrd.gz",
}


def iso(path: Path, label: str, *, rock_ridge: bool = True) -> Path:
    """A CD image with the label and Debian's kernel places."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=4, vol_ident=label, rock_ridge="1.09" if rock_ridge else None)
    for name, data in FILES.items():
        extra = {"rr_name": NAMES[name]} if rock_ridge else {}
        if data is None:
            image.add_directory(name, **extra)
        else:
            image.add_fp(BytesIO(data), len(data), name, **extra)
    image.write(str(path))
    image.close()
    return path


def test_the_descriptor(tmp_path: Path) -> None:
    path = iso(tmp_path / "x.iso", "Debian 11.5.0 amd64 n")
    found = media.read_descriptor(str(path))
    assert found is not None
    assert found.volume_id == "Debian 11.5.0 amd64 n"
    assert found.size == path.stat().st_size


@pytest.mark.parametrize("content", [b"", b"x" * 40000, b"\0" * 32768 + b"\xffCD001" + b"\0" * 2042])
def test_what_is_no_cd(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.iso"
    path.write_bytes(content)
    assert media.read_descriptor(str(path)) is None
    assert media.read_descriptor(str(tmp_path / "missing")) is None


@pytest.mark.skipif(not Path("/usr/share/osinfo/os").is_dir(), reason="osinfo-db is not installed")
def test_a_cd_says_what_it_installs(tmp_path: Path) -> None:
    found = media.identify(str(iso(tmp_path / "x.iso", "Debian 11.5.0 amd64 n")))
    assert found is not None and found.name == "debian11"
    assert media.identify(str(iso(tmp_path / "y.iso", "HOLIDAYS"))) is None


@pytest.mark.skipif(not Path("/usr/share/osinfo/os").is_dir(), reason="osinfo-db is not installed")
def test_a_tree_says_what_it_installs(tmp_path: Path) -> None:
    (tmp_path / ".treeinfo").write_text("[general]\nfamily = Fedora\nvariant = Server\nversion = 26\narch = x86_64\n")
    found = media.identify(str(tmp_path))
    assert found is not None and found.name == "fedora26"


@pytest.mark.parametrize("rock_ridge", [True, False])
def test_the_kernel_comes_out_of_the_image(tmp_path: Path, rock_ridge: bool) -> None:
    path = iso(tmp_path / "x.iso", "Debian 11.5.0 amd64 n", rock_ridge=rock_ridge)
    found = media.boot_files(str(path), "x86_64", None)
    try:
        assert Path(found.kernel).read_bytes() == b"kernel"
        assert found.initrd is not None and Path(found.initrd).read_bytes() == b"initrd"
        assert found.cdrom == str(path)
        assert found.temporary == [found.kernel, found.initrd]
        assert Path(found.kernel).stat().st_mode & 0o444 == 0o444
    finally:
        for name in found.temporary:
            os.unlink(name)  # noqa: PTH108


def test_named_places_and_missing_ones(tmp_path: Path) -> None:
    before = set(Path("/var/tmp").glob("virtinst-*"))
    path = iso(tmp_path / "x.iso", "WHATEVER")
    with pytest.raises(media.MediaError, match="kernel="):
        media.boot_files(str(path), "x86_64", None, "boot/nosuch", "boot/initrd")
    with pytest.raises(media.MediaError, match="neither a folder nor a CD image"):
        empty = tmp_path / "empty"
        empty.write_bytes(b"")
        media.boot_files(str(empty), "x86_64", None)
    assert set(Path("/var/tmp").glob("virtinst-*")) == before


def test_a_tree_of_files(tmp_path: Path) -> None:
    (tmp_path / "images/pxeboot").mkdir(parents=True)
    (tmp_path / "images/pxeboot/vmlinuz").write_bytes(b"k")
    (tmp_path / "images/pxeboot/initrd.img").write_bytes(b"i")
    found = media.boot_files(str(tmp_path), "x86_64", None)
    assert found.kernel == str(tmp_path / "images/pxeboot/vmlinuz")
    assert found.temporary == [] and found.cdrom is None
    (tmp_path / "images/pxeboot/vmlinuz").unlink()
    with pytest.raises(media.MediaError):
        media.boot_files(str(tmp_path), "x86_64", None)
