"""An image of Debian out of packages: what the host's own mirror has, put together by mmdebstrap, bootable anywhere.

The disk has a GUID partition table with a place for GRUB (BIOS), a small EFI system partition (UEFI), and last the root
file system, which grows with the disk at the first boot. Neither loop devices nor mounts are used, so that nothing stays
behind; where the caller is not root, mmdebstrap and the root file system are made in a user namespace.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import InvalidArg, OperationFailed

#: What is built: names of images and Debian's code names for them.
SUITES = {"debian-11": "bullseye", "debian-12": "bookworm", "debian-13": "trixie", "debian-14": "forky"}
_MIRROR = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# a system that is looked after over its network, its console and its agent
_PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "systemd-sysv", "dbus", "udev", "kmod", "e2fsprogs", "fdisk"),
    *("cloud-init", "cloud-guest-utils", "qemu-guest-agent", "openssh-server", "sudo", "ca-certificates", "curl"),
    *("systemd-timesyncd", "iproute2", "iputils-ping", "netbase", "procps", "tzdata", "less", "vim-tiny"),
)
_NEEDS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "mformat": "mtools",
    "sfdisk": "fdisk",
    "tar": "tar",
    "grub-mkimage": "grub-common",
    "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
    "/usr/lib/grub/x86_64-efi/moddep.lst": "grub-efi-amd64-bin",
    _KEYRING: "debian-archive-keyring",
}

_SECTOR = 512
_MIB = 2048  # sectors
_GRUB_START, _GRUB_SIZE = _MIB, _MIB
_ESP_START, _ESP_SIZE = 2 * _MIB, 64 * _MIB
_ROOT_START = 66 * _MIB
_MODULES = (
    *("part_gpt", "ext2", "search", "search_fs_uuid", "configfile", "normal", "linux", "boot", "echo", "test", "ls"),
    *("cat", "gzio", "minicmd", "reboot", "halt", "serial", "terminal", "sleep"),
)

_GRUB = """\
# both boot loaders, BIOS's and UEFI's, read this; the links lead to the newest kernel
set timeout=0
menuentry "Debian" {{
    linux /vmlinuz root=UUID={root} ro console=tty0 console=ttyS0,115200
    initrd /initrd.img
}}
"""
_CLOUD = """\
# a seed or nothing: other sources of data are not waited for
datasource_list: [NoCloud, ConfigDrive, None]
apt: {preserve_sources_list: true}
locale: C.UTF-8
ssh_genkeytypes: [ed25519, ecdsa]
"""
_CARDS = """\
# until cloud-init knows better
[Match]
Type=ether
[Network]
DHCP=yes
"""


@dataclass(frozen=True)
class Recipe:
    """What is built. ``size`` is the root file system's in bytes; ``packages`` come in besides."""

    codename: str
    packages: tuple[str, ...] = ()
    mirror: str | None = None
    size: int = 2 << 30


def missing() -> list[str]:
    """Debian's packages that this host lacks for building."""
    return [
        package
        for what, package in _NEEDS.items()
        if not (Path(what).exists() if what.startswith("/") else shutil.which(what))
    ]


def sources(codename: str, mirror: str | None = None) -> list[str]:
    """Lines for apt: this host's mirrors for ``codename`` (or those of another of Debian's releases, which have it,
    too), or ``mirror``; Debian's own where this host has none."""
    main, security = mirror, None if mirror else _SECURITY
    if mirror is None:
        for line in _apt_targets():
            url, _, suite = line.partition(" ")
            if suite.endswith("-security"):
                security = url.rstrip("/")
            elif "-" not in suite:
                main = url.rstrip("/")
    signed = f"[signed-by={_KEYRING}]"
    lines = [f"deb {signed} {main or _MIRROR} {codename} main"]
    if security:
        lines.append(f"deb {signed} {main or _MIRROR} {codename}-updates main")
        lines.append(f"deb {signed} {security} {codename}-security main")
    return lines


def _apt_targets() -> list[str]:
    try:
        words = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
        done = subprocess.run([*words, "Origin: Debian", "Component: main"], capture_output=True, text=True)
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def build(recipe: Recipe, folder: Path, said: Callable[[str], None] = lambda text: None) -> Path:
    """Build into ``folder``; returns the image, a sparse raw disk. ``said`` is told of each step.

    Raises InvalidArg for what this host cannot build, OperationFailed with the tool's own words. What was made until
    then is in ``folder``, which the caller removes, and nowhere else.
    """
    if os.uname().machine != "x86_64":
        raise InvalidArg("images are built on x86_64 hosts only")
    if lacks := missing():
        raise InvalidArg(f"to build an image this host needs: sudo apt install {' '.join(lacks)}")
    root_id = str(uuid.uuid4())
    _packages(recipe, folder / "root.tar", said)
    said("making the root file system")
    _root(recipe, folder, root_id)
    said("making it bootable")
    disk = folder / "disk.raw"
    _disk(disk, folder / "root.ext4", recipe.size, root_id, folder)
    for name in ("root.tar", "root.ext4"):
        (folder / name).unlink()
    return disk


def _packages(recipe: Recipe, target: Path, said: Callable[[str], None]) -> None:
    chosen = [*_PACKAGES, *recipe.packages]
    if recipe.codename != "bullseye":
        chosen.append("systemd-resolved")
    argv = [
        *("mmdebstrap", "--variant=apt", "--format=tar", f"--include={','.join(chosen)}"),
        # no logical volumes are looked after here, and the search for them takes long at each boot
        '--customize-hook=chroot "$1" systemctl -q disable e2scrub_reap.service e2scrub_all.timer',
        '--customize-hook=chroot "$1" systemctl -q enable systemd-networkd',
        *(recipe.codename, str(target), *sources(recipe.codename, recipe.mirror)),
    ]
    last: list[str] = []
    # a process group of its own, so that all of it can be ended: the first of them waits for the others
    with subprocess.Popen(
        argv,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        process_group=0,
    ) as run:
        assert run.stderr is not None
        try:
            for line in run.stderr:
                line = line.rstrip().rpartition("\r")[2]
                if line.startswith("I: "):
                    said(line[3:].rstrip("."))
                elif line:
                    last = [*last[-5:], line]
        except BaseException:
            # it takes down what it mounted
            os.killpg(run.pid, signal.SIGTERM)
            run.wait()
            raise
    if run.returncode:
        wrong = last or ["mmdebstrap failed"]
        raise OperationFailed(f"the packages of {recipe.codename} could not be put together: {'; '.join(wrong[-4:])}")


def _root(recipe: Recipe, folder: Path, root_id: str) -> None:
    """The file system, with what makes one system differ from another taken out."""
    cloud = "etc/cloud/cloud.cfg.d/95-image.cfg"
    files = {
        "etc/fstab": f"UUID={root_id} / ext4 errors=remount-ro 0 1\n",
        "etc/hostname": "localhost\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/machine-id": "",
        "boot/grub/grub.cfg": _GRUB.format(root=root_id),
        "etc/systemd/network/90-cards.network": _CARDS,
        cloud: _CLOUD,
    }
    lines = [
        "set -e; umask 022; cd \"$1\"; mkdir root; tar -xpf root.tar -C root --numeric-owner --exclude='./dev/*'; cd root",
        "rm -f etc/ssh/ssh_host_* var/lib/dbus/machine-id var/lib/systemd/random-seed etc/resolv.conf",
        "ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf",
        "mkdir -p boot/grub",
        *(f"printf %s {shlex.quote(content)} >{name}" for name, content in files.items()),
        "cd ..; rm -f root.ext4",
        # GRUB 2.06 reads neither of the two features
        f"mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file -L root -U {root_id} -d root root.ext4 {recipe.size >> 10}k",
        "rm -rf root",
    ]
    inside = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--map-auto"]
    _run([*inside, "sh", "-c", "\n".join(lines), "sh", str(folder)], "the root file system cannot be made")


def _run(argv: Sequence[str | Path], what: str, text: str | None = None) -> None:
    done = subprocess.run(argv, input=text or "", capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"{argv[0]} ended with {done.returncode}"]
        raise OperationFailed(f"{what}: {'; '.join(said[-2:])}")


def _disk(disk: Path, root: Path, size: int, root_id: str, folder: Path) -> None:
    core, efi = _loaders(root_id, folder)
    root_sectors = size // _SECTOR
    with disk.open("wb") as out:
        out.truncate((_ROOT_START + root_sectors + _MIB) * _SECTOR)
    table = (
        "label: gpt\n"
        f"{disk}1 : start={_ROOT_START}, size={root_sectors}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root\n"
        f"{disk}14 : start={_GRUB_START}, size={_GRUB_SIZE}, type=21686148-6449-6E6F-744E-656564454649, name=grub\n"
        f"{disk}15 : start={_ESP_START}, size={_ESP_SIZE}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=efi\n"
    )
    _run(["sfdisk", "--quiet", disk], "the partition table cannot be made", table)
    esp = folder / "esp.img"
    with esp.open("wb") as out:
        out.truncate(_ESP_SIZE * _SECTOR)
    _run(["mformat", "-i", esp, "-F", "-v", "EFI", "::"], "the EFI partition cannot be made")
    _run(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"], "the EFI partition cannot be made")
    _run(["mcopy", "-i", esp, efi, "::/EFI/BOOT/BOOTX64.EFI"], "the EFI partition cannot be filled")
    with disk.open("r+b") as out:
        out.write(boot_sector(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()))
        out.seek(_GRUB_START * _SECTOR)
        out.write(core_image(core.read_bytes()))
        for file, start in ((esp, _ESP_START), (root, _ROOT_START)):
            copy_sparse(file, out.fileno(), start * _SECTOR)
    for file in (esp, core, efi):
        file.unlink()


def _loaders(root_id: str, folder: Path) -> tuple[Path, Path]:
    """GRUB for BIOS and for UEFI, each whole in one file, which look for the root file system by themselves."""
    early = folder / "early.cfg"
    early.write_text(f"search.fs_uuid {root_id} root\nset prefix=($root)/boot/grub\nnormal\n")
    made = []
    for form, more in (("i386-pc", ("biosdisk",)), ("x86_64-efi", ("all_video", "efi_gop"))):
        made.append(folder / f"{form}.img")
        words: list[str | Path] = ["grub-mkimage", "-O", form, "-o", made[-1], "-p", "/boot/grub", "-c", early]
        _run([*words, *_MODULES, *more], "the boot loader cannot be made")
    early.unlink()
    return made[0], made[1]


# Where GRUB's two first pieces have what its installer fills in: grub-core/boot/i386/pc/boot.S and diskboot.S.
_KERNEL_SECTOR, _DRIVE_CHECK, _CODE = 0x5C, 0x66, 440
_BLOCKS = 0x1F4


def boot_sector(boot: bytes) -> bytes:
    """The first 440 bytes of the disk, which load the sector at the beginning of GRUB's partition."""
    code = bytearray(boot[:_CODE])
    code[_KERNEL_SECTOR : _KERNEL_SECTOR + 8] = _GRUB_START.to_bytes(8, "little")
    # on a disk the BIOS need not say rightly which drive it is: the jump over that becomes nothing
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    return bytes(code)


def core_image(core: bytes) -> bytes:
    """GRUB's image, whose first sector knows where the others are. Raises OperationFailed where it has no room."""
    if len(core) > _GRUB_SIZE * _SECTOR:
        raise OperationFailed(f"the boot loader is too large: {len(core)} bytes")
    image = bytearray(core)
    sectors = (len(core) + _SECTOR - 1) // _SECTOR - 1
    image[_BLOCKS : _BLOCKS + 8] = (_GRUB_START + 1).to_bytes(8, "little")
    image[_BLOCKS + 8 : _BLOCKS + 10] = sectors.to_bytes(2, "little")
    return bytes(image)


def copy_sparse(source: Path, target: int, at: int) -> None:
    """Write what ``source`` has into the file ``target`` from byte ``at`` on; its holes are left out."""
    with source.open("rb") as file:
        end, position = source.stat().st_size, 0
        while position < end:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return  # a hole to the end
            stop = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            while position < stop:
                piece = os.pread(file.fileno(), min(1 << 20, stop - position), position)
                os.pwrite(target, piece, at + position)
                position += len(piece)


def version(name: str) -> str:
    """Debian's code name for ``name`` ("debian-12", "bookworm"). Raises InvalidArg for others."""
    plain = re.sub(r"^debian-?(?=\d)", "debian-", name.lower())
    found = SUITES.get(plain) or (plain if plain in SUITES.values() else None)
    if found is None:
        raise InvalidArg(f"'{name}' cannot be built here: there are {', '.join(SUITES)}")
    return found
