"""Processors compared and brought together."""

from __future__ import annotations

from typing import Any

import pytest

from guesthouse.errors import CpuIncompatible, GuesthouseError
from guesthouse.host import cpu_choice
from guesthouse.host.cpu import Named
from guesthouse.host.cpu_choice import Comparison

PENRYN = Named("Penryn", "Intel", {"sse4.2": "require", "lahf_lm": "disable"})


def _host(model: str, features: str = "", vendor: str = "") -> str:
    made = f"<vendor>{vendor}</vendor>" if vendor else ""
    named = "".join(f"<feature name='{name}'/>" for name in features.split())
    return f"<cpu><arch>x86_64</arch><model>{model}</model>{made}{named}</cpu>"


@pytest.mark.parametrize(
    ("xml", "want", "why"),
    [
        (_host("Conroe"), Comparison.INCOMPATIBLE, "Host CPU does not provide required features: lahf_lm"),
        ("<cpu><model>Conroe</model><feature name='lahf_lm' policy='optional'/></cpu>", Comparison.SUPERSET, ""),
        (
            "<cpu><model>Penryn</model><feature name='lahf_lm' policy='disable'/><feature name='sse4.2'/></cpu>",
            Comparison.IDENTICAL,
            "",
        ),
        (_host("kvm64", "avx xsave"), Comparison.INCOMPATIBLE, "does not provide required features: xsave, avx$"),
        ("<cpu><model>kvm64</model><feature name='avx' policy='force'/></cpu>", Comparison.SUPERSET, ""),
        (
            _host("EPYC", vendor="AMD"),
            Comparison.INCOMPATIBLE,
            "host CPU vendor does not match required CPU vendor AMD",
        ),
        ("<cpu match='strict'><model>kvm64</model></cpu>", Comparison.INCOMPATIBLE, "features: ssse3, sse4.1, sse4.2$"),
        ("<cpu><model>kvm64</model><feature name='ssse3' policy='forbid'/></cpu>", Comparison.INCOMPATIBLE, "forbid"),
        ("<cpu mode='host-passthrough'/>", Comparison.SUPERSET, ""),
        ("<cpu><arch>ppc64</arch><model>POWER9</model></cpu>", Comparison.INCOMPATIBLE, "CPU arch ppc64"),
    ],
)
def test_compare(xml: str, want: Comparison, why: str) -> None:
    other = cpu_choice.parse(xml)
    assert cpu_choice.compare(PENRYN, other, fail=False) == want
    if want == Comparison.INCOMPATIBLE:
        with pytest.raises(CpuIncompatible, match=why):
            cpu_choice.compare(PENRYN, other, fail=True)


def test_nothing_is_known_of_the_host() -> None:
    other = cpu_choice.parse(_host("kvm64"))
    assert cpu_choice.compare(None, other, fail=False) == Comparison.INCOMPATIBLE
    with pytest.raises(CpuIncompatible, match="unknown host CPU"):
        cpu_choice.compare(None, other, fail=True)


def _baseline(*xmls: str, **how: Any) -> str:
    text = cpu_choice.baseline([cpu_choice.parse(xml, host=True) for xml in xmls], **how)
    return " ".join(text.split())


def test_baseline() -> None:
    start = "<cpu mode='custom' match='exact'> <model fallback="
    assert _baseline(_host("Penryn")) == f"{start}'forbid'>Penryn</model> </cpu>"
    # what both have, and what hosts alone have
    both = _host("Penryn", "avx cmt"), _host("Conroe", "avx cmt invtsc cx16"), _host("Conroe", "avx cmt invtsc cx16")
    more = "<feature policy='require' name='cx16'/> <feature policy='require' name='avx'/>"
    assert _baseline(*both) == f"{start}'allow'>Conroe</model> {more} </cpu>"
    assert "invtsc" in _baseline(*both[1:])
    assert "invtsc" not in _baseline(*both[1:], migratable=True)
    assert "name='ssse3'" in _baseline(*both, expand=True)
    vendor = _host("Penryn", vendor="Intel")
    assert "<vendor>Intel</vendor>" in _baseline(vendor, vendor)
    assert "vendor" not in _baseline(vendor, _host("Penryn"))
    # a hypervisor that has another model, and has not heard of all features
    asked = {"models": {"Conroe": ["lm"]}, "given": ["lm", "fpu", "avx"]}
    found = _baseline(_host("Penryn", "avx"), **asked)
    assert found.startswith(f"{start}'forbid'>Conroe</model> <feature policy='require' name='avx'/>")
    assert "<feature policy='disable' name='lm'/>" in found and "<feature policy='disable' name='pae'/>" in found


@pytest.mark.parametrize(
    ("xmls", "text"),
    [
        ([], "no CPUs given"),
        (["<cpu><arch>x86_64</arch></cpu>"], "Missing CPU model name"),
        (["<cpu><model>Penryn</model></cpu>"], "Missing CPU architecture"),
        (["<cpu mode='custom'><arch>x86_64</arch></cpu>"], "Attribute mode is only allowed for guest CPU"),
        ([_host("Nope")], "Unknown CPU model Nope"),
        ([_host("Penryn", "nope")], "Unknown CPU feature nope"),
        ([_host("Penryn", "avx avx")], "specified more than once"),
        ([_host("Penryn", vendor="Intel"), _host("EPYC", vendor="AMD")], "CPU vendors do not match"),
        ([_host("Penryn"), _host("EPYC", vendor="Intel")], "CPU vendor AMD of model EPYC differs from vendor Intel"),
        ([_host("Penryn", vendor="VIA")], "Unknown CPU vendor VIA"),
        (["<domain/>"], "XML does not contain expected 'cpu' element"),
        (["<cpu"], "CPU_definition"),
    ],
)
def test_what_is_no_baseline(xmls: list[str], text: str) -> None:
    with pytest.raises(GuesthouseError, match=text):
        _baseline(*xmls)
