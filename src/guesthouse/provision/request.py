"""What somebody wants to have made: a guest's document so far, and what does not stand in a document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from guesthouse.model.domain import Domain, Os, OsType
from guesthouse.model.fields import Element
from guesthouse.model.launch_security import LaunchSecurity
from guesthouse.provision import osinfo
from guesthouse.provision.host import Offer
from guesthouse.provision.storage import NewVolume

#: Root ports of a guest on a PCIe machine: QEMU 6.1 hangs with 15 or more.
ROOT_PORTS = 14


@dataclass
class Request:
    """A guest to be. ``without`` names families of devices that are not added by default; ``volumes`` are made before
    the guest starts, ``cpu_mode`` is one of virt-install's words for a whole CPU ("host-passthrough")."""

    domain: Domain
    os: osinfo.Os = field(default_factory=lambda: osinfo.find(osinfo.GENERIC))
    volumes: list[NewVolume] = field(default_factory=list)
    without: set[str] = field(default_factory=set)
    uefi: bool | None = None
    cpu_mode: str | None = None
    security: LaunchSecurity | None = None
    cpu_given: bool = False
    #: whether a named CPU gets the features that guard against its own flaws
    cpu_secure: bool = True
    root_ports: int = ROOT_PORTS
    #: devices of the host that were named: what is to be filled with them, and the name
    named: list[tuple[Element, str]] = field(default_factory=list)
    offer: Offer | None = None
    #: whether the host's hypervisor has virtio devices
    has_virtio: bool = True
    #: whether the user left the kind of hypervisor to us
    default_type: bool = False

    @property
    def boot(self) -> Os:
        """The <os> element, made where there is none."""
        return part(self.domain, "os", Os)

    @property
    def kind(self) -> OsType:
        return part(self.boot, "type", OsType)

    @property
    def arch(self) -> str:
        return self.domain.arch

    @property
    def machine(self) -> str:
        return self.domain.machine

    @property
    def is_x86(self) -> bool:
        return self.arch in ("x86_64", "i686")

    @property
    def is_hvm(self) -> bool:
        return self.kind.value == "hvm"

    @property
    def is_q35(self) -> bool:
        return self.is_x86 and "q35" in self.machine

    @property
    def is_arm_virt(self) -> bool:
        return self.arch in ("armv7l", "aarch64") and self.machine.startswith("virt")

    @property
    def is_riscv_virt(self) -> bool:
        return self.arch in ("riscv64", "riscv32") and self.machine.startswith("virt")

    @property
    def is_pseries(self) -> bool:
        return self.arch in ("ppc64", "ppc64le") and self.machine.startswith("pseries")

    @property
    def is_s390x(self) -> bool:
        return self.arch == "s390x"

    @property
    def is_loongarch(self) -> bool:
        return self.arch == "loongarch64"

    @property
    def is_pcie(self) -> bool:
        """Whether the machine's bus is PCI Express, where devices need root ports."""
        return self.is_q35 or self.is_arm_virt or self.is_riscv_virt or self.is_loongarch

    @property
    def is_uefi(self) -> bool:
        loader = self.boot.loader
        return self.boot.firmware == "efi" or (loader is not None and bool(loader.path) and loader.type == "pflash")

    @property
    def has_spice(self) -> bool:
        return any(display.type == "spice" for display in self.domain.dev.graphics)

    def virtio(self, device: str) -> bool:
        """Whether the guest gets ``device`` ("virtio-net") as virtio: its machine has nothing else, or its system
        knows it."""
        if not self.has_virtio:
            return False
        if self.is_riscv_virt or self.is_s390x or self.is_pseries or self.is_loongarch:
            return True
        return self.os.supports(device)


_E = TypeVar("_E", bound=Element)


def part(owner: Element, name: str, kind: type[_E]) -> _E:
    """The child ``name`` of ``owner``, made where there is none."""
    found = getattr(owner, name)
    if found is None:
        found = kind()
        setattr(owner, name, found)
    assert isinstance(found, kind)
    return found
