"""What a QEMU binary can do, asked of the binary itself, once: machines, devices, CPU models."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.errors import ConfigUnsupported, InternalError, OperationTimeout
from guesthouse.host.cpu import CpuModel, HostCpu, Hypervisor, Processor, hypervisor, vendor_name
from guesthouse.model.defaults import GuestDefaults
from guesthouse.qemu import process
from guesthouse.qemu.monitor import Monitor, MonitorError
from guesthouse.qemu.processors import from_qemu

_log = logging.getLogger(__name__)

_FORMAT = 5
# libvirt's names of the targets that QEMU calls otherwise
_ARCHES = {"i386": "i686"}
# what Windows finds on Hyper-V: libvirt's features, in its order; QEMU's names have dashes and "hv-" before
_HYPERV = (
    *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "vendor_id", "frequencies"),
    *("reenlightenment", "tlbflush", "ipi", "evmcs", "avic"),
)
_VERSIONED = re.compile(r"-v\d+$")
_BEST = {"tcg": "max", "kvm": "host"}


@dataclass
class Machine:
    """A machine type; ``alias`` is its short name ("pc", "q35") or ""."""

    name: str
    alias: str
    max_cpus: int
    default: bool
    deprecated: bool
    default_cpu: str


@dataclass
class BestCpu:
    """The best processor that an accelerator gives. ``known`` are all the properties that QEMU has for it, ``features``
    those of them that it switches on, ``stays`` those of these that would keep a guest on its host; in libvirt's
    words."""

    vendor: str
    signature: list[int]
    known: list[str]
    features: list[str]
    stays: list[str]


@dataclass
class QemuCapabilities:
    """``version`` is major * 1000000 + minor * 1000 + micro; ``package`` is the distribution's suffix; ``arch`` is
    libvirt's word. ``machines`` and ``cpus`` are in QEMU's order; ``displays`` are the servers (vnc, spice) that it was
    built with, ``hyperv`` the enlightenments that the accelerator gives."""

    binary: str
    version: int
    package: str
    arch: str
    machines: list[Machine] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    cpus: list[CpuModel] = field(default_factory=list)
    displays: list[str] = field(default_factory=list)
    hyperv: list[str] = field(default_factory=list)
    #: None where this QEMU does not tell
    best: BestCpu | None = None

    @property
    def default_machine(self) -> Machine | None:
        return next((m for m in self.machines if m.default), None)

    def cpu(self, name: str) -> CpuModel | None:
        return next((c for c in self.cpus if c.name == name), None)

    def hypervisor(self, host: HostCpu | None) -> Hypervisor:
        """What guests' processors can be. ``host`` is the machine's own, where guests run on it."""
        best = self.best
        if best is None or self.arch not in ("x86_64", "i686"):
            return hypervisor(self.cpus, None)
        family, model, stepping = best.signature
        most = Processor(set(best.features), best.vendor, (family, model, stepping))
        return hypervisor(self.cpus, most, best.stays, best.known, host)

    def defaults(self) -> GuestDefaults:
        """What documents are completed with."""
        names = {m.name: m.name for m in self.machines} | {m.alias: m.name for m in self.machines if m.alias}
        default = self.default_machine
        emulators = {self.arch: self.binary}
        if self.arch == "x86_64":
            emulators["i686"] = sibling(self.binary, "i386") or self.binary
        return GuestDefaults(
            emulators=emulators,
            machines=names,
            machine_cpus={m.name: m.default_cpu.rsplit("-", 2)[0] for m in self.machines if m.default_cpu},
            most_cpus={m.name: m.max_cpus for m in self.machines},
            default_machine=default.name if default else "pc",
            host_arch=self.arch,
            sev=Path("/dev/sev").exists(),
        )

    def find_machine(self, name: str) -> Machine | None:
        """The machine type of that name or alias."""
        return next((m for m in self.machines if name and name in (m.name, m.alias)), None)

    def machine(self, name: str) -> Machine:
        """The machine type of that name or alias. Raises ConfigUnsupported."""
        found = self.find_machine(name)
        if found is None:
            raise ConfigUnsupported(f"Emulator '{self.binary}' does not support machine type '{name}'")
        return found


def sibling(binary: str, target: str) -> str | None:
    """The emulator of another target that was installed with ``binary``; None where there is none."""
    path = Path(binary).with_name(f"qemu-system-{target}")
    return str(path) if os.access(path, os.X_OK) else None


async def probe(binary: str, cache: Path, accel: str = "tcg") -> QemuCapabilities:
    """The capabilities of ``binary``: from ``cache`` where the binary has not changed since, else from a run of it.

    ``accel`` matters for CPU models alone: with "kvm" they are judged by this host's processor. Raises
    ConfigUnsupported where there is no such binary, InternalError where it does not answer.
    """
    try:
        stat = Path(binary).stat()
    except OSError:
        raise ConfigUnsupported(
            f"Cannot check QEMU binary {binary}: No such file or directory (install it: apt-get install qemu-system-x86)"
        ) from None
    key: list[object] = [_FORMAT, binary, stat.st_size, stat.st_mtime_ns, *_module_times()]
    name = Path(binary).name
    if accel != "tcg":
        # what KVM gives depends on the processor, its microcode, the kernel and the module's options: all are settled
        # at boot, or when the module is loaded
        name = f"{name}.{accel}"
        key += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), *_device_times()]
    file = cache / "qemu" / f"{name}.json"
    try:
        saved = json.loads(file.read_text())
        if saved["key"] == key:
            return _restored(saved["value"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        found = await _ask(binary, accel)
    except OperationTimeout as error:  # seen on hosts that were out of breath: nothing is lost by asking again
        _log.warning("QEMU binary '%s' did not answer its probe (%s): asking again", binary, error)
        found = await _ask(binary, accel)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"key": key, "value": asdict(found)}))
    fresh.replace(file)
    return found


def _module_times() -> list[int]:
    """When modules of QEMU's (displays, devices, network storage) were last installed or removed."""
    folders = [Path("/usr/lib/qemu"), Path("/usr/lib64/qemu"), *sorted(Path("/usr/lib").glob("*-linux-gnu*/qemu"))]
    return [folder.stat().st_mtime_ns for folder in folders if folder.is_dir()]


def _device_times() -> list[int]:
    try:
        return [Path("/dev/kvm").stat().st_ctime_ns]
    except OSError:
        return []


def _restored(value: dict[str, Any]) -> QemuCapabilities:
    value["machines"] = [Machine(**m) for m in value["machines"]]
    value["cpus"] = [CpuModel(**c) for c in value["cpus"]]
    value["best"] = BestCpu(**value["best"]) if value["best"] is not None else None
    return QemuCapabilities(**value)


async def _ask(binary: str, accel: str) -> QemuCapabilities:
    with tempfile.TemporaryDirectory(prefix="guesthouse-probe-") as name:
        path = Path(name) / "mon"
        sock = process.listen_unix(path)
        argv = [binary, "-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", f"none,accel={accel}"]
        argv += ["-chardev", f"socket,id=mon,fd={sock.fileno()},server=on,wait=off", "-mon", "chardev=mon,mode=control"]
        said = Path(name) / "said"
        with open(said, "wb") as stderr:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, pass_fds=[sock.fileno()]
            )
        sock.close()
        monitor = Monitor(lambda *_: None)
        try:
            await monitor.connect(path, 20)
            version = await monitor.execute("query-version")
            target = await monitor.execute("query-target")
            machines = await monitor.execute("query-machines")
            types = await monitor.execute("qom-list-types", {"implements": "device", "abstract": False})
            commands = {c["name"] for c in await monitor.execute("query-commands")}
            backends = {t["name"] for t in await monitor.execute("qom-list-types", {"implements": "chardev"})}
            cpus = await _cpu_models(monitor)
            best = await _best_cpu(monitor, accel)
            hyperv = await _hyperv(monitor, accel)
        except InternalError as error:
            why = said.read_text(errors="replace").strip() or error.detail
            raise InternalError(f"Failed to probe QEMU binary '{binary}': {why}") from None
        finally:
            await monitor.close()
            child.kill()
            await asyncio.to_thread(child.wait)
    numbers = version["qemu"]
    return QemuCapabilities(
        binary=binary,
        version=numbers["major"] * 1000000 + numbers["minor"] * 1000 + numbers["micro"],
        package=version["package"],
        arch=_ARCHES.get(target["arch"], target["arch"]),
        machines=[
            Machine(
                name=m["name"],
                alias=m.get("alias", ""),
                max_cpus=m["cpu-max"],
                default=m.get("is-default", False),
                deprecated=m.get("deprecated", False),
                default_cpu=m.get("default-cpu-type", ""),
            )
            for m in machines
            if m["name"] != "none"
        ],
        devices=sorted(t["name"] for t in types),
        cpus=cpus,
        displays=_displays(commands, backends),
        hyperv=hyperv,
        best=best,
    )


def _displays(commands: set[str], backends: set[str]) -> list[str]:
    """The display servers. SPICE may be a module in a package of its own: its character devices come with it, while
    the command is there all the same."""
    there = {"vnc": "query-vnc" in commands, "spice": "query-spice" in commands and "chardev-spicevmc" in backends}
    return [name for name, is_there in there.items() if is_there]


async def _cpu_models(monitor: Monitor) -> list[CpuModel]:
    """The models; versioned ones ("EPYC-v2") are other names of these, or nearly."""
    return [
        CpuModel(
            name=found["name"],
            blockers=[from_qemu(name) for name in found.get("unavailable-features", [])],
            deprecated=found.get("deprecated", False),
        )
        for found in await monitor.execute("query-cpu-definitions")
        if found["name"] != "base" and not _VERSIONED.search(found["name"])
    ]


async def _best_cpu(monitor: Monitor, accel: str) -> BestCpu | None:
    async def expanded(**props: bool) -> dict[str, Any]:
        model = {"name": _BEST.get(accel, "max"), "props": props}
        answer = await monitor.execute("query-cpu-model-expansion", {"type": "static", "model": model})
        return dict(answer["model"].get("props") or {})

    try:
        movable = await expanded()
        whole = await expanded(migratable=False)
    except MonitorError:  # not an x86
        return None
    # what is off only because it would keep a guest here
    stays = [name for name, value in whole.items() if value is True and movable.get(name) is False]
    features = [name for name, value in movable.items() if value is True]
    return BestCpu(
        vendor=vendor_name(movable.get("vendor", "")),
        signature=[int(movable.get(name, 0)) for name in ("family", "model", "stepping")],
        known=[from_qemu(name) for name in movable],
        features=[from_qemu(name) for name in (*features, *stays)],
        stays=[from_qemu(name) for name in stays],
    )


async def _hyperv(monitor: Monitor, accel: str) -> list[str]:
    model: dict[str, Any] = {"name": "max"}
    if accel == "kvm":
        model = {"name": "host", "props": {"hv-passthrough": True}}
    try:
        expansion = await monitor.execute("query-cpu-model-expansion", {"type": "full", "model": model})
    except MonitorError:  # not an x86, or a kernel without any
        return []
    props = expansion["model"]["props"]
    return [name for name in _HYPERV if props.get("hv-" + name.replace("_", "-"), False) not in (False, "off")]
