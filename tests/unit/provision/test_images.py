"""Images: the catalogue, fetching and verifying against a server of the test's own, and what guest image does with them."""

from __future__ import annotations

import hashlib
import http.server
import json
import lzma
import os
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guesthouse.errors import InvalidArg, OperationFailed
from guesthouse.provision import osinfo
from guesthouse.provision.images import catalogue, download, store
from guesthouse.provision.images.catalogue import Source
from support import namespaces
from support.guesthoused import BIN, Guesthoused


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``, ranges too; ``cut`` bytes are all that one answer brings. ``asked`` are the ranges."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.asked: list[str | None] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path.lstrip("/"))
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.partition("=")[2].rstrip("-")) if wanted else 0
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.cut])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


# -- the catalogue


def test_every_entry_is_whole() -> None:
    found = catalogue.entries()
    assert len(found) >= 18
    names = [word for entry in found for word in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    for entry in found:
        assert entry.login and any(osinfo.short_ids().count(name) for name in entry.osinfo), entry.name
        for source in entry.files.values():
            assert source.url.startswith("https://") and source.sums.startswith("https://")
            assert "@" not in source.url + source.sums + source.signature
            assert bool(source.signature) == bool(source.keyring) == bool(source.keys)


def test_finding_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert catalogue.find("bookworm") == catalogue.find("debian12") == catalogue.find("debian-12")
    assert catalogue.find("debian-12").source("amd64").file_name == "debian-12-genericcloud-amd64.qcow2"
    with pytest.raises(InvalidArg, match="did you mean debian-12"):
        catalogue.find("debain-12")
    with pytest.raises(InvalidArg, match=r"no image 'debian-12' for mips; there is one for: x86_64"):
        catalogue.find("debian-12").source("mips")
    assert [entry.name for entry in catalogue.search("ubuntu 24")] == ["ubuntu-24.04"]
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"images": [{"name": "debian-12", "title": "ours", "files": {}}]}))
    monkeypatch.setenv(catalogue.VARIABLE, str(own))
    assert catalogue.find("debian-12").title == "ours"
    own.write_text('{"images": [{}]}')
    with pytest.raises(InvalidArg, match="is no catalogue of images: 'files'"):
        catalogue.entries()


# -- fetching


def test_what_was_cut_off_goes_on(server: Server, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    server.files["a.img"] = data
    server.cut = 1 << 20
    seen: list[tuple[int, int | None]] = []
    download.fetch(server.url("a.img"), tmp_path / "a.img", lambda done, whole: seen.append((done, whole)))
    assert (tmp_path / "a.img").read_bytes() == data and not (tmp_path / "a.img.part").exists()
    assert server.asked == [None, "bytes=1048576-", "bytes=2097152-"]
    assert seen[-1] == (len(data), len(data))


def test_a_part_of_another_file_is_begun_anew(server: Server, tmp_path: Path) -> None:
    server.files["a.img"] = b"short"
    (tmp_path / "a.img.part").write_bytes(b"longer than that")
    download.fetch(server.url("a.img"), tmp_path / "a.img")
    assert (tmp_path / "a.img").read_bytes() == b"short"


@pytest.mark.parametrize(("name", "words"), [("none.img", "the server says 404"), ("http://127.0.0.1:1/x", "refused")])
def test_what_cannot_be_fetched(server: Server, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(OperationFailed, match=words):
        download.fetch(name if "://" in name else server.url(name), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_checksums_in_both_forms() -> None:
    sha256, sha512 = "a" * 64, "b" * 128
    text = f"# a comment\nSHA256 (x/one.img) = {sha256}\n{sha512}  two.img\n{sha256} *three.img\nHash: SHA256\n"
    assert download.checksums(text) == {"one.img": sha256, "two.img": sha512, "three.img": sha256}
    assert download.checksums(f"{sha512}\n") == {"": sha512}


def test_verified(server: Server, tmp_path: Path) -> None:
    """A right file, a wrong one, a signature by the right key, by none, and a wrong one."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)

    def gpg(*words: str, text: str = "") -> bytes:
        argv = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
        return subprocess.run([*argv, *words], input=text.encode(), capture_output=True, check=True).stdout

    file = tmp_path / "a.img"
    file.write_bytes(b"image")
    sums = f"{hashlib.sha512(b'image').hexdigest()}  a.img\n"
    try:
        gpg("--quick-gen-key", "publisher@example.org", "ed25519", "sign", "never")
        (tmp_path / "key.asc").write_bytes(gpg("--armor", "--export"))
        server.files |= {"sums": sums.encode(), "sums.gpg": gpg("--detach-sign", text=sums)}
        server.files["inline"] = gpg("--clearsign", text=sums)
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    plain = Source(server.url("a.img"), server.url("sums"))
    proof = download.verify(plain, file)
    assert proof.checksum.startswith("sha512:") and not proof.signed and "does not sign" in proof.why_not
    key = str(tmp_path / "key.asc")
    signed = Source(server.url("a.img"), server.url("sums"), server.url("sums.gpg"), key, "keys")
    assert download.verify(signed, file).signed
    assert download.verify(Source(server.url("a.img"), server.url("inline"), "inline", key, "keys"), file).signed
    missing = Source(
        server.url("a.img"), server.url("sums"), server.url("sums.gpg"), "no-such-keyring.gpg", "their-keys"
    )
    assert "apt install their-keys" in download.verify(missing, file).why_not
    server.files["sums"] += b"\n"
    with pytest.raises(OperationFailed, match=r"the signature of .* is wrong"):
        download.verify(signed, file)
    assert file.exists()
    file.write_bytes(b"other")
    with pytest.raises(OperationFailed, match="is not the file that its publisher has"):
        download.verify(plain, file)
    assert not file.exists()


# -- images of one's own


def test_the_shape_of_a_file(tmp_path: Path) -> None:
    qcow2, raw, over = tmp_path / "a.qcow2", tmp_path / "a.raw", tmp_path / "over.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "64M"], check=True)
    raw.write_bytes(bytes(4096))
    assert store.shape(qcow2) == ("qcow2", 64 << 20) and store.shape(raw) == ("raw", 4096)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", qcow2, "-F", "qcow2", over], check=True)
    with pytest.raises(InvalidArg, match="needs another file beside it"):
        store.shape(over)


def test_guest_image(server: Server, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Pulled, imported, listed, kept while a disk lies over it, removed: with a real daemon."""
    base = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "32M"], check=True)
    packed = lzma.compress(base.read_bytes())
    server.files |= {"disk.qcow2.xz": packed, "sums": f"{hashlib.sha256(packed).hexdigest()}  disk.qcow2.xz\n".encode()}
    own = tmp_path / "catalogue.json"
    source = {"url": server.url("disk.qcow2.xz"), "sums": server.url("sums")}
    row = {"name": "tiny-1", "title": "Tiny", "login": "tiny", "osinfo": ["linux2020"], "files": {"x86_64": source}}
    own.write_text(json.dumps({"images": [row]}))
    vmdk, ova, wheel = tmp_path / "d.vmdk", tmp_path / "d.ova", tmp_path / "d-1.0-py3-none-any.whl"
    subprocess.run(["qemu-img", "convert", "-O", "vmdk", base, vmdk], check=True)
    with tarfile.open(ova, "w") as tar:
        tar.add(vmdk, "d.vmdk")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(base, "d/base.qcow2")
    daemon = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("images")))
    env = os.environ | {"GUEST_CATALOGUE": str(own), "HOME": str(tmp_path)}
    cache = Path("/var/cache/guesthouse/images")
    there_before = cache.exists()

    def guest(*words: str, code: int = 0) -> str:
        # on the host's network, where the test's server is; the daemon is reached by its socket
        argv = [str(BIN / "guest"), "image", *words, *(["-c", daemon.uri] if words[0] != "search" else [])]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    try:
        assert "No images yet" in guest("list")
        assert "tiny-1" in guest("search", "tiny")
        said = guest("pull", "tiny-1")
        assert "the checksum is right; no signature was checked" in said and "tiny-1: 32 MiB" in said
        assert guest("pull", "tiny-1") == "tiny-1 is there already\n"
        for file in (vmdk, ova, wheel, base):
            guest("import", str(file), "--name", f"own-{file.suffix[1:]}", "--osinfo", "linux2020")
        assert "already" in guest("import", str(base), "--name", "own-ova", code=1)
        rows = {row["name"]: row for row in json.loads(guest("list", "--json"))}
        assert set(rows) == {"tiny-1", "own-vmdk", "own-ova", "own-whl", "own-qcow2"}
        assert {row["capacity"] for row in rows.values()} == {32 << 20}
        assert rows["tiny-1"]["login"] == "tiny" and rows["tiny-1"]["checksum"].startswith("sha256:")
        path = Path(rows["tiny-1"]["path"])
        assert path.name == "tiny-1.x86_64.qcow2" and path.stat().st_mode & 0o777 == 0o444
        assert subprocess.run(["qemu-img", "compare", "-q", path, base]).returncode == 0
        over = f"vol-create-as default web.qcow2 64M --format qcow2 --backing-vol {path} --backing-vol-format qcow2"
        subprocess.run([str(BIN / "virsh"), "-q", "-c", daemon.uri, *over.split()], check=True, capture_output=True)
        assert re.search(r"tiny-1 .*32 MiB .*default/web\.qcow2", guest("list"))
        assert "default/web.qcow2 lie over" in guest("rm", "tiny-1", code=1)
        pruned = guest("prune")
        assert pruned.count("removed") == 4 and "tiny-1" not in pruned
        assert guest("rm", "tiny-1", "--force") == "removed tiny-1\n"
        assert "no image 'tiny-1' on this host" in guest("rm", "tiny-1", code=1)
    finally:
        daemon.close()
        if not there_before and cache.exists():
            cache.rmdir()
