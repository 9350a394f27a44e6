"""The processor in libvirt's words, and the model that describes it: machines made up from what makers publish. The
choices are libvirt's: its daemon made the same when its cache was told that QEMU had found such machines."""

from __future__ import annotations

import pytest

from guesthouse.errors import InternalError
from guesthouse.host import cpu, cpuid, x86
from guesthouse.host.cpu import CpuModel, Processor, describe, describe_host, hypervisor
from guesthouse.host.x86 import MODELS, Register

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
flags\t\t: fpu dts ibrs ibpb stibp ssbd tsc_deadline_timer arch_capabilities
"""


def test_the_kernels_words() -> None:
    found = cpu.read(AMD)
    assert (found.vendor, found.family, found.model, found.stepping) == ("AMD", 25, 17, 1)
    assert (found.microcode, found.address_bits) == (0xA101148, 48)
    assert found.features == (
        *("fpu", "sse2", "pni", "pclmuldq", "sse4.1", "xsave", "osxsave"),
        *("cr8legacy", "invtsc", "ibpb", "amd-stibp", "amd-ssbd"),
    )
    # some mean other features on Intel
    found = cpu.read(INTEL)
    assert found.features == ("fpu", "ds", "tsc-deadline", "spec-ctrl", "stibp", "arch-capabilities", "ssbd")
    assert (found.vendor, found.microcode, found.address_bits) == ("Intel", 0, 0)
    assert cpu.read("") == cpu.HostCpu("", 0, 0, 0, 0, 0, ())


def test_cpuid() -> None:
    """A processor that has what it says, of the leaves that it has."""
    leaves = {
        (0x0, 0): (0xD, 0, 0, 0),
        (0x1, 0): (0x506E3, 0, 1 << 28 | 1 << 31, 1 << 25),
        (0x7, 0): (0, 1 << 5, 0, 1 << 29),
        (0x7, 1): (1 << 5, 0, 0, 0),  # which leaf 7 does not say that it has
        (0xD, 1): (1 << 3, 0, 0, 0),
        (0x14, 0): (0, 0, 1 << 31, 0),  # beyond the last leaf
        (0x80000000, 0): (0x80000001, 0, 0, 0),
        (0x80000001, 0): (0, 0, 1, 1 << 20),
        (0x80000007, 0): (0, 0, 0, 1 << 8),
    }

    def ask(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return leaves.get((leaf, subleaf), (0, 0, 0, 0))

    shown = {"avx", "hypervisor", "sse", "avx2", "arch-capabilities", "xsaves", "lahf_lm", "nx"}
    assert cpuid.features(ask, lambda number: None) == shown
    assert cpuid.features(ask, lambda number: 1 << 5 if number == 0x10A else None) == shown | {"mds-no"}
    leaves[0x7, 0] = (1, 0, 0, 0)
    assert "avx512-bf16" in cpuid.features(ask, lambda number: None)
    native = cpuid.native()
    assert native is None or {"fpu", "sse2"} <= native


def have(model: str, more: str = "", less: str = "") -> set[str]:
    return (set(MODELS[model].features) | set(more.split())) - set(less.split())


NEW_INTEL = "hypervisor ss arat tsc_adjust umip md-clear ssbd xsaves invtsc pdpe1gb arch-capabilities"


@pytest.mark.parametrize(
    ("vendor", "signature", "features", "model", "differing"),
    [
        # its transactions are broken, the server's of a later stepping are not
        (
            *("Intel", (6, 60, 3), have("Haswell", "hypervisor vme")),
            *("Haswell-noTSX", {"vme": "require", "hypervisor": "require"}),
        ),
        ("Intel", (6, 63, 4), have("Haswell"), "Haswell", {}),
        # the steppings of one family and model are three makers' worth of processors
        ("Intel", (6, 85, 4), have("Skylake-Server-IBRS", NEW_INTEL), "Skylake-Server-IBRS", None),
        ("Intel", (6, 85, 7), have("Cascadelake-Server", NEW_INTEL, "mpx"), "Cascadelake-Server", None),
        ("Intel", (6, 85, 11), have("Cooperlake", NEW_INTEL, "hle rtm"), "Cooperlake", None),
        # what was removed of a model is off
        (
            *("Intel", (6, 106, 6), have("Icelake-Server", "", "mpx")),
            *("Icelake-Server", {"mpx": "disable", "intel-pt": "disable"}),
        ),
        ("AMD", (23, 1, 2), have("EPYC"), "EPYC", {"monitor": "disable"}),
        ("AMD", (23, 49, 0), have("EPYC-Rome", "topoext"), "EPYC-Rome", {"topoext": "require"}),
        # nobody's signature: what leaves the least to be said
        ("AMD", (25, 17, 1), have("EPYC-Milan", "gfni la57"), "EPYC-Milan", {"gfni": "require", "la57": "require"}),
        ("Hygon", (24, 0, 1), have("Dhyana"), "Dhyana", {"monitor": "disable"}),
        ("", (6, 15, 3), have("Penryn"), "Conroe", {"sse4.1": "require", "cx16": "require"}),
        # a signature counts for more than features
        ("AMD", (23, 49, 0), have("EPYC-Rome", "", "avx avx2 xsave sse4.1 sse4.2 fma bmi1"), "EPYC-Rome", None),
    ],
)
def test_the_model_for_a_guest(
    vendor: str, signature: tuple[int, int, int], features: set[str], model: str, differing: dict[str, str] | None
) -> None:
    found = describe(Processor(features, vendor, signature))
    assert (found.model, found.vendor) == (model, vendor)
    assert differing is None or found.features == dict(sorted(differing.items(), key=lambda item: order(item[0])))
    # a model with its differences is the processor again, but for what the model was not told of
    assert found.whole() >= features - {"hle", "rtm"} if vendor == "Intel" else found.whole() == features


def order(feature: str) -> int:
    return list(x86.FEATURES).index(feature)


def test_the_model_for_a_host_has_nothing_too_much() -> None:
    host = cpu.HostCpu("AMD", 25, 17, 1, 0, 48, tuple(have("EPYC-Milan", "gfni", "svm nrip-save")))
    found = describe_host(host)
    assert found is not None and set(found.features.values()) == {"require"}
    assert found.model == "kvm64" and set(host.features) == found.whole()  # each EPYC has svm
    assert describe_host(cpu.HostCpu("AMD", 0, 0, 0, 0, 0, ("fpu",))) is None


def test_a_model_is_blocked_by_what_qemu_cannot_give() -> None:
    features = have("EPYC-Rome")
    models = [CpuModel("EPYC", ["npt"]), CpuModel("EPYC-Rome", ["svm", "unheard-of"]), CpuModel("max")]
    found = hypervisor(models, Processor(features | {"invtsc"}, "AMD"), ["invtsc"], ["svm", "lm"])
    assert found.reported is not None and found.migratable is not None
    # the emulator's own EPYC-Rome is told to do without, whatever its best processor has
    assert found.reported.features == {"svm": "disable", "invtsc": "require"}
    assert found.migratable.features == {"svm": "disable"}
    assert found.full is found.reported and found.known == {"svm", "lm"}
    native = cpu.HostCpu("AMD", 23, 49, 0, 0, 48, (*features, "cmt"))
    found = hypervisor(models, Processor(features, "AMD"), (), (), native)
    assert found.full is not None and {"cmt", "lm"} <= found.full.whole()
    with pytest.raises(InternalError, match="Cannot find suitable CPU model for given data"):
        hypervisor([CpuModel("Haswell")], Processor(features, "AMD"))
    assert hypervisor(models, None).reported is None


def test_tables() -> None:
    assert (
        len(MODELS) == 58 and next(iter(MODELS)) == "486" and x86.FEATURES["nx"] == (Register(0x80000001, 0, "edx"), 20)
    )
    assert len(set(x86.FEATURES.values())) == len(x86.FEATURES)
    assert cpu.vendor_name("HygonGenuine") == "Hygon" and cpu.vendor_name("CentaurHauls") == ""
