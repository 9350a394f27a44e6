"""Control groups: which of the kernel's controllers this host offers, and the group of one guest.

Both versions are served, mixed as the host mixes them: a controller that version 2 has is used there, any other where
version 1 has it mounted. Files and units are the kernel's (admin-guide/cgroup-v1 and cgroup-v2.rst); names of groups,
values that are taken, and errors are libvirt 9.0's.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import InternalError, InvalidArg, OperationInvalid, OperationUnsupported, SystemFailure

#: KiB: no limit.
UNLIMITED = 9007199254740991
SHARES = (2, 262144)
_PERIOD, _QUOTA_MOST = 100000, 17592186044415
_CONTROLLERS = ("memory", "cpu", "cpuset", "blkio", "cpuacct")
#: Version 2 calls one of them otherwise.
_NEW_NAMES = {"blkio": "io"}
_THREADED = ("cpu", "cpuset")
# where systemd lets us make groups (contrib/systemd); it minds its own tree elsewhere
_HOLDER = "/system.slice/guesthouse-machines.service"
_MEMORY = {
    "hard_limit": ("memory.limit_in_bytes", "memory.max"),
    "soft_limit": ("memory.soft_limit_in_bytes", "memory.high"),
    "swap_hard_limit": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
}
_WEIGHT = (("blkio.bfq.weight", "blkio.weight"), ("io.bfq.weight", "io.weight"))
_DEVICE = {
    "read_iops_sec": ("blkio.throttle.read_iops_device", "riops"),
    "write_iops_sec": ("blkio.throttle.write_iops_device", "wiops"),
    "read_bytes_sec": ("blkio.throttle.read_bps_device", "rbps"),
    "write_bytes_sec": ("blkio.throttle.write_bps_device", "wbps"),
}
_BUSY_WAIT = 1.0


@dataclass(frozen=True)
class Hierarchy:
    """A tree of groups: its version, and the folder below which we may make some."""

    version: int
    folder: Path


class Hierarchies:
    """What this host offers, by controller. ``groups`` are all trees that a guest is put into."""

    def __init__(self, controllers: dict[str, Hierarchy], unified: Hierarchy | None = None) -> None:
        self.controllers = controllers
        found = [*([unified] if unified else []), *controllers.values()]
        self.groups = tuple(dict.fromkeys(found))
        #: Paths below which groups have been made: what is above them has handed down what it has.
        self.ready: set[str] = set()

    @classmethod
    def none(cls) -> Hierarchies:
        """Of a daemon that may make no groups."""
        return cls({})

    @classmethod
    def find(cls, root: str = "", *, anybody: bool = False) -> Hierarchies:
        """Those of the host whose files are below ``root`` that this process may use; or with ``anybody`` that root
        may."""
        unified: Hierarchy | None = None
        mounted: dict[str, Hierarchy] = {}
        for line in _text(f"{root}/proc/self/mounts").splitlines():
            words = line.split()
            if len(words) < 4 or "ro" in words[3].split(",") or words[2] not in ("cgroup", "cgroup2"):
                continue
            folder = Path(root + words[1])
            if words[2] == "cgroup2":
                ours = _ours(root, folder)
                if ours is not None and (anybody or os.access(ours, os.W_OK)):
                    unified = Hierarchy(2, ours)
            elif anybody or os.access(folder, os.W_OK):
                names = [name for name in words[3].split(",") if name in _CONTROLLERS]
                mounted |= dict.fromkeys(names, Hierarchy(1, folder))
        controllers = {}
        new = _text(f"{unified.folder}/cgroup.controllers").split() if unified else []
        for name in _CONTROLLERS:
            if unified and (_NEW_NAMES.get(name, name) in new or name == "cpuacct"):
                controllers[name] = unified  # each group of version 2 counts its time
            elif name in mounted:
                controllers[name] = mounted[name]
        return cls(controllers, unified)


def _ours(root: str, folder: Path) -> Path | None:
    if not Path(f"{root}/run/systemd/system").is_dir():
        return folder
    held = Path(f"{folder}{_HOLDER}")
    return held if held.is_dir() else None


def partition_path(partition: str) -> str:
    """The group of a <partition>: libvirt marks what is below its own, so that no name is a file's of the kernel's."""
    words = []
    for index, word in enumerate(partition.strip("/").split("/")):
        if not (index == 0 and word in ("machine", "system", "user")):
            word = _escaped(word if "." in word else f"{word}.partition")
        words.append(word)
    return "/" + "/".join(words)


def machine_name(number: int, name: str, mark: str = "") -> str:
    """The name of a guest's group; ``mark`` tells apart daemons whose guests have the same numbers."""
    plain = re.sub(r"[.]+", ".", re.sub(r"[^A-Za-z0-9_.-]", "", name).strip("."))
    whole = f"qemu-{number}-{plain}"[:64]
    return _escaped(f"{whole}{mark}.libvirt-qemu")


def _escaped(word: str) -> str:
    kernel = word.startswith(("cgroup.", "_", ".")) or word.partition(".")[0] in (*_CONTROLLERS, "devices", "pids")
    return f"_{word}" if kernel else word


class Group:
    """The group at ``path`` ("/machine/...") in each tree; or a :meth:`child` of it, for some of its threads.

    What fails raises SystemFailure of libvirt's cgroup domain, unless it says otherwise.
    """

    def __init__(self, hierarchies: Hierarchies, path: str) -> None:
        self.path = path
        self._hierarchies = hierarchies
        self._folders = {tree: Path(f"{tree.folder}{path}") for tree in hierarchies.groups}

    def has(self, controller: str) -> bool:
        """Whether limits of ``controller`` hold for it."""
        tree = self._hierarchies.controllers.get(controller)
        if tree is None:
            return False
        if tree.version == 1 or controller == "cpuacct":
            return self._folders[tree].is_dir()
        name = _NEW_NAMES.get(controller, controller)
        return name in _text(f"{self._folders[tree]}/cgroup.controllers").split()

    # -- the group itself

    @property
    def exists(self) -> bool:
        return any(folder.is_dir() for folder in self._folders.values())

    def make(self) -> None:
        """Make it in each tree. Of the groups above it only "/machine" is made, too: others are their owners' to make."""
        above = self.path.rpartition("/")[0]
        for tree, folder in self._folders.items():
            if above not in self._hierarchies.ready or not folder.parent.is_dir():
                self._prepare(tree, above)
            self._make_folder(folder, tree)
        self._hierarchies.ready.add(above)
        if "cpuset" in self._hierarchies.controllers and self._hierarchies.controllers["cpuset"].version == 1:
            self.write("cpuset", "cpuset.memory_migrate", "1")

    def _prepare(self, tree: Hierarchy, above: str) -> None:
        """Have what the tree offers on the way down to ``above`` and in it."""
        folder = tree.folder
        for word in (*above.strip("/").split("/"), None):
            if tree.version == 2:
                self._hand_down(folder, [_NEW_NAMES.get(each, each) for each in _CONTROLLERS])
            if word is None:
                return
            folder = folder / word
            if above == "/machine":
                self._make_folder(folder, tree)
            elif not folder.is_dir():
                text = f"Failed to create v1 controller {tree.folder.name} for group"
                if tree.version == 2:
                    text = f"Unable to read from '{folder}/cgroup.controllers'"
                none = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                raise SystemFailure.from_os(none, text, domain=ErrorDomain.CGROUP)

    def _make_folder(self, folder: Path, tree: Hierarchy) -> None:
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            text = f"Failed to create v{tree.version} cgroup '{folder}'"
            raise SystemFailure.from_os(error, text, domain=ErrorDomain.CGROUP) from None
        if tree is self._hierarchies.controllers.get("cpuset") and tree.version == 1:
            for file in ("cpuset.cpus", "cpuset.mems"):  # a group of version 1 begins with none
                if not _text(folder / file):
                    _write(folder / file, _text(folder.parent / file))

    def _hand_down(self, parent: Path, names: list[str]) -> None:
        """What ``parent`` has of these, the groups in it have, too. It stays without where the kernel will not: a
        group with processes of its own."""
        have = _text(parent / "cgroup.controllers").split()
        done = _text(parent / "cgroup.subtree_control").split()
        for name in names:
            if name in have and name not in done:
                try:
                    _put(parent / "cgroup.subtree_control", f"+{name}")
                except OSError:
                    continue

    def join(self, pid: int) -> None:
        """Put the process in, with its threads. One that has ended is passed by."""
        # the memory that it takes from now on counts
        for folder in sorted(self._folders.values(), key=lambda folder: not (folder / "memory.stat").exists()):
            _enter(folder / "cgroup.procs", pid)

    def remove(self) -> None:
        """Take it away with its children; what is not there is no matter. Processes that are just ending are waited
        for; a group that others have put something into stays."""
        for folder in self._folders.values():
            try:
                children = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            for path in [*children, str(folder)]:
                _rmdir(path)

    # -- threads

    def child(self, name: str) -> Group:
        """The group ``name`` of some threads ("vcpu0", "emulator", "iothread1"), not made yet. It has processor time
        and nodes, and no more."""
        controllers = {c: self._hierarchies.controllers[c] for c in _THREADED if c in self._hierarchies.controllers}
        return Group(Hierarchies(controllers), f"{self.path}/{name}")

    def make_child(self, name: str) -> Group:
        """Make :meth:`child` where it is not there."""
        child = self.child(name)
        for tree, folder in child._folders.items():
            if folder.is_dir():
                continue
            child._make_folder(folder, tree)
            if tree.version == 2:
                _write(folder / "cgroup.type", "threaded")
                self._hand_down(folder.parent, list(_THREADED))
        return child

    def take(self, threads: list[int]) -> None:
        """Put threads into this child. Those that have ended are passed by."""
        for tree, folder in self._folders.items():
            file = folder / ("tasks" if tree.version == 1 else "cgroup.threads")
            for thread in threads:
                _enter(file, thread)

    # -- its files

    def read(self, controller: str, file: str) -> str:
        path = self._file(controller, file)
        try:
            return path.read_text().rstrip("\n")
        except OSError as error:
            raise SystemFailure.from_os(error, f"Unable to read from '{path}'", domain=ErrorDomain.CGROUP) from None

    def write(self, controller: str, file: str, value: str) -> None:
        _write(self._file(controller, file), value)

    def _file(self, controller: str, file: str) -> Path:
        return self._folders[self._hierarchies.controllers[controller]] / file

    def _new(self, controller: str) -> bool:
        return self._hierarchies.controllers[controller].version == 2

    # -- processor time

    @property
    def shares(self) -> int:
        """Version 2 counts them otherwise; as in libvirt, the number is the kernel's own."""
        return int(self.read("cpu", "cpu.weight" if self._new("cpu") else "cpu.shares"))

    def set_shares(self, shares: int) -> None:
        """Raises InvalidArg."""
        low, high = SHARES
        if not low <= shares <= high:
            text = f"shares '{shares}' must be in range [{low}, {high}]"
            raise InvalidArg(text, domain=ErrorDomain.CGROUP)
        self.write("cpu", "cpu.weight" if self._new("cpu") else "cpu.shares", str(shares))

    @property
    def bandwidth(self) -> tuple[int, int]:
        """Period and quota, microseconds."""
        if not self._new("cpu"):
            return int(self.read("cpu", "cpu.cfs_period_us")), int(self.read("cpu", "cpu.cfs_quota_us"))
        quota, _, period = self.read("cpu", "cpu.max").partition(" ")
        return int(period), _QUOTA_MOST if quota == "max" else int(quota)

    @property
    def no_bandwidth(self) -> tuple[int, int]:
        """What :attr:`bandwidth` is where nobody has limited it."""
        return _PERIOD, _QUOTA_MOST if self._new("cpu") else -1

    def set_bandwidth(self, period: int, quota: int) -> None:
        """Let the group run for ``quota`` microseconds of each ``period``, a negative one being no limit; 0 leaves
        either as it is. When the quota is refused the period is the old one again."""
        if not self._new("cpu"):
            old = self.bandwidth[0]
            if period:
                self.write("cpu", "cpu.cfs_period_us", str(period))
            try:
                if quota:
                    self.write("cpu", "cpu.cfs_quota_us", str(quota))
            except SystemFailure:
                self.write("cpu", "cpu.cfs_period_us", str(old))
                raise
        elif period or quota:
            had_period, had_quota = self.bandwidth
            wanted = quota or had_quota
            word = "max" if wanted < 0 or wanted == _QUOTA_MOST else str(wanted)
            self.write("cpu", "cpu.max", f"{word} {period or had_period}")

    @property
    def times(self) -> tuple[int, int, int]:
        """Nanoseconds that it has run in all, for the guests and QEMU itself, and in the kernel."""
        if self._new("cpuacct"):
            words = dict(line.split() for line in self.read("cpuacct", "cpu.stat").splitlines())
            total, user, system = (int(words[name]) * 1000 for name in ("usage_usec", "user_usec", "system_usec"))
            return total, user, system
        words = dict(line.split() for line in self.read("cpuacct", "cpuacct.stat").splitlines())
        tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return int(self.read("cpuacct", "cpuacct.usage")), int(words["user"]) * tick, int(words["system"]) * tick

    @property
    def times_by_cpu(self) -> list[int]:
        """Nanoseconds that it has run on each CPU of the host. Raises OperationUnsupported where nobody counts."""
        if self._new("cpuacct"):
            text = "operation 'getCpuacctPercpuUsage' not supported for backend 'cgroup V2'"
            raise OperationUnsupported(text, domain=ErrorDomain.CGROUP)
        return [int(word) for word in self.read("cpuacct", "cpuacct.usage_percpu").split()]

    # -- memory

    def memory(self, limit: str) -> int:
        """KiB of "hard_limit", "soft_limit" or "swap_hard_limit"; UNLIMITED is none."""
        value = self.read("memory", _MEMORY[limit][self._new("memory")])
        kib = UNLIMITED if value == "max" else int(value) >> 10
        page = os.sysconf("SC_PAGE_SIZE") >> 10
        # the most that version 1 knows is the most of whole pages
        return UNLIMITED if kib >= UNLIMITED // page * page else kib

    @property
    def memory_limits(self) -> dict[str, int]:
        """All of them; a kernel that does not limit swap says nothing of it."""
        found = {}
        for limit in _MEMORY:
            try:
                found[limit] = self.memory(limit)
            except SystemFailure as error:
                if limit != "swap_hard_limit" or error.int1 not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
                found[limit] = UNLIMITED
        return found

    def set_memory(self, limit: str, kib: int) -> None:
        """Raises InvalidArg."""
        if kib > UNLIMITED:
            raise InvalidArg(f"Memory '{kib}' must be less than {UNLIMITED}", domain=ErrorDomain.CGROUP)
        new = self._new("memory")
        none = "max" if new else "-1"
        self.write("memory", _MEMORY[limit][new], none if kib == UNLIMITED else str(kib << 10))

    # -- disks of the host

    def _weight_file(self) -> str:
        new = self._new("blkio")
        for file in _WEIGHT[new]:
            if self._file("blkio", file).exists():
                return file
        what = "blkio weight" if new else "blkio device weight"
        raise OperationInvalid(f"{what} is valid only for bfq or cfq scheduler", domain=ErrorDomain.CGROUP)

    @property
    def weight(self) -> int:
        """Raises OperationInvalid where the kernel has none."""
        text = self.read("blkio", self._weight_file())
        found = re.search(r"default (\d+)|^(\d+)", text)
        if found is None:
            raise InternalError(f"Unable to parse '{text}' as an integer", domain=ErrorDomain.CGROUP)
        return int(found[1] or found[2])

    def set_weight(self, weight: int) -> None:
        """Raises OperationInvalid where the kernel has none."""
        file = self._weight_file()
        self.write("blkio", file, f"default {weight}" if file == "io.weight" else str(weight))

    def set_device(self, rate: str, path: str, value: int) -> None:
        """Limit what goes from or to the block device ``path`` in a second ("read_iops_sec", ...; 0: no limit), or
        give it a "weight". Raises OperationInvalid where the kernel has no weights of devices."""
        new = self._new("blkio")
        if rate == "weight":
            file = "io.weight" if new else "blkio.weight_device"
            if not self._file("blkio", file).exists():
                text = "blkio device weight is valid only for cfq scheduler"
                raise OperationInvalid(text, domain=ErrorDomain.CGROUP)
            self.write("blkio", file, f"{_device(path)} {value}")
        elif new:
            self.write("blkio", "io.max", f"{_device(path)} {_DEVICE[rate][1]}={value or 'max'}")
        else:
            self.write("blkio", _DEVICE[rate][0], f"{_device(path)} {value}")

    # -- nodes

    def set_nodes(self, nodes: str) -> None:
        """Have its memory on these NUMA nodes of the host."""
        self.write("cpuset", "cpuset.mems", nodes)


def _device(path: str) -> str:
    try:
        info = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise SystemFailure.from_os(error, f"Path '{path}' is not accessible", domain=ErrorDomain.CGROUP) from None
    if not stat.S_ISBLK(info.st_mode):
        wrong = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        raise SystemFailure.from_os(wrong, f"Path '{path}' must be a block device", domain=ErrorDomain.CGROUP)
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def _text(path: str | Path) -> str:
    """A file's text, "" where there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _put(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _write(path: Path, value: str) -> None:
    try:
        _put(path, value)
    except OSError as error:
        text = f"Invalid value '{value}' for '{path.name}'" if error.errno == errno.EINVAL else ""
        text = text or f"Unable to write to '{path}'"
        raise SystemFailure.from_os(error, text, domain=ErrorDomain.CGROUP) from None


def _enter(file: Path, number: int) -> None:
    try:
        _put(file, str(number))
    except ProcessLookupError:
        return
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to write to '{file}'", domain=ErrorDomain.CGROUP) from None


def _rmdir(path: str) -> None:
    deadline = time.monotonic() + _BUSY_WAIT
    while True:
        try:
            os.rmdir(path)  # noqa: PTH106
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                return
        time.sleep(0.005)
