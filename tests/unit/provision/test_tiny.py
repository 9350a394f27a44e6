"""The small guest's archive, read with the cpio program; its kernel, from a cache, from /boot, from a package."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from guesthouse.errors import SystemFailure
from guesthouse.provision import tiny


def module(depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A kernel with a handful of modules, one of them packed."""
    image = tmp_path / "linux-image-9.9-cloud-amd64/boot/vmlinuz-9.9-cloud-amd64"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"kernel")
    drivers = image.parent.parent / "lib/modules/9.9-cloud-amd64/kernel/drivers"
    (drivers / "virtio").mkdir(parents=True)
    (drivers / "virtio/virtio_ring.ko").write_bytes(module(""))
    (drivers / "virtio/virtio.ko").write_bytes(module("virtio_ring"))
    (drivers / "virtio/virtio_pci.ko.xz").write_bytes(lzma.compress(module("virtio,virtio_ring")))
    (drivers / "virtio-rng.ko").write_bytes(module("virtio"))
    (drivers / "other.ko").write_bytes(module(""))
    return image


@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "busybox"
    program.write_bytes(b"\x7fELF static")
    monkeypatch.setattr(tiny, "_BUSYBOX", (str(program),))
    return program


def unpacked(archive: Path, into: Path) -> Path:
    into.mkdir()
    subprocess.run(
        ["cpio", "--extract", "--quiet", "--no-preserve-owner"],
        input=gzip.decompress(archive.read_bytes()),
        cwd=into,
        check=True,
    )
    return into


def test_archive(tmp_path: Path, kernel: Path, busybox: Path) -> None:
    target = tmp_path / "initrd.img"
    tiny.initramfs(target, kernel)
    tree = unpacked(target, tmp_path / "tree")

    init = tree / "init"
    assert stat.S_IMODE(init.stat().st_mode) == 0o755
    assert f'echo "{tiny.READY}"' in init.read_text().splitlines()
    for script in (init, tree / "bin/lease"):
        subprocess.run(["sh", "-n", str(script)], check=True)
    assert (tree / "bin/busybox").read_bytes() == busybox.read_bytes()
    assert os.access(tree / "bin/busybox", os.X_OK)
    assert (tree / "bin/sh").readlink() == Path("busybox")
    assert all((tree / name).is_dir() for name in ("proc", "sys", "dev"))
    # dependencies first, packed ones unpacked, none that was not asked for
    order = (tree / "modules/order").read_text().split()
    assert order == ["virtio_ring.ko", "virtio.ko", "virtio_pci.ko", "virtio_rng.ko"]
    assert (tree / "modules/virtio_pci.ko").read_bytes() == module("virtio,virtio_ring")
    assert sorted(p.name for p in (tree / "modules").iterdir()) == sorted([*order, "order"])


def test_same_content_same_archive(tmp_path: Path, kernel: Path, busybox: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tiny.initramfs(one, kernel)
    tiny.initramfs(two, kernel)
    assert one.read_bytes() == two.read_bytes()
    assert stat.S_IMODE(one.stat().st_mode) == 0o644, "QEMU's user reads it"


def test_dynamic_busybox_is_refused_and_nothing_left(tmp_path: Path, kernel: Path, busybox: Path) -> None:
    busybox.write_bytes(b"\x7fELF" + b"\0" * 100 + b"/lib64/ld-linux-x86-64.so.2\0")
    target = tmp_path / "out/initrd.img"
    target.parent.mkdir()
    found = shutil.which("busybox")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(SystemFailure, match="install the package busybox-static"):
            tiny.initramfs(target, kernel)
    assert found and list(target.parent.iterdir()) == []


def test_kernel_without_modules(tmp_path: Path, busybox: Path) -> None:
    with pytest.raises(SystemFailure, match=r"modules of .* are missing"):
        tiny.initramfs(tmp_path / "initrd.img", tmp_path / "boot/vmlinuz-1")


# -- the kernel


def test_cached_kernel_is_used(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert tiny.kernel(kernel.parents[2]) == kernel


@pytest.fixture
def no_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose /boot has no cloud kernel."""
    monkeypatch.setattr(tiny, "_BOOT", Path("/nonexistent"))


def test_cached_kernel_without_modules_is_not(kernel: Path, no_boot: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(kernel.parent.parent / "lib")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemFailure, match="no apt-get"):
        tiny.kernel(kernel.parents[2])


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt, first in PATH, with a small real package to download; calls are logged to "calls"."""
    tree = tmp_path / "package"
    (tree / "boot").mkdir(parents=True)
    (tree / "boot/vmlinuz-9.9-cloud-amd64").write_text("kernel")
    (tree / "lib/modules/9.9-cloud-amd64/kernel").mkdir(parents=True)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: linux-image-9.9-cloud-amd64\nVersion: 1\nArchitecture: amd64\nMaintainer: n\nDescription: d\n"
    )
    package = tmp_path / "linux-image.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(package)], check=True, stdout=subprocess.DEVNULL)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, body in {
        "apt-cache": 'echo "$2"; echo "  Depends: linux-image-9.9-cloud-amd64"',
        "apt-get": f'case $1 in download) cp {package} . ;; esac; echo "$*" >>{tmp_path}/calls',
    }.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    return bin_folder


def test_kernel_is_fetched_once(tmp_path: Path, no_boot: None, tools: Path) -> None:
    cache = tmp_path / "cache"
    image = tiny.kernel(cache)
    assert image == cache / "linux-image-9.9-cloud-amd64/boot/vmlinuz-9.9-cloud-amd64"
    assert image.read_text() == "kernel"
    assert tiny.kernel(cache) == image
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1 and calls[0].startswith("download ")
    assert [p.name for p in cache.iterdir()] == ["linux-image-9.9-cloud-amd64"]
    assert os.access(cache / "linux-image-9.9-cloud-amd64", os.X_OK)


def test_package_lists_are_renewed_where_the_download_fails(tmp_path: Path, no_boot: None, tools: Path) -> None:
    apt = tools / "apt-get"
    good = apt.read_text()
    apt.write_text(
        good.replace(
            "case $1", f"[ $1 = update ] && touch {tmp_path}/fresh\n[ -e {tmp_path}/fresh ] || exit 100\ncase $1"
        )
    )
    if os.geteuid() == 0:
        tiny.kernel(tmp_path / "cache")
        assert [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()] == ["update", "download"]
    else:
        with pytest.raises(SystemFailure, match="apt-get update"):
            tiny.kernel(tmp_path / "cache")


def test_failure_says_what_to_do_and_leaves_nothing(tmp_path: Path, no_boot: None, tools: Path) -> None:
    (tools / "apt-get").write_text("#!/bin/sh\necho 'E: no route to the mirror' >&2\nexit 100\n")
    with pytest.raises(SystemFailure, match="no route to the mirror"):
        tiny.kernel(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
