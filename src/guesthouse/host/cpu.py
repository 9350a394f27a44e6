"""Processors in libvirt's words: what a host's is, and the model with its differences that describes one best."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import InternalError
from guesthouse.host.x86 import FEATURES, MODELS, STAYS, VENDORS, Model, ordered


def names(text: str) -> tuple[str, ...]:
    """The words of a table."""
    return tuple(text.split())


# kernel's word: libvirt's, where they differ
_FLAGS = {
    "dts": "ds",
    "pclmulqdq": "pclmuldq",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "tsc_deadline_timer": "tsc-deadline",
    "sha_ni": "sha-ni",
    "intel_pt": "intel-pt",
    "cqm": "cmt",
    "cqm_mbm_total": "mbm_total",
    "cqm_mbm_local": "mbm_local",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni",
    "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512-vpopcntdq",
    "avx512_4vnniw": "avx512-4vnniw",
    "avx512_4fmaps": "avx512-4fmaps",
    "avx512_vp2intersect": "avx512-vp2intersect",
    "avx512_bf16": "avx512-bf16",
    "avx512_fp16": "avx512-fp16",
    "avx_vnni": "avx-vnni",
    "amx_bf16": "amx-bf16",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "bus_lock_detect": "bus-lock-detect",
    "sgx_lc": "sgxlc",
    "md_clear": "md-clear",
    "tsxldtrk": "tsx-ldtrk",
    "arch_lbr": "arch-lbr",
    "arch_capabilities": "arch-capabilities",
    "cr8_legacy": "cr8legacy",
    "nonstop_tsc": "invtsc",
    "virt_ssbd": "virt-ssbd",
    "amd_ssb_no": "amd-no-ssb",
    "svm_lock": "svm-lock",
    "nrip_save": "nrip-save",
    "tsc_scale": "tsc-scale",
    "vmcb_clean": "vmcb-clean",
    "pausefilter": "pause-filter",
    "v_vmsave_vmload": "v-vmsave-vmload",
    "svme_addr_chk": "svme-addr-chk",
}
# the kernel shows these for either maker's bits, which are different features
_INTEL_FLAGS = {"ibrs": "spec-ctrl", "ibpb": "", "stibp": "stibp", "ssbd": "ssbd"}
_AMD_FLAGS = {"stibp": "amd-stibp", "ssbd": "amd-ssbd"}

# Haswells whose transactions are broken: models, and the first stepping that is not (None: all are)
_BROKEN_TSX = {60: None, 63: 4, 69: None, 70: None}
# What a model is charged for features that it has and the processor has not: the first costs so much, each further one
# more.
_FIRST_FINE = 2


@dataclass
class CpuModel:
    """One of QEMU's models. ``blockers`` are the features that this QEMU, with the accelerator that was asked, cannot
    give, so that the model is not all there; in libvirt's words."""

    name: str
    blockers: list[str] = field(default_factory=list)
    deprecated: bool = False

    @property
    def usable(self) -> bool:
        return not self.blockers


@dataclass(frozen=True)
class HostCpu:
    """``features`` in libvirt's words and order; numbers are 0 where the machine does not tell."""

    vendor: str
    family: int
    model: int
    stepping: int
    microcode: int
    address_bits: int
    features: tuple[str, ...]


@dataclass
class Processor:
    """A processor by what it can do. ``vendor`` is "" where it is nobody's that libvirt knows, ``signature`` its family,
    model and stepping (zeros: unknown)."""

    features: set[str]
    vendor: str = ""
    signature: tuple[int, int, int] = (0, 0, 0)


@dataclass
class Named:
    """A processor by a model and what differs: ``features`` are names with policies, in libvirt's order."""

    model: str
    vendor: str = ""
    features: dict[str, str] = field(default_factory=dict)

    def whole(self) -> set[str]:
        """All that it has."""
        return whole(MODELS[self.model], self.features)


def whole(model: Model, features: Mapping[str, str]) -> set[str]:
    """What ``model`` has with ``features``, names with policies; of those that are optional nothing is known."""
    found = set(model.features)
    for name, policy in features.items():
        if policy in ("require", "force"):
            found.add(name)
        elif policy != "optional":
            found.discard(name)
    return found


def vendor_name(cpuid: str) -> str:
    """The maker as libvirt calls it: "Intel", "AMD", "Hygon"; "" of others."""
    return next((name for name, text in VENDORS.items() if text == cpuid), "")


def read(cpuinfo: str) -> HostCpu:
    """The first processor of a /proc/cpuinfo."""
    rows: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if not colon and rows:
            break
        rows[name.strip()] = value.strip()
    vendor = vendor_name(rows.get("vendor_id", ""))
    words = _FLAGS | (_INTEL_FLAGS if vendor == "Intel" else _AMD_FLAGS)
    features = {words.get(flag, flag) for flag in rows.get("flags", "").split()}
    if "xsave" in features:
        features.add("osxsave")  # the kernel shows the one only where it has switched on the other
    return HostCpu(
        vendor=vendor,
        family=_number(rows.get("cpu family", "")),
        model=_number(rows.get("model", "")),
        stepping=_number(rows.get("stepping", "")),
        microcode=_number(rows.get("microcode", "")),
        address_bits=_number(rows.get("address sizes", "").partition(" ")[0]),
        features=tuple(ordered(features)),
    )


def describe_host(cpu: HostCpu) -> Named | None:
    """The model all of whose features the host has and that leaves the least to be said; None where there is none."""
    processor = Processor(set(cpu.features), cpu.vendor, (cpu.family, cpu.model, cpu.stepping))
    try:
        return describe(processor, for_host=True)
    except InternalError:
        return None


def describe(
    cpu: Processor,
    models: Mapping[str, Sequence[str]] | None = None,
    preferred: Collection[str] = (),
    *,
    for_host: bool = False,
    migratable: bool = False,
) -> Named:
    """The model that describes ``cpu`` best, and what differs.

    ``models`` are those that the hypervisor has, with what blocks each (None: all that there are); one of ``preferred``
    is taken where it has as few features too many, and a single one always. One that describes a host has no features
    too many. ``migratable`` leaves out what would keep a guest on its host. Raises InternalError where nothing fits.
    """
    features = set(cpu.features)
    if cpu.vendor == "Intel" and _tsx_is_broken(cpu.signature):
        features -= {"hle", "rtm"}
    best: tuple[Model, dict[str, str]] | None = None
    for model in reversed(MODELS.values()):  # of two that are as good, the newer
        if models is not None and model.name not in models:
            continue
        if cpu.vendor and model.vendor and cpu.vendor != model.vendor:
            continue
        if not (model.for_hosts if for_host else model.for_guests):
            continue
        differing = _differing(features, model, models[model.name] if models is not None else ())
        if for_host and "disable" in differing.values():
            continue
        if not for_host:
            for name in model.removed:
                differing.setdefault(name, "disable")
        if set(preferred) == {model.name}:
            best = model, differing
            break
        if best is None or _is_better(best, (model, differing), cpu.signature, model.name in preferred, for_host):
            best = model, differing
    if best is None:
        raise InternalError("Cannot find suitable CPU model for given data", domain=ErrorDomain.CPU)
    model, differing = best
    if migratable:
        differing = {name: policy for name, policy in differing.items() if name not in STAYS}
    return Named(model.name, cpu.vendor, differing)


def _tsx_is_broken(signature: tuple[int, int, int]) -> bool:
    family, model, stepping = signature
    if family != 6 or model not in _BROKEN_TSX:
        return False
    mended = _BROKEN_TSX[model]
    return mended is None or stepping < mended


def _differing(features: set[str], model: Model, blockers: Sequence[str]) -> dict[str, str]:
    extra = features - model.features
    # what the hypervisor's own definition of the model wants and cannot have is switched off by name
    missing = (model.features - features) | {name for name in blockers if name in FEATURES and name not in extra}
    return dict.fromkeys(ordered(extra), "require") | dict.fromkeys(ordered(missing), "disable")


def _is_better(
    best: tuple[Model, dict[str, str]],
    other: tuple[Model, dict[str, str]],
    signature: tuple[int, int, int],
    preferred: bool,
    for_host: bool,
) -> bool:
    if signature[0] or signature[1]:
        before, after = _signed(best[0], signature), _signed(other[0], signature)
        if before != after:
            return after
    (before_cost, before_fine), (cost, fine) = (_cost(each[1], for_host) for each in (best, other))
    return cost < before_cost or (cost == before_cost and fine < before_fine) or (preferred and fine < before_fine)


def _signed(model: Model, signature: tuple[int, int, int]) -> bool:
    return any(signature[:2] == each[:2] and signature[2] in each[2] for each in model.signatures)


def _cost(differing: dict[str, str], for_host: bool) -> tuple[int, int]:
    """How much there is to say beside a model, and which part of that is for features too many."""
    if for_host:
        return len(differing), 0
    off = sum(policy == "disable" for policy in differing.values())
    charged = (off + 1) // 2  # libvirt's own count: every second one
    fine = sum(range(_FIRST_FINE, _FIRST_FINE + charged))
    return len(differing) - charged + fine, fine


@dataclass(frozen=True)
class Hypervisor:
    """What an emulator with an accelerator makes of processors: ``models`` that it has with what blocks each, ``known``
    features of which it has heard at all.

    ``reported`` describes the best processor that it gives, ``migratable`` the best that can leave the host, ``full``
    that one beside the host's own features; all None where it does not tell."""

    models: Mapping[str, Sequence[str]]
    known: frozenset[str] = frozenset()
    reported: Named | None = None
    migratable: Named | None = None
    full: Named | None = None


def hypervisor(
    models: Sequence[CpuModel],
    best: Processor | None,
    stays: Collection[str] = (),
    known: Collection[str] = (),
    host: HostCpu | None = None,
) -> Hypervisor:
    """``best`` is all that QEMU would give, ``stays`` what of that would keep a guest on its host; ``host`` is the
    machine's own processor where guests run on it and not in emulation."""
    blocked = {model.name: model.blockers for model in models}
    if best is None:
        return Hypervisor(blocked, frozenset(known))
    reported = describe(best, blocked)
    movable = Processor(best.features - set(stays), best.vendor, best.signature)
    full = reported
    if host is not None:
        own = Processor(set(host.features), host.vendor, (host.family, host.model, host.stepping))
        full = describe(own)
        for name in ordered(reported.whole()):
            full.features[name] = "require"
    return Hypervisor(blocked, frozenset(known), reported, describe(movable, blocked), full)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
