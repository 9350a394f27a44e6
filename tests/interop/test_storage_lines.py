"""Networks, pools and volumes in our virsh and in C's, each with a C libvirtd of its own: what is too rare for the tour.

The tour asks both daemons; here also stands what only C libvirtd can do so far.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest

from support import tour
from support.guesthoused import BIN
from support.libvirtd import Libvirtd
from support.namespaces import reachable

pytestmark = pytest.mark.slow

NET, POOL = "6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef003", "6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef005"
LINES = f"""\
net-define {{work}}/network.xml --validate
net-create {{work}}/pool.xml --validate
net-start {NET}
net-start {NET}
net-autostart {NET}
-q net-list --all
-q net-list --autostart
-q net-dhcp-leases {NET}
net-update tournet add ip-dhcp-host "<host mac='52:54:00:aa:bb:05' ip='192.168.77.5'/>" --live --config
net-update tournet add-first ip-dhcp-host "<host mac='52:54:00:aa:bb:06' ip='192.168.77.6'/>" --live
net-update tournet add-last ip-dhcp-host "<host mac='52:54:00:aa:bb:07' ip='192.168.77.7'/>" --config
net-update {NET} add dns-host "<host ip='1.2.3.4'><hostname>a</hostname></host>"
net-update tournet add dns-host "<host ip='1.2.3.5'><hostname>b</hostname></host>" --current
net-update tournet delete ip-dhcp-host "<host mac='52:54:00:aa:bb:06'/>" --live
net-update tournet modify ip-dhcp-host "<host mac='52:54:00:aa:bb:05' ip='192.168.77.55'/>" --live --parent-index 0
net-update tournet modify ip-dhcp-host "<host mac='52:54:00:aa:bb:05' ip='192.168.77.55'/>" --live --parent-index 3
net-update {NET} modify ip-dhcp-host "<host/>" --parent-index x
net-update {NET} add ip-dhcp-host "<host/>"
net-update tournet add dns-host {{work}}/absent-file.xml
net-update tournet add dns-host {{work}}/pool.xml
net-update tournet add dns-host ''
net-dumpxml tournet
net-dumpxml tournet --inactive
net-edit {NET}
net-dumpxml tournet --xpath //name|//name/text()|//ip/@address --wrap
-r net-edit tournet
-r net-destroy tournet
-d 0 net-info tournet
-d 0 net-name tournet
-d 0 net-info xc2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef0ff
net-destroy {NET}
net-destroy {NET}
net-update tournet add dns-host "<host ip='1.2.3.6'><hostname>c</hostname></host>"
net-undefine {NET}
net-info ''
pool-define {{work}}/pool.xml --validate
pool-build {POOL}
pool-build tourpool --overwrite --no-overwrite
pool-build tourpool --overwrite
pool-start {POOL} --overwrite
pool-start nonsense --overwrite --no-overwrite
pool-start {POOL} --build
pool-refresh {POOL}
pool-autostart {POOL}
pool-edit {POOL}
pool-list --type dir,fs --name
pool-list --type dir,nonsense
pool-list --type ''
pool-list --type '' --details --name
pool-list --type iscsi-direct,vstorage,zfs,gluster,sheepdog,rbd,mpath,scsi,iscsi,disk,logical,netfs --all
-q pool-list --all
pool-delete {POOL}
pool-create {{work}}/absent-file.xml --overwrite --no-overwrite
pool-define-as x y --source-host h --source-path p --source-dev d --source-name n --target t --source-format f \
--auth-type at --auth-username au --secret-uuid su --adapter-name an --source-protocol-ver 3 --source-initiator i --print-xml
pool-define-as x y h p d n t f --print-xml
pool-define-as x y --adapter-wwnn a --adapter-wwpn b --adapter-parent-wwnn c --adapter-parent-wwpn d --print-xml
pool-define-as x y --adapter-wwnn a --adapter-wwpn b --adapter-parent-wwnn c --adapter-parent-fabric-wwn e --print-xml
pool-define-as x y --adapter-wwnn a --adapter-name n --print-xml
pool-define-as x y --adapter-wwnn a --adapter-parent p --print-xml
pool-define-as x y --source-protocol-ver 3 --auth-type a --auth-username b --secret-usage c --print-xml
pool-define-as x y --source-name n --auth-type a --secret-usage c --print-xml
pool-define-as 'a<b' 'c"d' --source-name 'e&f' --source-path "g'h" --print-xml
pool-define-as x y --target ''
pool-define-as x dir --build
vol-create-as {POOL} a.raw 1M --allocation ''
vol-create-as tourpool b.raw 1M --format ''
vol-create-as tourpool b.raw x --format ''
vol-create-as tourpool b.raw 1 --backing-vol nonsense --backing-vol-format ''
vol-create-as tourpool b.qcow2 1M --format qcow2 --backing-vol {{images}}/a.raw --backing-vol-format raw --prealloc-metadata
vol-create-as tourpool c.qcow2 1M --format qcow2 --prealloc-metadata
vol-create-as tourpool 'a<b' 1k --format 'q&r' --print-xml
vol-create-as nonsense '' x
vol-create tourpool {{work}}/sparse.xml
vol-create tourpool {{work}}/volume.xml --prealloc-metadata
vol-create tourpool {{work}}/volume.xml --validate
vol-create-from tourpool {{work}}/copy.xml {{images}}/a.raw --prealloc-metadata
vol-create-from tourpool {{work}}/absent-file.xml nonsense --inputpool tourpool
vol-create-from nonsense '' ''
vol-clone {{images}}/a.raw d.raw
vol-clone a.raw e.raw --pool tourpool --reflink
vol-clone copy.qcow2 f.qcow2 tourpool --prealloc-metadata
vol-clone a.raw '' --pool tourpool
vol-info a.raw {POOL} --bytes
vol-info sparse.raw {POOL} --physical --bytes
vol-info {{images}}/nonsense
vol-info {{images}}/nonsense tourpool
vol-info a.raw ''
vol-info --pool tourpool a.raw
vol-info a.raw tourpool extra
-q vol-list tourpool
-q vol-list tourpool --details
vol-resize a.raw --pool tourpool --capacity=-512k --shrink
vol-resize sparse.raw --pool tourpool --capacity=--512k --shrink
vol-resize sparse.raw --pool tourpool ' -512k' --shrink
vol-resize sparse.raw ' +5M' --pool tourpool
vol-resize sparse.raw 1000 --pool tourpool --delta --shrink
vol-resize sparse.raw 99999999999999999999 --pool tourpool
vol-resize sparse.raw 9999999999999999E --pool tourpool
vol-resize {{images}}/sparse.raw 8M --allocate
vol-wipe {{images}}/d.raw
vol-wipe d.raw tourpool --algorithm trim
vol-wipe d.raw tourpool --algorithm ''
vol-wipe nonsense tourpool --algorithm nonsense
vol-upload a.raw {{work}} --pool tourpool
vol-upload a.raw {{work}} --pool tourpool --sparse
vol-upload a.raw {{work}}/data.raw --pool tourpool --length -1
vol-upload a.raw {{work}}/data.raw --pool tourpool --offset 18446744073709551615
vol-upload a.raw '' --pool tourpool
vol-upload '' {{work}}/data.raw --pool '' --length x
vol-create-as tourpool g.raw 3M --allocation 0
vol-upload g.raw {{work}}/data.raw --pool tourpool --offset 2000000
vol-download g.raw {{work}}/plain.raw --pool tourpool
vol-download g.raw {{work}}/holes.raw --pool tourpool --sparse
vol-download g.raw {{work}}/piece.raw --pool tourpool --sparse --offset 1000000 --length 1005000
vol-download g.raw {{work}}/beyond.raw --pool tourpool --offset 3145728
vol-download g.raw {{work}}/data.raw --pool tourpool --length 5
vol-create-as tourpool h.raw 3M --allocation 0
vol-upload h.raw {{work}}/holes.raw --pool tourpool --sparse
vol-download h.raw {{work}}/again.raw --pool tourpool
vol-download h.raw /dev/full --pool tourpool
vol-download h.raw {{work}} --pool tourpool
vol-download h.raw '' --pool tourpool
-r pool-destroy tourpool
-r pool-define-as x dir --target /x
-r vol-list tourpool
-r vol-delete a.raw tourpool
-r vol-upload a.raw {{work}}/data.raw tourpool
-r vol-download a.raw {{work}}/out.raw tourpool
-d 0 vol-info nonsense tourpool
-d 0 pool-uuid {POOL}
vol-delete d.raw --pool tourpool --delete-snapshots
vol-delete {{images}}/d.raw
pool-create-as second dir --target {{work}}/second --build
vol-info {{images}}/a.raw second
vol-create-from second {{work}}/copy.xml a.raw --inputpool tourpool
vol-clone {{images}}/a.raw z.raw --pool second
vol-list second
pool-destroy second
pool-destroy {POOL}
vol-clone a.raw k.raw --pool tourpool
vol-pool {{images}}/a.raw
pool-undefine {POOL}
""".replace("\\\n", "").splitlines()
KEPT = ("plain.raw", "holes.raw", "piece.raw", "beyond.raw", "again.raw", "data.raw")

Made = tuple[list[tour.Step], dict[str, tuple[int, str, int]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """By program: what it printed, and of the files that it wrote the size, a digest, and the blocks that they take."""
    base = reachable(tmp_path_factory.mktemp("lines"))
    done: dict[str, Made] = {}
    for name, program in {"c": "/usr/bin/virsh", "o": str(BIN / "virsh")}.items():
        work = base / name / "work"
        daemon = Libvirtd(base / name / "root")
        try:
            virsh = functools.partial(daemon.run, virsh=program)
            steps = tour.run(virsh, daemon.root, work, base / name / "images", LINES)
            done[name] = steps, {file: _about(work / file) for file in KEPT}
        finally:
            daemon.close()
    return done


def _about(path: Path) -> tuple[int, str, int]:
    return path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_blocks


@pytest.mark.parametrize("index", range(len(LINES)), ids=[f"{i}-{line}" for i, line in enumerate(LINES)])
def test_line(made: dict[str, Made], index: int) -> None:
    want, have = made["c"][0][index], made["o"][0][index]
    assert (want.out, want.err, want.code) == (have.out, have.err, have.code), f"$ virsh {want.line}"


@pytest.mark.parametrize("name", KEPT)
def test_file(made: dict[str, Made], name: str) -> None:
    assert made["c"][1][name] == made["o"][1][name]


def test_downloads_are_what_was_uploaded(made: dict[str, Made]) -> None:
    files = made["o"][1]
    assert files["plain.raw"][:2] == files["holes.raw"][:2] == files["again.raw"][:2]
    assert files["holes.raw"][2] * 512 < files["holes.raw"][0] <= files["plain.raw"][2] * 512
    assert [files[name][0] for name in ("piece.raw", "beyond.raw", "data.raw")] == [1005000, 0, 5]
