"""A guest's <cpu>: what a start makes of it, and of what QEMU then gave. The rules as such are compared with C
libvirtd's in tests/interop/test_processors.py; here are hosts that are not at hand."""

from __future__ import annotations

import pytest

from guesthouse.errors import CpuIncompatible, GuesthouseError
from guesthouse.host import guest_cpu
from guesthouse.host.cpu import CpuModel, HostCpu, Hypervisor, Processor, hypervisor
from guesthouse.host.x86 import MODELS
from guesthouse.model.domain import Cpu

HAVE = set(MODELS["Haswell-noTSX"].features) | {"hypervisor", "invtsc"}
SKYLAKE = HostCpu("Intel", 6, 94, 3, 0, 39, (*MODELS["Skylake-Client"].features, "cmt", "monitor"))
#: KVM on a Skylake that keeps its newer features to itself, and has no transactions to give.
KVM = hypervisor(
    [CpuModel(name) for name in ("host", "max", "kvm64", "Haswell-noTSX", "Penryn", "qemu64")],
    Processor(set(HAVE), "Intel", (6, 60, 3)),
    ["invtsc"],
    [*HAVE, "vmx", "hle", "mpx"],
    SKYLAKE,
)


def settled(xml: str, found: Hypervisor = KVM, kind: str = "kvm") -> Cpu:
    cpu = Cpu.from_xml(xml)
    guest_cpu.settle(cpu, found, kind=kind, arch="x86_64", host_arch="x86_64")
    return cpu


def read(cpu: Cpu) -> tuple[str | None, dict[str, str]]:
    return cpu.model and cpu.model.name, {f.name or "": f.policy or "" for f in cpu.features}


@pytest.mark.parametrize(
    ("xml", "model", "features"),
    [
        # what would keep the guest here is left out
        ("<cpu mode='host-model' check='partial'/>", "Haswell-noTSX", {"hypervisor": "require"}),
        (
            "<cpu mode='host-model'><feature name='invtsc'/><feature name='avx2' policy='disable'/></cpu>",
            *("Haswell-noTSX", {"hypervisor": "require", "invtsc": "require", "avx2": "disable"}),
        ),
        ("<cpu match='minimum'><model>kvm64</model></cpu>", "Haswell-noTSX", {"hypervisor": "require"}),
        (
            "<cpu><model>kvm64</model><feature name='avx2' policy='optional'/><feature name='mpx' policy='optional'/></cpu>",
            *("kvm64", {"avx2": "require", "mpx": "disable"}),
        ),
        # QEMU has not heard of one, and no guest is given the other
        (
            "<cpu><model>kvm64</model><feature name='svm' policy='disable'/><feature name='cmt'/></cpu>",
            *("kvm64", {}),
        ),
        # compared with the whole host: transactions are there, though QEMU does not give them
        ("<cpu check='partial'><model>Penryn</model><feature name='hle'/></cpu>", "Penryn", {"hle": "require"}),
        # a model that this QEMU has not, by one that it has
        ("<cpu><model>cpu64-rhel6</model></cpu>", "kvm64", {"lahf_lm": "require"}),
        ("<cpu mode='host-passthrough' check='none'><feature name='cmt'/></cpu>", None, {}),
    ],
)
def test_settled(xml: str, model: str | None, features: dict[str, str]) -> None:
    cpu = settled(xml)
    assert read(cpu) == (model, features)
    if model is not None:
        assert cpu.mode in (None, "custom") and cpu.model is not None and cpu.model.fallback == "forbid"


@pytest.mark.parametrize(
    ("xml", "kind", "text"),
    [
        (
            "<cpu check='partial'><model>EPYC</model></cpu>",
            "kvm",
            "does not provide required features: .*, svm, cr8legacy",
        ),
        (
            "<cpu check='full'><model>Penryn</model><feature name='hypervisor' policy='forbid'/></cpu>",
            "kvm",
            "forbidden",
        ),
        ("<cpu><model fallback='forbid'>Haswell</model></cpu>", "kvm", "CPU model Haswell is not supported by hyperv"),
        ("<cpu mode='host-passthrough'/>", "qemu", "CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host"),
        ("<cpu><model>Nope</model></cpu>", "kvm", "Unknown CPU model Nope"),
        ("<cpu mode='maximum'><feature name='nope'/></cpu>", "kvm", "unknown CPU feature: nope"),
    ],
)
def test_refused(xml: str, kind: str, text: str) -> None:
    with pytest.raises(GuesthouseError, match=text) as caught:
        settled(xml, kind=kind)
    assert isinstance(caught.value, CpuIncompatible) == ("features" in text or text == "forbidden")


def test_an_emulator_that_tells_nothing() -> None:
    silent = hypervisor([CpuModel("Penryn")], None)
    assert read(settled("<cpu><model>Penryn</model></cpu>", silent)) == ("Penryn", {})
    for xml, text in (
        ("<cpu mode='host-model'/>", "CPU mode 'host-model' .* is not supported by hypervisor"),
        ("<cpu match='minimum'><model>Penryn</model></cpu>", "unknown host CPU model"),
        ("<cpu check='partial'><model>Penryn</model></cpu>", "unknown host CPU"),
    ):
        with pytest.raises(GuesthouseError, match=text):
            settled(xml, silent)


def test_confirmed() -> None:
    penryn = MODELS["Penryn"].features
    cpu = Cpu.from_xml("<cpu mode='custom' check='none'><model>Penryn</model><feature name='avx'/></cpu>")
    # QEMU gives more, and less: the second time it is as the document then says
    gave, lacked = (penryn - {"lm"}) | {"hypervisor"}, {"avx"}
    assert guest_cpu.confirm(cpu, gave, lacked)
    assert read(cpu) == ("Penryn", {"avx": "disable", "hypervisor": "require", "lm": "disable"})
    assert cpu.check == "full"
    assert not guest_cpu.confirm(cpu, gave, ())
    for enabled, disabled, text in (
        (gave | {"vmx", "svm"}, (), "specification: extra features: vmx,svm$"),
        (gave - {"sse"}, ("lm",), "specification: missing features: sse,lm$"),
        ((gave | {"vmx"}) - {"sse"}, (), "specification: extra features: vmx, missing features: sse$"),
        (gave, (guest_cpu.PV_UNHALT,), "specification$"),
    ):
        with pytest.raises(GuesthouseError, match=text):
            guest_cpu.confirm(cpu.copy(), enabled, disabled)
    whole = Cpu.from_xml("<cpu mode='host-passthrough' check='full'><feature name='vmx' policy='disable'/></cpu>")
    assert not guest_cpu.confirm(whole, gave, ()) and whole.check == "full"
    with pytest.raises(GuesthouseError, match=r"extra features: vmx$"):
        guest_cpu.confirm(whole, gave | {"vmx"}, ())
    loose = Cpu.from_xml("<cpu mode='maximum' check='none'/>")
    assert not guest_cpu.confirm(loose, gave, ("avx",)) and loose.check == "none"
    assert not guest_cpu.confirm(None, gave, ())


def test_promises() -> None:
    steady = Cpu.from_xml("<cpu><model>Penryn</model><feature name='invtsc'/></cpu>")
    with pytest.raises(GuesthouseError, match="host doesn't support invariant TSC"):
        guest_cpu.verify(steady, {"lm"})
    guest_cpu.verify(steady, {"invtsc"})
    with pytest.raises(GuesthouseError, match="host doesn't support paravirtual spinlocks"):
        guest_cpu.verify(None, (), spinlocks=True)
    guest_cpu.verify(None, (guest_cpu.PV_UNHALT,), spinlocks=True)
