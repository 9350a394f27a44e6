"""<tpm>: a trusted platform module, emulated or the host's own."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias
from guesthouse.model.fields import Attr, Bool, Child, Choice, Element, Flag, Uuid


class TpmEncryption(Element, tag="encryption"):
    """``secret`` is the UUID of the one that the emulator's state is encrypted with."""

    secret: str | None = Attr("secret", Uuid, alias=("backend.encryption",))


class PcrBanks(Element, tag="active_pcr_banks"):
    """Which measurement registers are on."""

    sha1: bool = Flag("sha1")
    sha256: bool = Flag("sha256")
    sha384: bool = Flag("sha384")
    sha512: bool = Flag("sha512")

    @property
    def names(self) -> list[str]:
        return [spec.name for spec in self.SPECS if getattr(self, spec.name)]


class TpmDevice(Element, tag="device"):
    """The host's TPM, for passthrough."""

    path: str | None = Attr("path", alias=("path",))


class TpmSource(Element, tag="source"):
    """The control socket of a TPM emulator that somebody else runs."""

    type: str | None = Attr("type")
    mode: str | None = Attr("mode", Choice("connect", "bind"))
    path: str | None = Attr("path")


class TpmBackend(Element, tag="backend"):
    """``persistent_state`` keeps an emulator's state when a transient guest ends, or a definition goes."""

    type: str | None = Attr("type", Choice("passthrough", "emulator", "external"), required=True, alias=("type",))
    version: str | None = Attr("version", Choice("1.2", "2.0"), alias=("version",))
    persistent_state: bool | None = Attr("persistent_state", Bool)
    encryption: TpmEncryption | None = Child(TpmEncryption)
    active_pcr_banks: PcrBanks | None = Child(PcrBanks)
    device: TpmDevice | None = Child(TpmDevice)
    source: TpmSource | None = Child(TpmSource)


class Tpm(Element, tag="tpm"):
    """A trusted platform module."""

    model: str | None = Attr("model", Choice("tpm-tis", "tpm-crb", "tpm-spapr", "spapr-tpm-proxy"), alias=("model",))
    backend: TpmBackend | None = Child(TpmBackend)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def is_emulated(self) -> bool:
        """Whether an emulator of ours plays it."""
        return self.backend is not None and self.backend.type == "emulator"
