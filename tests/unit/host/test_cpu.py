"""The processor in libvirt's words, and the model that is chosen for it."""

from __future__ import annotations

from guesthouse.host import cpu
from guesthouse.host.cpu import CpuModel

AMD = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
microcode\t: 0xa101148
address sizes\t: 48 bits physical, 48 bits virtual
flags\t\t: fpu sse2 nonstop_tsc pni pclmulqdq sse4_1 xsave cr8_legacy stibp ssbd ibpb rep_good nopl constant_tsc

processor\t: 1
flags\t\t: fpu
"""
INTEL = """\
vendor_id\t: GenuineIntel
cpu family\t: 6
flags\t\t: fpu ibrs ibpb stibp ssbd tsc_deadline_timer arch_capabilities
"""


def test_amd() -> None:
    found = cpu.read(AMD)
    assert (found.vendor, found.family, found.model, found.stepping) == ("AMD", 25, 17, 1)
    assert (found.microcode, found.address_bits) == (0xA101148, 48)
    assert found.features == (
        *("fpu", "sse2", "pni", "pclmuldq", "sse4.1", "xsave", "osxsave"),
        *("cr8legacy", "invtsc", "ibpb", "amd-stibp", "amd-ssbd"),
    )


def test_the_same_words_mean_other_features_on_intel() -> None:
    found = cpu.read(INTEL)
    assert found.features == ("fpu", "tsc-deadline", "spec-ctrl", "stibp", "arch-capabilities", "ssbd")
    assert (found.vendor, found.microcode, found.address_bits) == ("Intel", 0, 0)


def test_a_machine_that_tells_nothing() -> None:
    assert cpu.read("") == cpu.HostCpu("unknown", 0, 0, 0, 0, 0, ())


MODELS = [
    CpuModel("kvm64", "unknown", ["fpu", "sse2", "hypervisor"]),
    CpuModel("EPYC", "AMD", ["fpu", "sse2", "avx2", "svm"]),
    CpuModel("EPYC-Rome", "AMD", ["fpu", "sse2", "avx2", "clwb", "svm"]),
    CpuModel("Haswell", "Intel", ["fpu", "sse2", "avx2", "clwb"]),
    CpuModel("max", "AMD", ["fpu", "sse2", "avx2", "clwb"]),
]


def test_contained_lacks_nothing() -> None:
    match = cpu.contained(MODELS, "AMD", ["fpu", "sse2", "avx2", "clwb"])
    assert match is not None
    assert (match.model.name, match.require, match.disable) == ("kvm64", ("avx2", "clwb"), ())
    match = cpu.contained(MODELS, "AMD", ["fpu", "sse2", "avx2", "svm", "gfni"])
    assert match is not None
    assert (match.model.name, match.require) == ("EPYC", ("gfni",))
    assert cpu.contained(MODELS, "AMD", ["fpu"]) is None


def test_nearest_has_the_fewest_differences() -> None:
    match = cpu.nearest(MODELS, "AMD", ["fpu", "sse2", "avx2", "clwb", "hypervisor"])
    assert match is not None
    assert (match.model.name, match.require, match.disable) == ("EPYC-Rome", ("hypervisor",), ("svm",))
    match = cpu.nearest(MODELS, "Hygon", ["fpu"])
    assert match is not None and match.model.name == "kvm64"
    assert cpu.nearest([], "AMD", ["fpu"]) is None


def test_nobodys_models() -> None:
    assert cpu.vendor_name("AuthenticAMD", "qemu64") == "unknown"
    assert cpu.vendor_name("AuthenticAMD", "EPYC") == "AMD"
    assert cpu.vendor_name("CentaurHauls") == "unknown"


def test_tables_name_nothing_twice() -> None:
    assert len(set(cpu.FEATURES)) == len(cpu.FEATURES)
    assert len(set(cpu.X86_MODELS)) == len(cpu.X86_MODELS) == 58
