"""The host's processor in libvirt's words: vendor, features, and the CPU model that describes it best.

libvirt keeps a database of models. Here QEMU's own definitions (what ``query-cpu-model-expansion`` says that each has)
are compared with the features that the kernel shows, so a model's name always means what QEMU makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


def names(text: str) -> tuple[str, ...]:
    """The words of a table."""
    return tuple(text.split())


#: The x86 features that libvirt 9.0 knows, in its order.
FEATURES = names(
    """
    fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 pn clflush ds acpi mmx fxsr sse sse2 ss ht
    tm ia64 pbe pni pclmuldq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid fma cx16 xtpr pdcm pcid dca sse4.1 sse4.2
    x2apic movbe popcnt tsc-deadline aes xsave osxsave avx f16c rdrand hypervisor arat fsgsbase tsc_adjust sgx bmi1 hle
    avx2 smep bmi2 erms invpcid rtm cmt mpx avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb
    intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl avx512vbmi umip pku ospke waitpkg avx512vbmi2 gfni
    vaes vpclmulqdq avx512vnni avx512bitalg avx512-vpopcntdq la57 rdpid bus-lock-detect cldemote movdiri movdir64b
    sgxlc pks avx512-4vnniw avx512-4fmaps fsrm avx512-vp2intersect md-clear serialize tsx-ldtrk pconfig arch-lbr
    amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp arch-capabilities core-capability ssbd avx-vnni avx512-bf16
    xsaveopt xsavec xgetbv1 xsaves xfd syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm 3dnowext 3dnow lahf_lm cmp_legacy
    svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt lwp fma4 tce cvt16 nodeid_msr tbm
    topoext perfctr_core perfctr_nb invtsc clzero xsaveerptr wbnoinvd ibpb ibrs amd-stibp amd-ssbd virt-ssbd amd-no-ssb
    npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists pause-filter pfthreshold avic
    v-vmsave-vmload vgif svme-addr-chk
    """
)

#: The x86 models that libvirt 9.0 knows, in its order.
X86_MODELS = names(
    """
    486 pentium pentium2 pentium3 pentiumpro coreduo n270 core2duo qemu32 kvm32 cpu64-rhel5 cpu64-rhel6 qemu64 kvm64
    Conroe Penryn Nehalem Nehalem-IBRS Westmere Westmere-IBRS SandyBridge SandyBridge-IBRS IvyBridge IvyBridge-IBRS
    Haswell-noTSX Haswell-noTSX-IBRS Haswell Haswell-IBRS Broadwell-noTSX Broadwell-noTSX-IBRS Broadwell Broadwell-IBRS
    Skylake-Client Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Server Skylake-Server-IBRS
    Skylake-Server-noTSX-IBRS Cascadelake-Server Cascadelake-Server-noTSX Icelake-Client Icelake-Client-noTSX
    Icelake-Server Icelake-Server-noTSX Cooperlake Snowridge athlon phenom Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4
    Opteron_G5 EPYC EPYC-IBPB EPYC-Rome EPYC-Milan Dhyana
    """
)
PPC64_MODELS = ("POWER6", "POWER7", "POWER8", "POWER9", "POWER10", "POWERPC_e5500", "POWERPC_e6500")

_VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon"}
# models that stand for no maker's processor, though QEMU's definitions name one
_NEUTRAL = frozenset(
    names("486 pentium pentium2 pentium3 pentiumpro qemu32 kvm32 qemu64 kvm64 cpu64-rhel5 cpu64-rhel6")
)

# kernel's word: libvirt's, where they differ
_FLAGS = {
    "pclmulqdq": "pclmuldq",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "tsc_deadline_timer": "tsc-deadline",
    "sha_ni": "sha-ni",
    "intel_pt": "intel-pt",
    "cqm": "cmt",
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


@dataclass
class CpuModel:
    """One of QEMU's models. ``features`` are those that it turns on, in libvirt's words and order; ``blockers`` those
    that this QEMU, with the accelerator that was asked, cannot give, so that the model is not all there."""

    name: str
    vendor: str = "unknown"
    features: list[str] = field(default_factory=list)
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


@dataclass(frozen=True)
class Match:
    """A model, what comes to it, and what of it is missing."""

    model: CpuModel
    require: tuple[str, ...]
    disable: tuple[str, ...]


def vendor_name(cpuid: str, model: str = "") -> str:
    """The maker as libvirt calls it: "Intel", "AMD", "Hygon"; "unknown" of others and of models that are nobody's."""
    return "unknown" if model in _NEUTRAL else _VENDORS.get(cpuid, "unknown")


def ordered(features: Iterable[str]) -> list[str]:
    """Those of ``features`` that libvirt knows, in its order."""
    found = set(features)
    return [name for name in FEATURES if name in found]


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


def contained(models: Sequence[CpuModel], vendor: str, features: Sequence[str]) -> Match | None:
    """The largest model all of whose features are there; None where there is none. ``disable`` is always empty."""
    there = set(features)
    fitting = [m for m in _of_vendor(models, vendor) if there.issuperset(_own(m))]
    return _match(max(fitting, key=lambda m: len(m.features)), features) if fitting else None


def nearest(models: Sequence[CpuModel], vendor: str, features: Sequence[str]) -> Match | None:
    """The model that differs least from ``features``; of two, the one that has more; None where there is none."""
    matches = [_match(m, features) for m in _of_vendor(models, vendor)]
    if not matches:
        return None
    return min(matches, key=lambda m: (len(m.require) + len(m.disable), -len(m.model.features)))


def _of_vendor(models: Sequence[CpuModel], vendor: str) -> list[CpuModel]:
    return [m for m in models if m.name in X86_MODELS and m.features and m.vendor in (vendor, "unknown")]


def _own(model: CpuModel) -> set[str]:
    # every guest sees a hypervisor, whatever the model
    return set(model.features) - {"hypervisor"}


def _match(model: CpuModel, features: Sequence[str]) -> Match:
    own, wanted = _own(model), set(features)
    return Match(model, tuple(ordered(wanted - own)), tuple(ordered(own - wanted)))


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
