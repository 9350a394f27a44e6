"""guest image: what guests can start from; fetched, verified and kept once."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from guesthouse import client
from guesthouse.cli.guest.progress import Bar, Steps
from guesthouse.cli.guest.tables import size, table
from guesthouse.client.uri import default_uri
from guesthouse.errors import InvalidArg, OperationFailed
from guesthouse.provision.images import store
from guesthouse.provision.images.store import Image, Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")
_INSIDE = (".qcow2", ".img", ".raw", ".vmdk", ".vhdx", ".vhd", ".vdi")


def declare(parser: argparse.ArgumentParser) -> None:
    """The commands below "guest image"."""
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="the images of the host, and what lies over them")
    search = commands.add_parser("search", help="the images of the catalogue")
    search.add_argument("words", nargs="*", metavar="WORD", help="words that its name must have")
    pull = commands.add_parser("pull", help="fetch an image of the catalogue, verify it, and keep it")
    pull.add_argument("name", metavar="IMAGE", help="its name, such as debian-12")
    importing = commands.add_parser(
        "import", help="keep an image of one's own: qcow2, raw, VMDK, VHDX, OVA, wheel; file or URL"
    )
    importing.add_argument("source", metavar="FILE|URL")
    importing.add_argument("--name", metavar="IMAGE", help="how it is called (default: as the file)")
    importing.add_argument("--osinfo", default="", metavar="NAME", help="the system in it (virt-install --osinfo list)")
    importing.add_argument("--login", default="", metavar="USER", help="the image's own user, if cloud-init makes one")
    building = commands.add_parser(
        "build", help="make an image of Debian out of packages of this host's mirror (mmdebstrap)"
    )
    building.add_argument("name", metavar="IMAGE", help="debian-12, or another release that the mirror has")
    building.add_argument("--as", dest="keep_as", metavar="IMAGE", help="how it is called (default: so)")
    building.add_argument("--package", action="append", default=[], metavar="NAME", help="have it in the image, too")
    building.add_argument("--mirror", metavar="URL", help="where packages are from (default: as apt of this host)")
    building.add_argument("--size", type=float, default=2, metavar="GIB", help="of its file system, which grows (2)")
    for each in (pull, importing):
        each.add_argument("--arch", default=platform.machine(), help="architecture (default: this host's)")
    removing = commands.add_parser("rm", help="remove images")
    removing.add_argument("names", nargs="+", metavar="IMAGE")
    removing.add_argument("--force", action="store_true", help="although disks lie over it, which are lost then")
    prune = commands.add_parser(
        "prune", help="remove the images that no disk lies over, and what was fetched by halves"
    )
    for each in (listing, pull, importing, building, removing, prune):
        each.add_argument("-c", "--connect", metavar="URI", help="the daemon (default: as virsh)")
    for each in (listing, search):
        each.add_argument("--json", action="store_true", help="as one JSON document")


def run(options: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    if options.action == "search":
        return _search(" ".join(options.words), as_json=options.json)
    with client.connect(options.connect or default_uri()) as conn:
        images = Store(conn)
        if options.action == "list":
            return _list(images, as_json=options.json)
        if options.action == "pull":
            pull(images, options.name, options.arch)
        elif options.action == "import":
            _import(images, options)
        elif options.action == "build":
            _build(images, options)
        elif options.action == "rm":
            for name in options.names:
                image = images.find(name)
                if image is None:
                    raise InvalidArg(f"there is no image '{name}' on this host (guest image list)")
                images.remove(image, force=options.force)
                print(f"removed {name}")
        else:
            _prune(images)
    return 0


def _search(words: str, *, as_json: bool) -> int:
    from guesthouse.provision.images import catalogue

    found = catalogue.search(words)
    if as_json:
        print(json.dumps([{"name": e.name, "title": e.title, "arches": list(e.files)} for e in found], indent=2))
    elif not found:
        print(f"No image of the catalogue has: {words}")
    else:
        table([("Name", "System", "Architectures"), *((e.name, e.title, ", ".join(e.files)) for e in found)])
    return 0 if found else 1


def _list(images: Store, *, as_json: bool) -> int:
    found = images.images()
    users = {image.path: images.users(image) for image in found}
    if as_json:
        rows = [image.__dict__ | {"used_by": users[image.path]} for image in found]
        print(json.dumps(rows, indent=2))
    elif not found:
        print("No images yet. Fetch one: guest image pull debian-12 (all: guest image search)")
    else:
        lines: list[tuple[str, ...]] = [("Name", "Arch", "Size", "On disk", "Since", "Used by")]
        for i in found:
            day = time.strftime("%Y-%m-%d", time.localtime(i.created)) if i.created else "-"
            used = ", ".join(users[i.path]) or "-"
            lines.append((i.name, i.arch, size(i.capacity), size(i.allocation), day, used))
        table(lines)
    return 0


def cache() -> Path:
    """Where images are fetched to before they are kept."""
    if os.geteuid() == 0:
        return Path("/var/cache/guesthouse/images")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guesthouse/images"


def pull(images: Store, name: str, arch: str) -> Image:
    """Have the catalogue's image ``name`` in the store; one that is there already is taken."""
    from guesthouse.provision.images import catalogue, download

    entry = catalogue.find(name)
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(arch, arch)
    there = images.find(entry.name, arch)
    if there is not None:
        print(f"{entry.name} is there already")
        return there
    source = entry.source(arch)
    target = cache() / f"{entry.name}.{arch}" / source.file_name
    _fetch(source.url, target)
    if not source.sums:
        raise InvalidArg(f"the catalogue has no checksums for '{entry.name}': use guest image import {source.url}")
    proof = download.verify(source, target)
    signed = "and the signature are" if proof.signed else "is"
    print(f"the checksum {signed} right" + (f"; no signature was checked: {proof.why_not}" if proof.why_not else ""))
    image = Image(entry.name, arch, "", login=entry.login, osinfo=list(entry.osinfo), source=source.url)
    image.checksum, image.signed = proof.checksum, proof.signed
    return _keep(images, image, target)


def _fetch(url: str, target: Path) -> None:
    from guesthouse.provision.images import download

    if target.exists():
        return
    print(f"fetching {url}", flush=True)
    bar = Bar(target.name)
    try:
        download.fetch(url, target, bar)
    finally:
        bar.end()


def _keep(images: Store, image: Image, file: Path) -> Image:
    from guesthouse.provision.images import download

    file = download.unpack(file)
    bar = Bar(f"keeping {image.name}")
    try:
        kept = images.add(image, file, bar)
    finally:
        bar.end()
    shutil.rmtree(file.parent, ignore_errors=True)
    print(f"{kept.name}: {size(kept.capacity)}, {size(kept.allocation)} on disk")
    return kept


def _import(images: Store, options: argparse.Namespace) -> None:
    source = str(options.source)
    plain = source.rstrip("/").rpartition("/")[2].partition("?")[0]
    name = options.name or re.sub(r"(\.(qcow2|img|raw|vmdk|vhdx|vhd|vdi|ova|whl|xz|gz|bz2))+$", "", plain).lower()
    if not _NAME.fullmatch(name):
        raise InvalidArg(
            f"'{name}' cannot be the name of an image: give one by --name (small letters, digits, . _ + -)"
        )
    if images.find(name, options.arch) is not None:
        raise OperationFailed(f"there is an image '{name}' for {options.arch} already (guest image rm {name})")
    work = cache() / f"{name}.{options.arch}"
    if "://" in source:
        _fetch(source, work / plain)
        file = work / plain
    else:
        file = Path(source)
        if not file.is_file():
            raise InvalidArg(f"there is no file '{source}'")
    with tempfile.TemporaryDirectory(prefix="import-", dir=_made(cache())) as folder:
        ready = _converted(file, Path(folder))
        image = Image(name, options.arch, "", login=options.login, osinfo=[options.osinfo] if options.osinfo else [])
        image.source = source
        bar = Bar(f"keeping {name}")
        try:
            kept = images.add(image, ready, bar)
        finally:
            bar.end()
    shutil.rmtree(work, ignore_errors=True)
    print(f"{kept.name}: {size(kept.capacity)}, {size(kept.allocation)} on disk")


def _build(images: Store, options: argparse.Namespace) -> None:
    from guesthouse.provision.images import build

    codename = build.version(options.name)
    title = next(name for name, word in build.SUITES.items() if word == codename)
    name = options.keep_as or title
    if not _NAME.fullmatch(name):
        raise InvalidArg(f"'{name}' cannot be the name of an image: small letters, digits, . _ + -")
    if images.find(name, "x86_64") is not None:
        raise OperationFailed(f"there is an image '{name}' for x86_64 already (guest image rm {name})")
    if not shutil.which("qemu-img"):
        raise OperationFailed("qemu-img is missing: sudo apt install qemu-utils")
    recipe = build.Recipe(codename, tuple(options.package), options.mirror, int(options.size * (1 << 30)))
    steps = Steps(f"building {name}")
    with tempfile.TemporaryDirectory(prefix="build-", dir=_made(cache())) as made:
        folder = Path(made)
        try:
            raw = build.build(recipe, folder, steps)
            steps("packing it")
            file = folder / "disk.qcow2"
            done = subprocess.run(
                ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, file], capture_output=True, text=True
            )
        finally:
            steps.end()
        if done.returncode:
            raise OperationFailed(f"the image cannot be packed: {done.stderr.strip()}")
        raw.unlink()
        image = Image(name, "x86_64", "", login="debian", osinfo=[title.replace("-", ""), "debian11"])
        image.source = f"built of packages of {codename}"
        bar = Bar(f"keeping {name}")
        try:
            kept = images.add(image, file, bar)
        finally:
            bar.end()
    print(f"{kept.name}: {size(kept.capacity)}, {size(kept.allocation)} on disk")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _converted(file: Path, folder: Path) -> Path:
    """``file`` as qcow2 or raw: unpacked, taken out of what it is in, and converted, in ``folder``."""
    import tarfile
    import zipfile

    from guesthouse.provision.images import download

    if file.suffix in (".xz", ".gz", ".bz2"):
        (folder / file.name).symlink_to(file.absolute())
        return _converted(download.unpack(folder / file.name), folder)
    if tarfile.is_tarfile(file) if file.suffix == ".ova" else False:
        with tarfile.open(file) as tar:
            disks = [m for m in tar.getmembers() if m.isreg() and m.name.lower().endswith(_INSIDE)]
            inner = _one(file, [m.name for m in disks])
            data = tar.extractfile(inner)
            assert data is not None
            with data, (folder / Path(inner).name).open("wb") as out:
                shutil.copyfileobj(data, out)
        return _converted(folder / Path(inner).name, folder)
    if file.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(file) as archive:
            inner = _one(file, [name for name in archive.namelist() if name.lower().endswith(_INSIDE)])
            with archive.open(inner) as data, (folder / Path(inner).name).open("wb") as out:
                shutil.copyfileobj(data, out)
        return _converted(folder / Path(inner).name, folder)
    with file.open("rb") as raw:
        head = raw.read(8)
    foreign = {b"KDMV": "vmdk", b"# Di": "vmdk", b"vhdx": "vhdx", b"cone": "vpc", b"<<< ": "vdi"}.get(head[:4])
    if foreign is None:
        store.shape(file)
        return file
    if not shutil.which("qemu-img"):
        raise OperationFailed("qemu-img is missing: sudo apt install qemu-utils")
    target = folder / f"{file.stem}.converted.qcow2"
    done = subprocess.run(
        ["qemu-img", "convert", "-f", foreign, "-O", "qcow2", file, target], capture_output=True, text=True
    )
    if done.returncode:
        raise InvalidArg(f"{file.name} cannot be converted: {done.stderr.strip()}")
    return target


def _one(file: Path, names: list[str]) -> str:
    if len(names) != 1:
        raise InvalidArg(f"{file.name} has {len(names)} disks{': ' if names else ''}{', '.join(names)}; one is wanted")
    return names[0]


def _prune(images: Store) -> None:
    freed = 0
    for image in images.images():
        if not images.users(image):
            images.remove(image)
            freed += image.allocation
            print(f"removed {image.name} ({image.arch})")
    if cache().is_dir():
        freed += sum(file.stat().st_size for file in cache().rglob("*") if file.is_file())
        shutil.rmtree(cache())
    print(f"{size(freed)} freed")
