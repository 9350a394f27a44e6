"""The programs that run beside QEMU for a guest, and what they are told: TPM, shared folder, user network, graphics.
Pure: what they need of the host is made by who starts them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.model.devices.filesystem import Filesystem
from guesthouse.model.devices.graphics import Video
from guesthouse.model.devices.interface import Interface
from guesthouse.model.devices.tpm import TpmBackend

_CIPHER = "aes-256-cbc"


@dataclass
class Helper:
    """A program for the device ``alias``. ``socket`` is what it makes and must be there before QEMU starts; ``as_root``
    says that the daemon's own user runs it; ``fds`` it inherits."""

    name: str
    alias: str
    argv: list[str]
    fds: list[int] = field(default_factory=list)
    socket: Path | None = None
    as_root: bool = False


def swtpm(alias: str, backend: TpmBackend, state: Path, socket: Path, log: int, keys: list[int]) -> Helper:
    """The TPM emulator, with its state in ``state``. ``log`` is a descriptor; ``keys`` two that the passphrase can be
    read from, or none."""
    argv = ["swtpm", "socket", "--ctrl", f"type=unixio,path={socket},mode=0600"]
    argv += ["--tpmstate", f"dir={state},mode=0600", "--log", f"fd={log}", "--terminate"]
    if backend.version == "2.0":
        argv.append("--tpm2")
    for option, key in zip(("--key", "--migration-key"), keys, strict=False):
        argv += [option, f"pwdfd={key},mode={_CIPHER}"]
    return Helper("swtpm", alias, argv, [log, *keys], socket)


def swtpm_setup(
    backend: TpmBackend, config: Path, state: Path, vmid: str, user: str | None, key: int | None
) -> list[str]:
    """Makes a TPM: its endorsement key, and the certificates of a maker."""
    argv = ["swtpm_setup", *(["--runas", user] if user else [])]
    argv += ["--config", str(config), "--tpm-state", str(state), "--vmid", vmid]
    argv += ["--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite"]
    return argv + _banks(backend) + _setup_options(backend, key)


def swtpm_banks(backend: TpmBackend, state: Path, key: int | None) -> list[str]:
    """Turns the PCR banks of a TPM on and off."""
    argv = ["swtpm_setup", "--tpm-state", str(state), *_banks(backend), "--reconfigure"]
    return argv + _setup_options(backend, key)


def _banks(backend: TpmBackend) -> list[str]:
    banks = backend.active_pcr_banks
    return ["--pcr-banks", ",".join(banks.names)] if banks is not None else []


def _setup_options(backend: TpmBackend, key: int | None) -> list[str]:
    out = ["--tpm2"] if backend.version == "2.0" else []
    if key is not None:
        out += ["--pwdfile-fd", str(key), "--cipher", _CIPHER]
    return out


def virtiofsd(alias: str, device: Filesystem, program: str, listening: int) -> Helper:
    """Shares a folder at the socket ``listening``. It runs as root: it gives files the owners that the guest asks."""
    options = [f"source={((device.source and device.source.dir) or '').replace(',', ',,')}"]
    binary = device.binary
    argv = [program, f"--fd={listening}", "-o"]
    pool: list[str] = []
    if binary is not None:
        if binary.cache is not None and binary.cache.mode is not None:
            options.append(f"cache={binary.cache.mode}")
        if binary.sandbox is not None and binary.sandbox.mode is not None:
            options.append(f"sandbox={binary.sandbox.mode}")
        lock = binary.lock
        wishes = (("xattr", binary.xattr), ("flock", lock and lock.flock), ("posix_lock", lock and lock.posix))
        options += [name if wish else f"no_{name}" for name, wish in wishes if wish is not None]
        if binary.thread_pool is not None and (binary.thread_pool.size or 0) >= 0:
            pool = [f"--thread-pool-size={binary.thread_pool.size or 0}"]
    return Helper("virtiofsd", alias, [*argv, ",".join(options), *pool], [listening], as_root=True)


def gpu(alias: str, device: Video, program: str, pair: int) -> Helper:
    """Plays a graphics card at its end of a socket pair."""
    argv = [program, f"--fd={pair}"]
    acceleration = device.model.acceleration if device.model is not None else None
    if acceleration is not None and acceleration.accel3d:
        argv.append("--virgl")
    if acceleration is not None and acceleration.rendernode:
        argv.append(f"--render-node={acceleration.rendernode}")
    return Helper("vhost-user-gpu", alias, argv, [pair])


def passt(alias: str, device: Interface, socket: Path) -> Helper:
    """A network of the user's own for a card. Raises ConfigUnsupported, InternalError."""
    argv = ["passt", "--foreground", "--one-off", "--socket", str(socket), "--mac-addr", device.mac_address]
    if device.mtu is not None and device.mtu.size:
        argv += ["--mtu", str(device.mtu.size)]
    if device.source is not None and device.source.dev:
        argv += ["--interface", device.source.dev]
    if device.backend is not None and device.backend.log_file:
        argv += ["--log-file", device.backend.log_file]
    else:
        argv.append("--stderr")
    for ip in device.ips:
        argv += ["--address", ip.address or ""]
        if ip.prefix and ip.family in (None, "ipv4"):
            argv += ["--netmask", str(ip.prefix)]
    for forward in device.port_forwards:
        if forward.proto not in ("tcp", "udp"):
            raise InternalError(f"Invalid portForward proto value {forward.proto}")
        where = ""
        if forward.address:
            try:
                where = str(ipaddress.ip_address(forward.address))
            except ValueError:
                raise ConfigUnsupported(f"'{forward.address}' is no address to forward ports from") from None
            where += f"%{forward.dev}/" if forward.dev else "/"
        ranges = []
        for ports in forward.ranges:
            text = ("~" if ports.exclude else "") + str(ports.start or 0)
            text += f"-{ports.end}" if ports.end else ""
            if ports.to:
                text += f":{ports.to}"
                text += f"-{ports.end + ports.to - (ports.start or 0)}" if ports.end else ""
            ranges.append(text)
        argv += [f"--{forward.proto}-ports", where + (",".join(ranges) or "all")]
    return Helper("passt", alias, argv, socket=socket)


def reservations(alias: str, program: str, socket: Path) -> Helper:
    """Sends the commands of SCSI reservations, for which QEMU has no right. It goes on with that right alone."""
    return Helper("qemu-pr-helper", alias, [program, "-k", str(socket)], socket=socket, as_root=True)
