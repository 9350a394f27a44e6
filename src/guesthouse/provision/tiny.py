"""A small real guest, for the demonstration and for tests: Debian's cloud kernel and an initramfs of busybox.

It boots in about two seconds without KVM, has virtio and SATA disks, a NIC that asks for an address by DHCP, a shell on
the serial console, and ends when its ACPI power button is pressed.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from guesthouse.errors import SystemFailure

#: The line on ttyS0 that says that the guest is up; a shell follows.
READY = "guest ready"

# Loaded in this order, each after what it depends on; one that a kernel has built in, or has not, is passed over.
_MODULES = (
    *("virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_balloon", "virtio_console", "virtio-rng"),
    *("button", "evdev", "sd_mod", "sr_mod", "ata_piix", "ahci", "isofs"),
)
_BOOT = Path("/boot")
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static", "/usr/bin/busybox.static")

# "ip=off" on the kernel's command line leaves the NIC alone. The power button's device is opened before the guest says
# that it is ready, so that no press is lost.
_INIT = f"""#!/bin/sh
export PATH=/bin HOME=/root TERM=linux
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /tmp
mount -t devpts devpts /dev/pts
grep -q '^0: uart:1' /proc/tty/driver/serial && exec </dev/ttyS0 >/dev/ttyS0 2>&1
while read module; do insmod "/modules/$module" 2>/dev/null; done </modules/order
for device in /sys/class/input/event*; do
    [ "$(cat "$device/device/name" 2>/dev/null)" = "Power Button" ] || continue
    exec 3<"/dev/input/${{device##*/}}"
    (dd bs=24 count=1 <&3 >/dev/null 2>&1; echo "power button pressed, powering off"; sync; poweroff -f) &
    exec 3<&-
done
ip link set lo up
if [ -e /sys/class/net/eth0 ] && ! grep -qw ip=off /proc/cmdline; then
    ip link set eth0 up
    udhcpc -i eth0 -s /bin/lease -t 30 -T 1 -A 1 -f >/dev/null 2>&1 &
    for tenth in $(seq 40); do [ -e /tmp/lease ] && break; sleep 0.1; done
fi
dmesg -n 1 # the kernel shall not talk into what follows
echo "{READY}"
while :; do setsid cttyhack sh; done
"""
_LEASE = """#!/bin/sh
case $1 in
bound | renew)
    ip address replace "$ip/${mask:-24}" dev "$interface"
    [ -n "$router" ] && ip route replace default via "${router%% *}"
    for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
    [ -e /tmp/lease ] || echo "$interface has the address $ip" >/dev/console
    echo "$ip" >/tmp/lease ;;
esac
"""


def kernel(cache: Path) -> Path:
    """The kernel image of Debian's current cloud kernel, with its modules beside it (``../lib/modules``).

    Taken from ``cache`` or /boot where one is; else Debian's package is fetched and unpacked in ``cache``, nothing is
    installed. Raises SystemFailure, which says what to do; ``cache`` has no half-made kernel then.
    """
    for folder in [*sorted(cache.glob("linux-image-*/boot"), reverse=True), _BOOT]:
        with contextlib.suppress(OSError):
            for image in sorted(folder.glob("vmlinuz-*cloud*"), reverse=True):
                if os.access(image, os.R_OK) and _modules_of(image) is not None:
                    return image
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise _failure(
            "there is no kernel for the small guest, and no apt-get to fetch Debian's; put a cloud kernel"
            f" (vmlinuz-*cloud*, with its modules in /lib/modules) in /boot, or unpack one in {cache}/linux-image-NAME"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
        name = _fetch(Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        [package] = Path(scratch).glob("*.deb")
        _run("dpkg-deb", "--extract", str(package), str(unpacked))
        unpacked.chmod(0o755)
        images = sorted(unpacked.glob("boot/vmlinuz-*"))
        if not images:
            raise _failure(f"Debian's package {name} has no kernel in it; try again later")
        home = cache / name
        if not home.exists():  # another process may have been quicker
            with contextlib.suppress(FileExistsError):
                unpacked.rename(home)
        return home / "boot" / images[0].name


def initramfs(target: Path, kernel: Path) -> None:
    """Write the initramfs for ``kernel`` (from :func:`kernel`) to ``target``, whole or not at all.

    Raises SystemFailure where no static busybox is installed.
    """
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
        try:
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0, filename="") as packed:
                for piece in _archive(_content(kernel)):
                    packed.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


# -- the kernel's package


def _fetch(folder: Path) -> str:
    """Download the current cloud kernel's package to ``folder``; its name."""
    arch = _run("dpkg", "--print-architecture").strip()
    meta = f"linux-image-cloud-{arch}"
    problem: SystemFailure | None = None
    for update in (False, True):  # a machine may have no package lists yet, or old ones
        if update:
            if os.geteuid() != 0:
                break
            _run("apt-get", "update", "-qq")
        try:
            depends = _run("apt-cache", "depends", meta)
            if match := re.search(r"^ *Depends: (linux-image-\S+)", depends, re.MULTILINE):
                _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", match[1], cwd=folder)
                return match[1]
        except SystemFailure as error:
            problem = error
    raise _failure(
        f"Debian's kernel for the small guest cannot be fetched ({problem or f'apt knows no package {meta}'}); run"
        " 'apt-get update' as root and try again"
    )


def _run(*argv: str, cwd: Path | None = None) -> str:
    env = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, errors="replace")
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise _failure(f"{' '.join(argv[:2])} failed: {words[-1] if words else f'exit status {done.returncode}'}")
    return done.stdout


def _failure(text: str) -> SystemFailure:
    return SystemFailure(text, int1=errno.ENOENT)


# -- what is in the archive


def _content(kernel: Path) -> Iterator[tuple[str, int, bytes]]:
    """Path, mode and content (a link's target) of each entry, folders before what is in them."""
    for folder in ("bin", "dev", "etc", "modules", "proc", "root", "sys"):
        yield folder, 0o40755, b""
    yield "init", 0o100755, _INIT.encode()
    yield "bin/busybox", 0o100755, _busybox()
    yield "bin/sh", 0o120777, b"busybox"  # the others are linked by it, when the guest starts
    yield "bin/lease", 0o100755, _LEASE.encode()
    modules = list(_ordered_modules(kernel))
    for name, code in modules:
        yield f"modules/{name}.ko", 0o100644, code
    yield "modules/order", 0o100644, "".join(f"{name}.ko\n" for name, _ in modules).encode()


def _busybox() -> bytes:
    for candidate in (*_BUSYBOX, shutil.which("busybox") or ""):
        with contextlib.suppress(OSError):
            program = Path(candidate).read_bytes()
            if program.startswith(b"\x7fELF") and b"/ld-linux" not in program[:4096]:
                return program
    raise _failure("the small guest needs a static busybox; install the package busybox-static")


def _modules_of(kernel: Path) -> Path | None:
    release = kernel.name.removeprefix("vmlinuz-")
    for lib in ("lib", "usr/lib"):
        folder = kernel.parent.parent / lib / "modules" / release / "kernel"
        if folder.is_dir():
            return folder
    return None


def _ordered_modules(kernel: Path) -> Iterator[tuple[str, bytes]]:
    """Name and code of the modules to load, dependencies first.

    Dependencies are read from the modules themselves: a package that was not installed has no modules.dep.
    """
    folder = _modules_of(kernel)
    if folder is None:
        raise _failure(f"the modules of {kernel} are missing")
    files = {file.name.partition(".ko")[0].replace("-", "_"): file for file in folder.rglob("*.ko*")}
    done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, bytes]]:
        name = name.replace("-", "_")
        if name in done or name not in files:
            return
        done.add(name)
        code = _read_module(files[name])
        match = re.search(rb"\0depends=([^\0]*)\0", code)
        for needed in match[1].decode().split(",") if match and match[1] else ():
            yield from visit(needed)
        yield name, code

    for name in _MODULES:
        yield from visit(name)


def _read_module(file: Path) -> bytes:
    data = file.read_bytes()
    if file.suffix == ".xz":
        return lzma.decompress(data)
    if file.suffix == ".gz":
        return gzip.decompress(data)
    if file.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", str(file)], check=True, stdout=subprocess.PIPE).stdout
    return data


def _archive(entries: Iterable[tuple[str, int, bytes]]) -> Iterator[bytes]:
    """The entries as a cpio archive of the "newc" kind, owned by root, without times."""
    for number, (path, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        name = path.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device (two), the device it is (two), length of name, checksum
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
        yield head + b"\0" * (-len(head) % 4)
        yield data + b"\0" * (-len(data) % 4)
