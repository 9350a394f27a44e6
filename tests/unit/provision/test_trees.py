"""Installation trees on a server: what they are, and their kernel."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from guesthouse.cli.virt_install.program import main
from guesthouse.provision.media import MediaError
from guesthouse.provision.trees import Tree, is_url

_TREEINFO = """[general]
family = Fedora
variant = Server
version = 36
arch = x86_64
[images-x86_64]
kernel = images/pxeboot/vmlinuz
initrd = images/pxeboot/initrd.img
"""
_TREES = {
    "fedora": {".treeinfo": _TREEINFO, "images/pxeboot/vmlinuz": "kernel", "images/pxeboot/initrd.img": "initrd"},
    "debian": {
        "main/installer-amd64/current/images/netboot/debian-installer/amd64/linux": "kernel",
        "main/installer-amd64/current/images/netboot/debian-installer/amd64/initrd.gz": "initrd",
    },
    "suse": {"boot/x86_64/loader/linux": "kernel", "boot/x86_64/loader/initrd": "initrd"},
    "odd": {"my/kernel": "kernel"},
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with all of ``_TREES``."""
    root = tmp_path_factory.mktemp("trees")
    for name, files in _TREES.items():
        for path, text in files.items():
            file = root / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "args"),
    [("fedora", "inst.repo={url}"), ("debian", None), ("suse", "install={url}")],
)
def test_kernels_are_fetched(server: str, name: str, args: str | None) -> None:
    url = f"{server}/{name}"
    files = Tree(url + "/").boot_files("x86_64", None)
    try:
        assert Path(files.kernel).read_text() == "kernel"
        assert files.initrd is not None
        assert Path(files.initrd).read_text() == "initrd"
        assert Path(files.kernel).stat().st_mode & 0o444 == 0o444
        assert files.args == (args and args.format(url=url))
        assert files.temporary == [files.kernel, files.initrd]
    finally:
        for path in files.temporary:
            Path(path).unlink()


def test_a_tree_says_what_it_is(server: str) -> None:
    system = Tree(f"{server}/fedora").identify()
    assert system is not None
    assert system.name == "fedora36"
    assert Tree(f"{server}/debian").identify() is None


def test_what_is_not_there(server: str) -> None:
    before = set(Path("/var/tmp").glob("virtinst-*"))
    with pytest.raises(MediaError, match="Couldn't find kernel for install tree"):
        Tree(f"{server}/odd").boot_files("x86_64", None)
    with pytest.raises(MediaError, match="looked for my/kernel"):
        Tree(f"{server}/odd").boot_files("x86_64", None, "my/kernel", "my/initrd")
    with pytest.raises(MediaError, match="cannot be read"):
        Tree("http://127.0.0.1:1/tree").identify()
    assert set(Path("/var/tmp").glob("virtinst-*")) == before
    assert is_url("ftp://x/y")
    assert not is_url("/srv/tree")


def test_virt_install_boots_it(server: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    line = f"--connect test:///default --name t --memory 64 --disk none --network none --location {server}/fedora"
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main([*line.split(), "--extra-args", "quiet", "--print-xml"]) == 0, err.getvalue()
    first, _, final = out.getvalue().partition("</domain>")
    assert f"<cmdline>inst.repo={server}/fedora quiet</cmdline>" in first
    assert "/var/tmp/virtinst-" in first
    assert "fedoraproject.org/fedora/36" in first
    assert "<kernel>" not in final
    assert not list(Path("/var/tmp").glob("virtinst-*-vmlinuz"))
