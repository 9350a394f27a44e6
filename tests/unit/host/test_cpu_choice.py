"""Processors compared and brought together, with models that are made up here."""

from __future__ import annotations

import pytest

from guesthouse.errors import CpuIncompatible, GuesthouseError
from guesthouse.host import cpu_choice
from guesthouse.host.cpu import CpuModel
from guesthouse.host.cpu_choice import Comparison

MODELS = [
    CpuModel("Conroe", "Intel", ["sse2", "ssse3", "hypervisor"]),
    CpuModel("Penryn", "Intel", ["sse2", "ssse3", "sse4.1", "hypervisor"]),
    CpuModel("EPYC", "AMD", ["sse2", "ssse3", "svm"]),
]
HOST = ["sse2", "ssse3", "sse4.1", "sse4.2"]


def _host(model: str, features: str = "", vendor: str = "") -> str:
    made = f"<vendor>{vendor}</vendor>" if vendor else ""
    named = "".join(f"<feature name='{name}'/>" for name in features.split())
    return f"<cpu><arch>x86_64</arch><model>{model}</model>{made}{named}</cpu>"


@pytest.mark.parametrize(
    ("xml", "want", "why"),
    [
        (_host("Penryn"), Comparison.SUPERSET, ""),
        (_host("Penryn", "sse4.2"), Comparison.IDENTICAL, ""),
        (_host("Penryn", "avx"), Comparison.INCOMPATIBLE, "Host CPU does not provide required features: avx"),
        (
            _host("EPYC", vendor="AMD"),
            Comparison.INCOMPATIBLE,
            "host CPU vendor does not match required CPU vendor AMD",
        ),
        ("<cpu match='strict'><model>Penryn</model></cpu>", Comparison.INCOMPATIBLE, "strictly match .* sse4.2"),
        (
            "<cpu match='strict'><model>Penryn</model><feature name='sse4.2' policy='optional'/></cpu>",
            Comparison.IDENTICAL,
            "",
        ),
        ("<cpu><model>EPYC</model><feature name='svm' policy='disable'/></cpu>", Comparison.SUPERSET, ""),
        ("<cpu><model>Conroe</model><feature name='sse4.1' policy='forbid'/></cpu>", Comparison.INCOMPATIBLE, "forbid"),
        ("<cpu mode='host-passthrough'/>", Comparison.SUPERSET, ""),
        ("<cpu><arch>ppc64</arch><model>POWER9</model></cpu>", Comparison.INCOMPATIBLE, "CPU arch ppc64"),
    ],
)
def test_compare(xml: str, want: Comparison, why: str) -> None:
    other = cpu_choice.parse(xml)
    assert cpu_choice.compare(MODELS, "Intel", HOST, other, fail=False) == want
    if want == Comparison.INCOMPATIBLE:
        with pytest.raises(CpuIncompatible, match=why):
            cpu_choice.compare(MODELS, "Intel", HOST, other, fail=True)


def _baseline(*xmls: str, **how: bool) -> str:
    text = cpu_choice.baseline(MODELS, [cpu_choice.parse(xml, host=True) for xml in xmls], **how)  # type: ignore[arg-type]
    return " ".join(text.split())


def test_baseline() -> None:
    start = "<cpu mode='custom' match='exact'> <model fallback="
    assert _baseline(_host("Penryn")) == f"{start}'forbid'>Penryn</model> </cpu>"
    # the smaller one, and what both have beyond it
    both = _host("Penryn", "avx"), _host("Conroe", "avx osxsave invtsc"), _host("Conroe", "avx osxsave invtsc")
    assert _baseline(*both) == f"{start}'allow'>Conroe</model> <feature policy='require' name='avx'/> </cpu>"
    more = both[1:]
    assert "invtsc" in _baseline(*more)
    assert "invtsc" not in _baseline(*more, migratable=True)
    assert "osxsave" not in _baseline(*more)
    assert "name='ssse3'" in _baseline(*more, expand=True)
    vendor = _host("Penryn", vendor="Intel")
    assert "<vendor>Intel</vendor>" in _baseline(vendor, vendor)
    assert "vendor" not in _baseline(vendor, _host("Penryn"))


@pytest.mark.parametrize(
    ("xmls", "text"),
    [
        ([], "no CPUs given"),
        (["<cpu><arch>x86_64</arch></cpu>"], "no CPU model specified at index 0"),
        (["<cpu><model>Penryn</model></cpu>"], "Missing CPU architecture"),
        (["<cpu mode='custom'><arch>x86_64</arch></cpu>"], "Attribute mode is only allowed for guest CPU"),
        ([_host("Nope")], "Unknown CPU model Nope"),
        ([_host("Penryn", "nope")], "Unknown CPU feature nope"),
        ([_host("Penryn", "avx avx")], "specified more than once"),
        ([_host("Penryn", vendor="Intel"), _host("EPYC", vendor="AMD")], "CPU vendors do not match"),
        (["<domain/>"], "XML does not contain expected 'cpu' element"),
        (["<cpu"], "CPU_definition"),
    ],
)
def test_what_is_no_baseline(xmls: list[str], text: str) -> None:
    with pytest.raises(GuesthouseError, match=text):
        _baseline(*xmls)
