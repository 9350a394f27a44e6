"""<launchSecurity>: memory that the host cannot read."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Bool, Choice, Element, Flag, Text, UInt


class LaunchSecurity(Element, tag="launchSecurity"):
    """AMD's SEV and SEV-SNP, Intel's TDX; which fields count depends on ``type``."""

    type: str | None = Attr("type", Choice("sev", "sev-snp", "s390-pv", "tdx"), required=True)
    kernel_hashes: bool | None = Attr("kernelHashes", Bool)
    author_key: bool | None = Attr("authorKey", Bool)
    vcek: bool | None = Attr("vcek", Bool)
    cbitpos: int | None = Text("cbitpos", UInt)
    reduced_phys_bits: int | None = Text("reducedPhysBits", UInt)
    policy: str | None = Text("policy")
    dh_cert: str | None = Text("dhCert")
    session: str | None = Text("session")
    guest_visible_workarounds: str | None = Text("guestVisibleWorkarounds")
    id_block: str | None = Text("idBlock")
    id_auth: str | None = Text("idAuth")
    host_data: str | None = Text("hostData")
    quote_generation_service: bool = Flag("quoteGenerationService")
