"""Processors that clients describe: compared with one that there is, and what several of them have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from guesthouse.errors import (
    ConfigUnsupported,
    CpuIncompatible,
    GuesthouseError,
    InternalError,
    InvalidArg,
    NoSupport,
    OperationFailed,
    XMLError,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host.cpu import FEATURES, X86_MODELS, CpuModel, ordered
from guesthouse.model.domain import Cpu, CpuFeature
from guesthouse.model.domain import CpuModel as ModelElement
from guesthouse.model.fields import parse_document

_X86 = ("x86_64", "i686")
_MODES = ("custom", "host-model", "host-passthrough", "maximum")
_POLICIES = ("force", "require", "optional", "disable", "forbid")
# what would keep a guest on its host
_STAYS = ("invtsc",)
# what a host has and no guest is given
_HOST_ONLY = ("cmt", "osxsave", "ospke")


class Comparison(IntEnum):
    """virCPUCompareResult."""

    INCOMPATIBLE = 0
    IDENTICAL = 1
    SUPERSET = 2


@dataclass
class Described:
    """A processor as a document has it: of a host where it says the architecture, else as a guest wants it.
    ``features`` are names with policies."""

    arch: str | None = None
    strict: bool = False
    model: str | None = None
    vendor: str | None = None
    features: list[tuple[str, str]] = field(default_factory=list)

    def having(self, *policies: str) -> set[str]:
        return {name for name, policy in self.features if policy in policies}


def parse(text: str, *, host: bool | None = None) -> Described:
    """Take a <cpu> apart. ``host`` says whether it must be that of a host; None leaves it to the document. Raises
    XMLDetail, XMLError, ConfigUnsupported."""
    node = parse_document(text, "(CPU_definition)")
    if node.tag != "cpu":
        raise _bad("XML does not contain expected 'cpu' element")
    arch = node.findtext("arch")
    if host is None:
        host = arch is not None
        if host and node.get("match") is not None:
            raise _bad("'arch' element cannot be used inside 'cpu' element with 'match' attribute'")
    mode = node.get("mode")
    if mode is not None and host:
        raise ConfigUnsupported("Attribute mode is only allowed for guest CPU", domain=ErrorDomain.CPU)
    if mode is not None and mode not in _MODES:
        raise ConfigUnsupported(f"Invalid mode attribute '{mode}'", domain=ErrorDomain.CPU)
    if host and arch is None:
        raise _bad("Missing CPU architecture")
    found = Described(arch if host else None, node.get("match") == "strict")
    found.model, found.vendor = node.findtext("model") or None, node.findtext("vendor") or None
    if found.vendor is not None and found.model is None:
        raise _bad("CPU vendor specified without CPU model")
    for feature in node.findall("feature"):
        name, policy = feature.get("name"), feature.get("policy")
        if not name:
            raise _bad("Invalid CPU feature name")
        policy = "require" if host else policy or "require"
        if policy not in _POLICIES:
            raise ConfigUnsupported("Invalid CPU feature policy", domain=ErrorDomain.CPU)
        if name in {other for other, _ in found.features}:
            raise _bad(f"CPU feature '{name}' specified more than once")
        found.features.append((name, policy))
    return found


def compare(
    models: Sequence[CpuModel], vendor: str, features: Collection[str], other: Described, *, fail: bool
) -> Comparison:
    """What the processor with ``features`` is to ``other``. With ``fail`` an incompatible one raises CpuIncompatible,
    which says why. Raises InternalError for a model or feature that nobody knows."""

    def no(why: str) -> Comparison:
        if fail:
            raise CpuIncompatible(why)
        return Comparison.INCOMPATIBLE

    if other.arch is not None and other.arch not in _X86:
        return no(f"CPU arch {other.arch} does not match host arch")
    if other.vendor is not None and other.vendor != vendor:
        return no(f"host CPU vendor does not match required CPU vendor {other.vendor}")
    have = set(features)
    spared = other.having("force", "optional", "disable")
    wanted = (_of_model(models, other) | other.having("require")) - spared
    _known(other)
    forbidden = ordered(other.having("forbid") & have)
    if forbidden:
        return no(f"Host CPU provides forbidden features: {', '.join(forbidden)}")
    missing = ordered(wanted - have)
    if missing:
        return no(f"Host CPU does not provide required features: {', '.join(missing)}")
    extra = ordered(have - wanted - spared)
    if not extra:
        return Comparison.IDENTICAL
    if other.strict:
        return no(f"Host CPU does not strictly match guest CPU: Extra features: {', '.join(extra)}")
    return Comparison.SUPERSET


def baseline(
    models: Sequence[CpuModel],
    cpus: Sequence[Described],
    *,
    given: Collection[str] | None = None,
    expand: bool = False,
    migratable: bool = False,
    forbid_fallback: bool = False,
) -> str:
    """The <cpu> that runs on each of ``cpus``: a model and what makes the difference. ``given``: what the hypervisor has
    at all. ``expand`` lists the model's own features too, ``migratable`` leaves out what keeps a guest on its host.

    Raises InvalidArg, OperationFailed where they have nothing in common, and as :func:`compare`.
    """
    if not cpus:
        raise InvalidArg("no CPUs given", domain=ErrorDomain.CPU)
    for index, cpu in enumerate(cpus):
        if cpu.model is None:
            raise InvalidArg(f"no CPU model specified at index {index}", domain=ErrorDomain.CPU)
    arch = cpus[0].arch
    if arch is not None and arch not in _X86:
        raise NoSupport(f"'{arch}' architecture is not supported by CPU driver", domain=ErrorDomain.CPU)
    common = set.intersection(*(_whole(models, cpu) for cpu in cpus))
    if given is not None:
        common &= set(given)
    if not common:
        raise OperationFailed("CPUs are incompatible", domain=ErrorDomain.CPU)
    vendor = _vendor(models, cpus)
    names = [cpu.model for cpu in cpus]
    model = _nearest(models, vendor, common, names)
    require, disable = ordered(common - set(model.features)), ordered(_own(model) - common)
    if migratable:
        require = [name for name in require if name not in _STAYS]
    if given is None:
        require = [name for name in require if name not in _HOST_ONLY]
    alone = set(names) == {model.name}
    features = [(name, "require") for name in require] + [(name, "disable") for name in disable]
    if expand:
        features = sorted({**dict.fromkeys(_own(model), "require"), **dict(features)}.items())
    fallback = "forbid" if alone or forbid_fallback else "allow"
    out = Cpu(mode="custom", match="exact", model=ModelElement(fallback=fallback, name=model.name))
    out.vendor = vendor if all(cpu.vendor for cpu in cpus) else None
    out.features = [CpuFeature(policy=policy, name=name) for name, policy in features]
    return out.to_xml()


def _vendor(models: Sequence[CpuModel], cpus: Sequence[Described]) -> str | None:
    """The maker that all of them have, None where none says. Raises OperationFailed."""
    vendor = cpus[0].vendor
    for cpu in cpus[1:]:
        own = next((m.vendor for m in models if m.name == cpu.model and m.vendor != "unknown"), None)
        if cpu.vendor and own and cpu.vendor != own:
            text = f"CPU vendor {own} of model {cpu.model} differs from vendor {cpu.vendor}"
            raise OperationFailed(text, domain=ErrorDomain.CPU)
        told = cpu.vendor or own
        if told and vendor and told != vendor:
            raise OperationFailed("CPU vendors do not match", domain=ErrorDomain.CPU)
        vendor = vendor or told
    return vendor


def _nearest(models: Sequence[CpuModel], vendor: str | None, features: set[str], names: list[str | None]) -> CpuModel:
    fitting = [m for m in models if m.name in X86_MODELS and m.features]
    if len(set(names)) == 1:
        return next(m for m in fitting if m.name == names[0])
    if vendor is not None:
        fitting = [m for m in fitting if m.vendor in (vendor, "unknown")]
    return min(
        fitting,
        key=lambda m: (len(features ^ _own(m)), m.name not in names, -X86_MODELS.index(m.name)),
    )


def _own(model: CpuModel) -> set[str]:
    # every guest sees a hypervisor, whatever the model
    return set(model.features) - {"hypervisor"}


def _of_model(models: Sequence[CpuModel], cpu: Described) -> set[str]:
    if cpu.model is None:
        return set()
    for model in models:
        if model.name == cpu.model and model.name in X86_MODELS:
            return _own(model)
    raise InternalError(f"Unknown CPU model {cpu.model}", domain=ErrorDomain.CPU)


def _whole(models: Sequence[CpuModel], cpu: Described) -> set[str]:
    own = _of_model(models, cpu)
    _known(cpu)
    return (own | cpu.having("require", "force")) - cpu.having("disable", "forbid")


def _known(cpu: Described) -> None:
    for name, policy in cpu.features:
        if policy != "optional" and name not in FEATURES:
            raise InternalError(f"Unknown CPU feature {name}", domain=ErrorDomain.CPU)


def _bad(text: str) -> GuesthouseError:
    return XMLError(text, domain=ErrorDomain.CPU)
