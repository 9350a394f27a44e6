"""x86 processors as libvirt's documents name them: which bit each feature is, and what each model has.

The names are part of documents, which travel between hosts: "EPYC" must mean here what it means on any libvirt host,
whatever QEMU makes of it. So these tables say what libvirt 9.0 means; a test compares them with what its daemon tells.
The bits themselves are those of Intel's and AMD's manuals. Data alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Register(NamedTuple):
    """What CPUID answers with for ``leaf`` and ``subleaf``; "msr" and the number of one of the processor's own."""

    leaf: int | str
    subleaf: int
    name: str


# Names by bit, in libvirt's order; "20:nx" goes on at bit 20.
_REGISTERS: dict[Register, str] = {
    Register(0x1, 0, "edx"): """
        fpu vme de pse tsc msr pae mce cx8 apic 11:sep mtrr pge mca cmov pat pse36 pn clflush 21:ds acpi mmx fxsr sse
        sse2 ss ht tm ia64 pbe
        """,
    Register(0x1, 0, "ecx"): """
        pni pclmuldq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid 12:fma cx16 xtpr pdcm 17:pcid dca sse4.1 sse4.2
        x2apic movbe popcnt tsc-deadline aes xsave osxsave avx f16c rdrand hypervisor
        """,
    Register(0x6, 0, "eax"): "2:arat",
    Register(0x7, 0, "ebx"): """
        fsgsbase tsc_adjust sgx bmi1 hle avx2 7:smep bmi2 erms invpcid rtm cmt 14:mpx 16:avx512f avx512dq rdseed adx
        smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl
        """,
    Register(0x7, 0, "ecx"): """
        1:avx512vbmi umip pku ospke waitpkg avx512vbmi2 8:gfni vaes vpclmulqdq avx512vnni avx512bitalg
        14:avx512-vpopcntdq 16:la57 22:rdpid 24:bus-lock-detect cldemote 27:movdiri movdir64b 30:sgxlc pks
        """,
    Register(0x7, 0, "edx"): """
        2:avx512-4vnniw avx512-4fmaps fsrm 8:avx512-vp2intersect 10:md-clear 14:serialize 16:tsx-ldtrk 18:pconfig
        arch-lbr 22:amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp 29:arch-capabilities core-capability ssbd
        """,
    Register(0x7, 1, "eax"): "4:avx-vnni avx512-bf16",
    Register(0xD, 1, "eax"): "xsaveopt xsavec xgetbv1 xsaves xfd",
    Register(0xF, 1, "edx"): "1:mbm_total mbm_local",
    Register(0x12, 0, "eax"): "sgx1 sgx2",
    Register(0x12, 0, "ebx"): "sgx-exinfo",
    Register(0x12, 1, "eax"): "1:sgx-debug sgx-mode64 4:sgx-provisionkey sgx-tokenkey 7:sgx-kss",
    Register(0x14, 0, "ecx"): "31:intel-pt-lip",
    Register(0x80000001, 0, "edx"): "11:syscall 20:nx 22:mmxext 25:fxsr_opt pdpe1gb rdtscp 29:lm 3dnowext 3dnow",
    Register(0x80000001, 0, "ecx"): """
        lahf_lm cmp_legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt 15:lwp
        fma4 tce cvt16 nodeid_msr 21:tbm topoext perfctr_core perfctr_nb
        """,
    Register(0x80000007, 0, "edx"): "8:invtsc",
    Register(0x80000008, 0, "ebx"): """
        clzero 2:xsaveerptr 9:wbnoinvd 12:ibpb 14:ibrs amd-stibp 24:amd-ssbd virt-ssbd amd-no-ssb
        """,
    Register(0x8000000A, 0, "edx"): """
        npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists 10:pause-filter 12:pfthreshold
        avic 15:v-vmsave-vmload vgif 28:svme-addr-chk
        """,
    Register("msr", 0x10A, "eax"): """
        rdctl-no ibrs-all rsba skip-l1dfl-vmentry ssb-no mds-no pschange-mc-no tsx-ctrl taa-no
        """,
    Register("msr", 0xCF, "eax"): "5:split-lock-detect",
}


@dataclass(frozen=True)
class Model:
    """``vendor`` is "" of what is no maker's own. ``signatures`` are families and models, with the steppings where not
    all. ``removed`` are features that it once had, which guests are told to be without. ``for_hosts`` and ``for_guests``
    say whose processors may be described by it."""

    name: str
    vendor: str
    features: frozenset[str]
    signatures: tuple[tuple[int, int, range], ...] = ()
    removed: tuple[str, ...] = ()
    for_hosts: bool = True
    for_guests: bool = True


# A line a model: name, maker ("-": nobody's), families and models with their steppings, "=" what it is made from, what it has
# beyond that, "-" what it lacks of that, "~" what was removed, "!" whom it does not describe.
_MODELS = """
    486 - fpu vme pse
    pentium - =486 de tsc msr mce cx8 mmx
    pentium2 - =pentium pae sep mtrr pge mca cmov pat pse36 fxsr
    pentium3 - =pentium2 sse
    pentiumpro - =pentium3 apic sse2 -vme -mtrr -mca -pse36
    coreduo Intel =pentium3 apic clflush sse2 pni monitor nx -pse36
    n270 Intel =coreduo ssse3
    core2duo Intel =n270 pse36 syscall lm
    qemu32 - =pentiumpro pni
    kvm32 - =qemu32 mtrr mca pse36 clflush
    cpu64-rhel5 - =kvm32 syscall nx lm !hosts !guests
    cpu64-rhel6 - =cpu64-rhel5 cx16 lahf_lm !hosts !guests
    qemu64 - =cpu64-rhel5 cx16 svm
    kvm64 - =cpu64-rhel5 cx16
    Conroe Intel 6/15 6/22 =cpu64-rhel5 ssse3 lahf_lm
    Penryn Intel 6/23 6/29 =cpu64-rhel6 ssse3 sse4.1
    Nehalem Intel 6/26 6/30 6/31 6/46 =Penryn sse4.2 popcnt
    Nehalem-IBRS Intel 6/26 6/30 6/31 6/46 =Nehalem spec-ctrl
    Westmere Intel 6/44 6/47 6/37 =Nehalem aes
    Westmere-IBRS Intel 6/44 =Nehalem-IBRS aes
    SandyBridge Intel 6/42 6/45 =Westmere pclmuldq x2apic tsc-deadline xsave avx rdtscp
    SandyBridge-IBRS Intel 6/42 6/45 =SandyBridge spec-ctrl
    IvyBridge Intel 6/58 6/62 =SandyBridge vme f16c rdrand fsgsbase smep erms
    IvyBridge-IBRS Intel 6/58 6/62 =IvyBridge spec-ctrl
    Haswell-noTSX Intel 6/60 6/63 6/69 6/70 =SandyBridge fma pcid movbe fsgsbase bmi1 avx2 smep bmi2 erms invpcid
    Haswell-noTSX-IBRS Intel 6/60 6/63 6/69 6/70 =Haswell-noTSX spec-ctrl
    Haswell Intel 6/60 6/63 6/69 6/70 =Haswell-noTSX hle rtm
    Haswell-IBRS Intel 6/60 6/63 6/69 6/70 =Haswell spec-ctrl
    Broadwell-noTSX Intel 6/61 6/71 6/79 6/86 =Haswell-noTSX rdseed adx smap 3dnowprefetch
    Broadwell-noTSX-IBRS Intel 6/61 6/71 6/79 6/86 =Broadwell-noTSX spec-ctrl
    Broadwell Intel 6/61 6/71 6/79 6/86 =Broadwell-noTSX hle rtm
    Broadwell-IBRS Intel 6/61 6/71 6/79 6/86 =Broadwell spec-ctrl
    Skylake-Client Intel 6/94 6/78 6/142 6/158 =Broadwell vme f16c rdrand arat mpx xsaveopt xsavec xgetbv1 abm
    Skylake-Client-IBRS Intel 6/94 6/78 6/142 6/158 =Skylake-Client spec-ctrl
    Skylake-Client-noTSX-IBRS Intel 6/94 6/78 6/142 6/158 =Skylake-Client-IBRS -hle -rtm !guests
    Skylake-Server Intel 6/85/0-4 =Skylake-Client avx512f avx512dq clwb avx512cd avx512bw avx512vl pdpe1gb
    Skylake-Server-IBRS Intel 6/85/0-4 =Skylake-Server spec-ctrl
    Skylake-Server-noTSX-IBRS Intel 6/85/0-4 =Skylake-Server-IBRS -hle -rtm !guests
    Cascadelake-Server Intel 6/85/5-7 =Skylake-Server-IBRS clflushopt avx512vnni ssbd
    Cascadelake-Server-noTSX Intel 6/85/5-7 =Cascadelake-Server -hle -rtm !guests
    Icelake-Client Intel 6/126 =Skylake-Client-IBRS avx512vbmi umip pku avx512vbmi2 gfni vaes vpclmulqdq avx512vnni
        avx512bitalg avx512-vpopcntdq ssbd wbnoinvd ~intel-pt
    Icelake-Client-noTSX Intel 6/126 =Icelake-Client -hle -rtm ~intel-pt !guests
    Icelake-Server Intel 6/106 =Icelake-Client avx512f avx512dq clflushopt clwb avx512cd avx512bw avx512vl la57
        pdpe1gb ~intel-pt
    Icelake-Server-noTSX Intel 6/106 =Icelake-Server -hle -rtm ~intel-pt !guests
    Cooperlake Intel 6/85/10-11 =Cascadelake-Server pku stibp arch-capabilities avx512-bf16 rdctl-no ibrs-all
        skip-l1dfl-vmentry mds-no pschange-mc-no taa-no -mpx
    Snowridge Intel 6/134 =IvyBridge-IBRS movbe arat rdseed smap clflushopt clwb sha-ni umip gfni cldemote movdiri
        movdir64b arch-capabilities core-capability ssbd xsaveopt xsavec xgetbv1 pdpe1gb 3dnowprefetch
        split-lock-detect -avx -f16c
    athlon AMD =pentium3 apic sse2 mmxext 3dnowext 3dnow -mca
    phenom AMD =cpu64-rhel5 monitor mmxext fxsr_opt 3dnowext 3dnow svm
    Opteron_G1 AMD 15/6 =cpu64-rhel5
    Opteron_G2 AMD 15/6 =cpu64-rhel6 rdtscp svm
    Opteron_G3 AMD 15/6 =Opteron_G2 popcnt abm sse4a misalignsse ~monitor
    Opteron_G4 AMD 21/1 =Opteron_G3 pclmuldq ssse3 sse4.1 sse4.2 aes xsave avx pdpe1gb 3dnowprefetch xop fma4
    Opteron_G5 AMD 21/2 =Opteron_G4 fma f16c tbm
    EPYC AMD 23/1 =Opteron_G5 vme movbe rdrand arat fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha-ni
        xsaveopt xsavec xgetbv1 mmxext fxsr_opt cr8legacy osvw -xop -fma4 -tbm ~monitor
    EPYC-IBPB AMD 23/1 =EPYC ibpb ~monitor
    EPYC-Rome AMD 23/49 =EPYC-IBPB clwb umip rdpid perfctr_core clzero xsaveerptr wbnoinvd amd-stibp npt nrip-save
    EPYC-Milan AMD 25/1 =EPYC-Rome pcid erms invpcid pku fsrm xsaves ibrs amd-ssbd svme-addr-chk
    Dhyana Hygon 24/0 =EPYC-IBPB -pclmuldq -aes -sha-ni ~monitor
    """

VENDORS = {"Intel": "GenuineIntel", "AMD": "AuthenticAMD", "Hygon": "HygonGenuine"}
#: What would keep a guest on its host.
STAYS = frozenset(("xsaves", "invtsc"))
#: What says that there are features that CPUID does not show.
MSR_SHOWN_BY = frozenset(("arch-capabilities", "core-capability"))


def _features() -> dict[str, tuple[Register, int]]:
    found = {}
    for register, words in _REGISTERS.items():
        bit = -1
        for word in words.split():
            jump, _, name = word.rpartition(":")
            bit = int(jump) if jump else bit + 1
            found[name] = (register, bit)
    return found


#: Where each feature is, in libvirt's order.
FEATURES = _features()


def _models() -> dict[str, Model]:
    found: dict[str, Model] = {}
    for line in _MODELS.replace("\n        ", " ").split("\n"):
        if not line.strip():
            continue
        name, maker, *words = line.split()
        features: set[str] = set()
        signatures, removed = [], []
        for word in words:
            match word[0]:
                case "=":
                    features |= found[word[1:]].features
                case "-":
                    features.remove(word[1:])
                case "~":
                    removed.append(word[1:])
                case "!":
                    pass
                case _ if "/" in word:
                    family, model, *steppings = word.split("/")
                    first, _, last = (steppings or ["0-15"])[0].partition("-")
                    signatures.append((int(family), int(model), range(int(first), int(last) + 1)))
                case _:
                    features.add(word)
        found[name] = Model(
            name,
            "" if maker == "-" else maker,
            frozenset(features),
            tuple(signatures),
            tuple(removed),
            for_hosts="!hosts" not in words,
            for_guests="!guests" not in words,
        )
    return found


#: The models in libvirt's order, which is from old to new.
MODELS = _models()


def ordered(features: Iterable[str]) -> list[str]:
    """Those of ``features`` that libvirt knows, in its order."""
    found = set(features)
    return [name for name in FEATURES if name in found]


def in_registers(values: Mapping[Register, int]) -> set[str]:
    """The features whose bits are set."""
    return {name for name, (register, bit) in FEATURES.items() if values.get(register, 0) >> bit & 1}
