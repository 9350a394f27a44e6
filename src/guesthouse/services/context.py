"""What every service gets: where files are, what was configured, the store and the event bus."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.services.events import EventBus
from guesthouse.services.store import Store


@dataclass(frozen=True)
class Paths:
    """The folders of a daemon. ``run`` is emptied by a reboot, the others are not."""

    config: Path
    state: Path
    run: Path
    log: Path
    cache: Path

    @classmethod
    def for_root(cls, root: Path) -> Paths:
        """Everything below ``root``."""
        return cls(root / "etc", root / "lib", root / "run", root / "log", root / "cache")

    @classmethod
    def system(cls) -> Paths:
        return cls(
            Path("/etc/guesthouse"),
            Path("/var/lib/guesthouse"),
            Path("/run/guesthouse"),
            Path("/var/log/guesthouse"),
            Path("/var/cache/guesthouse"),
        )

    @classmethod
    def session(cls) -> Paths:
        """The XDG folders of the user."""

        def xdg(name: str, default: str) -> Path:
            return Path(os.environ.get(name) or Path.home() / default) / "guesthouse"

        cache = xdg("XDG_CACHE_HOME", ".cache")
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        run = Path(runtime) / "guesthouse" if runtime else cache
        return cls(xdg("XDG_CONFIG_HOME", ".config"), xdg("XDG_DATA_HOME", ".local/share"), run, cache / "log", cache)

    def make(self) -> None:
        """Make the folders; other users may pass through those that hold images, and look into none."""
        for path, mode in (
            (self.config, 0o755),
            (self.state, 0o711),
            (self.run, 0o755),
            (self.log, 0o711),
            (self.cache, 0o711),
        ):
            if not path.exists():
                path.mkdir(parents=True)
                path.chmod(mode)


@dataclass
class Config:
    """What the configuration file says (guesthoused.toml); see docs/daemon.md.

    ``user`` and ``group`` are whom QEMU runs as ("": an unprivileged user of the system's). ``listen_tcp`` and
    ``listen_tls`` are an ADDRESS:PORT to serve ("": none), ``auth_*`` how who comes in there proves who it is: "sasl",
    or "none" (beside its certificate, for TLS). ``tls_*`` are files ("": libvirt's places) and the certificates' names
    that are let in (none: all). ``access`` are the rows of who may do what. ``qemu`` maps an architecture to its QEMU
    binary. ``*_auto_unix_socket``: screens that do not say where they listen do at a socket in the guest's folder.
    ``*_tls`` have QEMU encrypt its screens and character devices, with the certificates of ``*_cert_dir``.
    """

    user: str = ""
    group: str = ""
    socket_group: str = "libvirt"
    socket_mode: str = "0770"
    vnc_listen: str = "127.0.0.1"
    listen_tcp: str = ""
    listen_tls: str = ""
    auth_unix_rw: str = "none"
    auth_unix_ro: str = "none"
    auth_tcp: str = "sasl"
    auth_tls: str = "none"
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_crl: str = ""
    tls_allowed: list[str] = field(default_factory=list)
    vnc_auto_unix_socket: bool = False
    spice_auto_unix_socket: bool = False
    vnc_tls: bool = False
    vnc_tls_x509_cert_dir: str = "/etc/pki/libvirt-vnc"
    vnc_tls_x509_verify: bool = False
    spice_tls: bool = False
    spice_tls_x509_cert_dir: str = "/etc/pki/libvirt-spice"
    chardev_tls: bool = False
    chardev_tls_x509_cert_dir: str = "/etc/pki/libvirt-chardev"
    max_clients: int = 5000
    max_anonymous_clients: int = 20
    client_requests: int = 5
    keepalive_interval: int = 5
    keepalive_count: int = 5
    log_level: str = "info"
    qemu: dict[str, str] = field(default_factory=dict)
    access: list[Any] = field(default_factory=list)


@dataclass
class Context:
    """``mode`` is "system" or "session"."""

    paths: Paths
    mode: str
    store: Store
    events: EventBus
    config: Config
