"""The components that Debian's network installer fetches (udebs), as a repository of their own with a key of its own.

Each comes from the first place that has it: the mirror of this host's apt; its Debian source package, built here; the
ordinary Debian package with the same files. Some mirrors keep no udebs and not every source: what even then is missing
is in tests/data/installer, written for these tests (``Repository.how`` says which came from where).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

NETBOOT = Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")
SUITE = "installer"
_OWN = Path(__file__).parents[1] / "data/installer"
_KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"
_LIBRARIES = ["lib/x86_64-linux-gnu/*.so.*", "usr/lib/x86_64-linux-gnu/*.so.*"]

# what an installation by preseeding to one disk with a BIOS needs; the rest follows from what these depend on
_ROOTS = [
    "apt-setup-udeb",
    "bootstrap-base",
    "clock-setup",
    "debootstrap-udeb",
    "finish-install",
    "grub-installer",
    "partman-auto",
    "partman-base",
    "partman-ext3",
    "pkgsel",
    "tzsetup-udeb",
    "user-setup-udeb",
    "ext4-modules",
]
# udeb: its source package and the releases that it may be of (what is written in shell fits both)
_SOURCES = {
    "apt-mirror-setup": "apt-setup",
    "apt-setup-udeb": "apt-setup",
    "clock-setup": "clock-setup",
    "debootstrap-udeb": "debootstrap",
    "di-utils-mapdevfs": "debian-installer-utils",
    "disk-detect": "hw-detect",
    "grub-installer": "grub-installer",
    "partman-target": "partman-target",
    "partman-utils": "partman-base",
    "tzsetup-udeb": "tzsetup",
    "user-setup-udeb": "user-setup",
}
_RELEASES = ("bookworm", "trixie")
# udeb: the ordinary packages with its files, and which of them
_PACKAGES = {
    "e2fsprogs-udeb": (
        ["e2fsprogs", "libext2fs2", "libcom-err2", "libss2"],
        ["sbin/mke2fs", "sbin/e2fsck", "etc/mke2fs.conf", *_LIBRARIES],
    ),
    "libbsd0-udeb": (["libbsd0"], _LIBRARIES),
    "libdevmapper1.02.1-udeb": (["libdevmapper1.02.1"], _LIBRARIES),
    "libmd0-udeb": (["libmd0"], _LIBRARIES),
    "libparted-fs-resize0-udeb": (["libparted-fs-resize0"], _LIBRARIES),
    "libparted2-udeb": (["libparted2"], _LIBRARIES),
    "os-prober-udeb": (["os-prober"], ["usr/bin/*", "usr/lib/*", "usr/share/os-prober/*"]),
}
_DEPENDS = {
    "libbsd0-udeb": "libmd0-udeb",
    "libparted-fs-resize0-udeb": "libparted2-udeb",
    "libparted2-udeb": "libdevmapper1.02.1-udeb",
}
_PROVIDES = {"os-prober-udeb": "os-prober"}
# what each of ours stands for; it comes in where one of these is not to be had
_OURS = {
    "partman-small": ("partman-basicfilesystems", "partman-basicmethods", "partman-ext3", "partman-partitioning"),
    "finish-small": ("finish-install",),
}


def _run(*argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _fields(text: str) -> dict[str, str]:
    """A stanza of a control file; continued lines are left out."""
    return dict(re.findall(r"^([\w-]+): *(.*)$", text, re.M))


def _names(value: str) -> list[str]:
    return [part.split()[0] for part in value.split(",") if part.strip()]


@dataclass
class _Apt:
    """A private apt: its own lists, the host's keys; nothing of the host's is changed."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True)
        url = "http://deb.debian.org/debian"
        host = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm")
        if host.stdout.strip():
            url = host.stdout.split()[0]
        entry = f"[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {url}"
        lines = [f"deb {entry} bookworm main/debian-installer"]
        lines += [f"deb-src {entry} {release} main" for release in _RELEASES]
        (self.folder / "sources.list").write_text("\n".join(lines) + "\n")
        (self.folder / "apt.conf").write_text(
            f'Dir::Etc::SourceList "{self.folder}/sources.list";\nDir::Etc::SourceParts "-";\n'
            f'Dir::State::Lists "{self.folder}/lists";\nDir::Cache "{self.folder}/cache";\n'
            'APT::Sandbox::User "root";\nAcquire::Languages "none";\n'
            'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n'
        )
        done = self.get("update")
        if done.returncode:
            raise RuntimeError(f"apt-get update: {done.stderr}")

    def get(self, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return _run("apt-get", "-q", *args, cwd=cwd, env={"APT_CONFIG": str(self.folder / "apt.conf")})

    def udebs(self) -> dict[str, dict[str, str]]:
        """The stanzas of all udebs that Debian has, by name."""
        files = list((self.folder / "lists").glob("*debian-installer_binary-*_Packages*"))
        text = _run("/usr/lib/apt/apt-helper", "cat-file", *map(str, files)).stdout
        stanzas = [_fields(stanza) for stanza in text.split("\n\n") if stanza.strip()]
        return {stanza["Package"]: stanza for stanza in stanzas}


@dataclass
class Repository:
    """``dists/installer`` and ``pool/installer`` below ``folder``; ``how`` says where each udeb is from."""

    folder: Path
    how: dict[str, str] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)

    @property
    def initrd(self) -> Path:
        """The netboot image's initrd, with the key of this repository among Debian's."""
        return self.folder / "initrd.gz"


def make(folder: Path) -> Repository:
    """All that an installation fetches; where ``lacks`` is not empty afterwards, that was to be had in no way."""
    made = Repository(folder)
    work = folder / "work"
    work.mkdir(parents=True)
    _Maker(made, work).make()
    if not made.lacks:
        _index(made, work)
    shutil.rmtree(work)
    return made


class _Maker:
    def __init__(self, made: Repository, work: Path) -> None:
        self._made, self._work = made, work
        self._pool = made.folder / "pool" / SUITE
        self._pool.mkdir(parents=True)
        self._apt = _Apt(work / "apt")
        self._index = self._apt.udebs()
        self._built: dict[str, bool] = {}
        status = _from_initrd("var/lib/dpkg/status").decode()
        present = [_fields(stanza) for stanza in status.split("\n\n") if stanza.strip()]
        self._kernel = next(
            name.removeprefix("kernel-image-").removesuffix("-di")
            for stanza in present
            if (name := stanza["Package"]).startswith("kernel-image-")
        )
        self._provided: set[str] = set()
        for stanza in present:
            self._provide(stanza)

    def make(self) -> None:
        wanted = list(_ROOTS)
        while wanted:
            name = wanted.pop(0)
            if name in self._provided:
                continue
            if name not in self._index:
                name = self._provider(name)
                if name is None or name in self._provided:
                    continue
            file = self._get(name)
            if file is None:
                self._made.lacks.append(name)
                self._provided.add(name)
                continue
            control = _fields(_run("dpkg-deb", "-f", str(file)).stdout)
            self._provide(control)
            self._provided.add(name)
            wanted += [need for need in _names(control.get("Depends", "")) if need not in self._provided]

    def _provide(self, stanza: dict[str, str]) -> None:
        self._provided.update([stanza["Package"], *_names(stanza.get("Provides", ""))])

    def _provider(self, name: str) -> str | None:
        """Who stands for a name that is no udeb's: that of the installer's kernel, or the only one; None: a root does."""
        found = [
            other
            for other, stanza in self._index.items()
            if name in _names(stanza.get("Provides", "")) and (other.endswith("-di") <= (self._kernel in other))
        ]
        if any(other in _ROOTS for other in found):
            return None
        return found[0] if found else name

    def _get(self, name: str) -> Path | None:
        for ours, stands_for in _OURS.items():
            if name in stands_for:
                return self._ours(ours, stands_for)
        return self._downloaded(name) or self._from_source(name) or self._from_packages(name)

    def _kept(self, file: Path, name: str, how: str) -> Path:
        self._made.how[name] = how
        return Path(shutil.move(file, self._pool / file.name.replace("%3a", "_")))

    def _downloaded(self, name: str) -> Path | None:
        folder = self._work / "download"
        folder.mkdir(exist_ok=True)
        if name not in self._index or self._apt.get("download", name, cwd=folder).returncode:
            return None
        (file,) = folder.glob("*.udeb")
        return self._kept(file, name, "Debian's own")

    def _from_source(self, name: str) -> Path | None:
        source = _SOURCES.get(name)
        if source is None:
            return None
        folder = self._work / "source" / source
        if source not in self._built:
            self._built[source] = self._build(source, folder)
        files = list(folder.glob(f"{name}_*.udeb"))
        return self._kept(files[0], name, f"built from {source}") if files else None

    def _build(self, source: str, folder: Path) -> bool:
        folder.mkdir(parents=True)
        for release in _RELEASES:
            # where the description is missing the archive itself may be there; apt has checked it
            self._apt.get("--download-only", "source", f"{source}/{release}", cwd=folder)
            if archives := list(folder.glob(f"{source}_*.tar.*")):
                break
        else:
            return False
        tree = folder / "tree"
        tree.mkdir()
        subprocess.run(["tar", "-xf", archives[0], "-C", tree, "--strip-components=1"], check=True)
        env = {"DEB_BUILD_OPTIONS": "nocheck nodoc terse"}
        done = _run("dpkg-buildpackage", "-us", "-uc", "-b", "-d", cwd=tree, env=env)
        if done.returncode:
            raise RuntimeError(f"{source} cannot be built: {done.stderr[-2000:]}")
        return True

    def _from_packages(self, name: str) -> Path | None:
        if name not in _PACKAGES:
            return None
        packages, patterns = _PACKAGES[name]
        folder = self._work / "packages" / name
        everything, chosen = folder / "all", folder / "chosen"
        (chosen / "DEBIAN").mkdir(parents=True)
        for package in packages:
            if _run("apt-get", "-q", "download", package, cwd=folder).returncode:
                return None
        for file in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, everything], check=True)
        for pattern in patterns:
            for path in everything.glob(pattern):
                target = chosen / path.relative_to(everything)
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
                else:
                    shutil.copy2(path, target, follow_symlinks=False)
        stanza = self._index.get(name, {})
        lines = [f"{key}: {value}" for key, value in stanza.items() if key in ("Version", "Priority", "Architecture")]
        lines += [f"Package: {name}", "Section: debian-installer", "Maintainer: Guesthouse <guesthouse@example.org>"]
        lines += [f"Depends: {_DEPENDS[name]}"] if name in _DEPENDS else []
        lines += [f"Provides: {_PROVIDES[name]}"] if name in _PROVIDES else []
        lines += [f"Description: files of {', '.join(packages)}"]
        (chosen / "DEBIAN/control").write_text("\n".join(lines) + "\n")
        return self._packed(chosen, name, f"files of {', '.join(packages)}")

    def _packed(self, tree: Path, name: str, how: str) -> Path:
        file = self._work / f"{name}.udeb"
        done = _run("dpkg-deb", "--root-owner-group", "--build", str(tree), str(file))
        if done.returncode:
            raise RuntimeError(done.stderr)
        return self._kept(file, name, how)

    def _ours(self, ours: str, stands_for: tuple[str, ...]) -> Path | None:
        """Debian's, where all of them are to be had; else ours."""
        files = [self._downloaded(name) for name in stands_for]
        if all(files):
            for other in files[1:]:
                assert other is not None
                self._provide(_fields(_run("dpkg-deb", "-f", str(other)).stdout))
            return files[0]
        for name, file in zip(stands_for, files, strict=True):
            if file is not None:
                file.unlink()
                del self._made.how[name]
        return self._packed(_OWN / ours, ours, f"ours, for {', '.join(stands_for)}")


def _from_initrd(path: str) -> bytes:
    command = f"zcat {NETBOOT}/initrd.gz | cpio --quiet -i --to-stdout {path}"
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True).stdout


def _index(made: Repository, work: Path) -> None:
    """Packages, Release, its signature, and the initrd that knows the key."""
    folder = made.folder
    place = folder / "dists" / SUITE
    binary = place / "main/debian-installer/binary-amd64"
    binary.mkdir(parents=True)
    scanned = _run("dpkg-scanpackages", "-t", "udeb", f"pool/{SUITE}", cwd=folder)
    packages = binary / "Packages"
    packages.write_text(scanned.stdout)
    sums = _run("sha256sum", str(packages)).stdout.split()[0]
    (place / "Release").write_text(
        f"Origin: Guesthouse\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: main\nSHA256:\n"
        f" {sums} {packages.stat().st_size} {packages.relative_to(place)}\n"
    )
    home = work / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    try:
        subprocess.run([*gpg, "--quick-gen-key", "udebs of a test", "rsa2048", "sign", "never"], check=True)
        subprocess.run([*gpg, "--detach-sign", "--armor", "-o", f"{place}/Release.gpg", f"{place}/Release"], check=True)
        key = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    keyring = work / "root" / _KEYRING
    keyring.parent.mkdir(parents=True)
    keyring.write_bytes(_from_initrd(_KEYRING) + key)
    # the kernel unpacks one archive after the other; the later file wins
    command = (
        f"cd {work}/root && {{ cat {NETBOOT}/initrd.gz; find . | cpio --quiet -o -H newc | gzip -1; }} >{made.initrd}"
    )
    subprocess.run(["sh", "-c", command], check=True)
