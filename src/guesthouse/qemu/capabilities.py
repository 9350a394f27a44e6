"""What a QEMU binary can do, asked of the binary itself, once: machines, devices, CPU models."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.model.defaults import GuestDefaults
from guesthouse.qemu import process
from guesthouse.qemu.monitor import Monitor

_FORMAT = 1


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
class QemuCapabilities:
    """``version`` is major * 1000000 + minor * 1000 + micro; ``package`` is the distribution's suffix."""

    binary: str
    version: int
    package: str
    arch: str
    machines: list[Machine] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    cpus: list[dict[str, object]] = field(default_factory=list)

    def defaults(self) -> GuestDefaults:
        """What documents are completed with."""
        names = {m.name: m.name for m in self.machines} | {m.alias: m.name for m in self.machines if m.alias}
        default = next((m for m in self.machines if m.default), None)
        return GuestDefaults(
            emulators={self.arch: self.binary},
            machines=names,
            default_machine=default.name if default else "pc",
            host_arch=self.arch,
        )

    def machine(self, name: str) -> Machine:
        """The machine type of that name or alias. Raises ConfigUnsupported."""
        for machine in self.machines:
            if name in (machine.name, machine.alias):
                return machine
        raise ConfigUnsupported(f"Emulator '{self.binary}' does not support machine type '{name}'")


async def probe(binary: str, cache: Path) -> QemuCapabilities:
    """The capabilities of ``binary``: from ``cache`` where the binary has not changed since, else from a run of it.

    Raises ConfigUnsupported where there is no such binary, InternalError where it does not answer.
    """
    try:
        stat = Path(binary).stat()
    except OSError:
        raise ConfigUnsupported(
            f"Cannot check QEMU binary {binary}: No such file or directory (install it: apt-get install qemu-system-x86)"
        ) from None
    key = [_FORMAT, binary, stat.st_size, stat.st_mtime_ns]
    file = cache / "qemu" / f"{Path(binary).name}.json"
    try:
        saved = json.loads(file.read_text())
        if saved["key"] == key:
            value = saved["value"]
            return QemuCapabilities(**{**value, "machines": [Machine(**m) for m in value["machines"]]})
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = await _ask(binary)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"key": key, "value": asdict(found)}))
    fresh.replace(file)
    return found


async def _ask(binary: str) -> QemuCapabilities:
    with tempfile.TemporaryDirectory(prefix="guesthouse-probe-") as name:
        path = Path(name) / "mon"
        sock = process.listen_unix(path)
        argv = [binary, "-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=tcg"]
        argv += ["-chardev", f"socket,id=mon,fd={sock.fileno()},server=on,wait=off", "-mon", "chardev=mon,mode=control"]
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[sock.fileno()],
        )
        sock.close()
        monitor = Monitor(lambda *_: None)
        try:
            await monitor.connect(path, 20)
            version = await monitor.execute("query-version")
            target = await monitor.execute("query-target")
            machines = await monitor.execute("query-machines")
            types = await monitor.execute("qom-list-types", {"implements": "device", "abstract": False})
            cpus = await monitor.execute("query-cpu-definitions")
        except InternalError as error:
            raise InternalError(f"Failed to probe QEMU binary '{binary}': {error.detail}") from None
        finally:
            await monitor.close()
            child.kill()
            await asyncio.to_thread(child.wait)
    numbers = version["qemu"]
    return QemuCapabilities(
        binary=binary,
        version=numbers["major"] * 1000000 + numbers["minor"] * 1000 + numbers["micro"],
        package=version["package"],
        arch=target["arch"],
        machines=sorted(
            (
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
            ),
            key=lambda m: m.name,
        ),
        devices=sorted(t["name"] for t in types),
        cpus=[
            {"name": c["name"], "usable": not c.get("unavailable-features"), "deprecated": c.get("deprecated", False)}
            for c in cpus
        ],
    )
