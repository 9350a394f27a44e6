"""Processors that clients describe: compared with one that there is, and what several of them have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
from guesthouse.host.cpu import Named, Processor, describe, whole
from guesthouse.host.x86 import FEATURES, MODELS, VENDORS, Model, ordered
from guesthouse.model.domain import Cpu, CpuFeature
from guesthouse.model.domain import CpuModel as ModelElement
from guesthouse.model.fields import parse_document

_X86 = ("x86_64", "i686")
_ARM = ("armv6l", "armv7b", "armv7l", "aarch64")
#: POWER's models and their makers, in libvirt's order.
PPC64_MODELS = dict.fromkeys(("POWER6", "POWER7", "POWER8", "POWER9", "POWER10"), "IBM") | dict.fromkeys(
    ("POWERPC_e5500", "POWERPC_e6500"), "Freescale"
)
_MODES = ("custom", "host-model", "host-passthrough", "maximum")
_POLICIES = ("force", "require", "optional", "disable", "forbid")
#: What a host has and no guest is given.
HOST_ONLY = frozenset(("cmt", "mbm_total", "mbm_local", "osxsave", "ospke"))


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
    features: dict[str, str] = field(default_factory=dict)

    def having(self, *policies: str) -> set[str]:
        return {name for name, policy in self.features.items() if policy in policies}


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
    if host and found.model is None:
        raise _bad("Missing CPU model name")
    if found.vendor is not None and found.model is None:
        raise _bad("CPU vendor specified without CPU model")
    for feature in node.findall("feature"):
        name, policy = feature.get("name"), feature.get("policy")
        if not name:
            raise _bad("Invalid CPU feature name")
        policy = "require" if host else policy or "require"
        if policy not in _POLICIES:
            raise ConfigUnsupported("Invalid CPU feature policy", domain=ErrorDomain.CPU)
        if name in found.features:
            raise _bad(f"CPU feature '{name}' specified more than once")
        found.features[name] = policy
    return found


def compare(mine: Named | None, other: Described, *, fail: bool) -> Comparison:
    """What the processor ``mine`` (None: unknown) is to ``other``. With ``fail`` an incompatible one raises
    CpuIncompatible, which says why. Raises InternalError for a model or feature that nobody knows."""

    def no(why: str) -> Comparison:
        if fail:
            raise CpuIncompatible(why)
        return Comparison.INCOMPATIBLE

    if mine is None:
        return no("unknown host CPU")
    if other.arch is not None and other.arch not in _X86:
        return no(f"CPU arch {other.arch} does not match host arch")
    if other.vendor is not None and other.vendor != mine.vendor:
        return no(f"host CPU vendor does not match required CPU vendor {other.vendor}")
    have = mine.whole()
    spared = other.having("force", "optional", "disable")
    own = _model(other.model).features if other.model is not None else frozenset()
    _need_known(other.features)
    wanted = (own | other.having("require")) - spared
    forbidden = ordered(other.having("forbid") & have)
    if forbidden:
        return no(f"Host CPU provides forbidden features: {', '.join(forbidden)}")
    missing = ordered(wanted - have)
    if missing:
        return no(f"Host CPU does not provide required features: {', '.join(missing)}")
    extra = ordered(have - wanted - spared)
    if not extra:
        return Comparison.IDENTICAL
    if other.strict and other.arch is None:
        return no(f"Host CPU does not strictly match guest CPU: Extra features: {', '.join(extra)}")
    return Comparison.SUPERSET


def baseline(
    cpus: Sequence[Described],
    *,
    arch: str | None = None,
    models: Mapping[str, Sequence[str]] | None = None,
    given: Collection[str] | None = None,
    expand: bool = False,
    migratable: bool = False,
) -> str:
    """The <cpu> that runs on each of ``cpus``: a model and what makes the difference. ``models`` and ``given`` are the
    hypervisor's models and what it knows at all (None: no hypervisor is asked). ``expand`` lists the model's own
    features too, ``migratable`` leaves out what keeps a guest on its host.

    Raises InvalidArg, OperationFailed where they have nothing in common, and as :func:`compare`.
    """
    if not cpus:
        raise InvalidArg("no CPUs given", domain=ErrorDomain.CPU)
    for index, cpu in enumerate(cpus):
        if cpu.model is None:
            raise InvalidArg(f"no CPU model specified at index {index}", domain=ErrorDomain.CPU)
    arch = arch or cpus[0].arch
    if arch is not None and arch not in _X86:
        return _by_name(arch, cpus)
    common = _whole(cpus[0])
    vendor = cpus[0].vendor
    _need_maker(vendor)
    for cpu in cpus[1:]:
        has = _whole(cpu)
        vendor = _vendor(vendor, cpu)
        common &= has
    if given is not None:
        common &= set(given)
    if not common:
        raise OperationFailed("CPUs are incompatible", domain=ErrorDomain.CPU)
    wanted = {cpu.model or "" for cpu in cpus}
    found = describe(Processor(common, vendor or ""), models, wanted, migratable=migratable)
    features = found.features
    if models is None:
        features = {name: policy for name, policy in features.items() if name not in HOST_ONLY}
    if expand:
        model = MODELS[found.model]
        features = dict.fromkeys(model.features, "require") | features
        for name in model.removed:
            features.setdefault(name, "disable")
        features = dict(sorted(features.items()))
    fallback = "forbid" if wanted == {found.model} or models is not None else "allow"
    out = Cpu(mode="custom", match="exact", model=ModelElement(fallback=fallback, name=found.model))
    out.vendor = found.vendor if found.vendor and all(cpu.vendor for cpu in cpus) else None
    out.features = [CpuFeature(policy=policy, name=name) for name, policy in features.items()]
    return out.to_xml()


def _by_name(arch: str, cpus: Sequence[Described]) -> str:
    """What hosts of other architectures have in common, of whose models nothing but names is known."""
    name, fallback = cpus[0].model or "", "allow"
    if arch in ("ppc64", "ppc64le"):
        fallback, maker = "forbid", PPC64_MODELS.get(name)
        if maker is None:
            raise InternalError(f"Unknown CPU model {name}", domain=ErrorDomain.CPU)
        if any(cpu.model != name for cpu in cpus):
            raise OperationFailed("CPUs are incompatible", domain=ErrorDomain.CPU)
        for vendor in (cpu.vendor for cpu in cpus if cpu.vendor):
            if vendor not in PPC64_MODELS.values():
                raise OperationFailed(f"Unknown CPU vendor {vendor}", domain=ErrorDomain.CPU)
            if vendor != maker:
                text = f"CPU vendor {maker} of model {name} differs from vendor {vendor}"
                raise OperationFailed(text, domain=ErrorDomain.CPU)
    elif arch in ("s390", "s390x"):
        raise NoSupport(f"cannot compute baseline CPU of {arch} architecture", domain=ErrorDomain.CPU)
    elif arch not in _ARM:
        raise NoSupport(f"'{arch}' architecture is not supported by CPU driver", domain=ErrorDomain.CPU)
    return Cpu(mode="custom", match="exact", model=ModelElement(fallback=fallback, name=name)).to_xml()


def _need_maker(vendor: str | None) -> None:
    if vendor is not None and vendor not in VENDORS:
        raise OperationFailed(f"Unknown CPU vendor {vendor}", domain=ErrorDomain.CPU)


def _vendor(vendor: str | None, cpu: Described) -> str | None:
    """The maker that those before and ``cpu`` have, None where none says. Raises OperationFailed."""
    own = _model(cpu.model or "").vendor
    if cpu.vendor and own and cpu.vendor != own:
        text = f"CPU vendor {own} of model {cpu.model} differs from vendor {cpu.vendor}"
        raise OperationFailed(text, domain=ErrorDomain.CPU)
    told = cpu.vendor or own or None
    if vendor is None:
        _need_maker(told)
    elif told is not None and told != vendor:
        raise OperationFailed("CPU vendors do not match", domain=ErrorDomain.CPU)
    return vendor or told


def _model(name: str) -> Model:
    try:
        return MODELS[name]
    except KeyError:
        raise InternalError(f"Unknown CPU model {name}", domain=ErrorDomain.CPU) from None


def _whole(cpu: Described) -> set[str]:
    model = _model(cpu.model or "")
    _need_known(name for name, policy in cpu.features.items() if policy != "optional")
    return whole(model, cpu.features)


def _need_known(features: Iterable[str]) -> None:
    for name in features:
        if name not in FEATURES:
            raise InternalError(f"Unknown CPU feature {name}", domain=ErrorDomain.CPU)


def _bad(text: str) -> GuesthouseError:
    return XMLError(text, domain=ErrorDomain.CPU)
