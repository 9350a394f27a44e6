"""What a connection's host offers to guests: its capabilities, read once and asked by name."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from guesthouse.client import Connect
from guesthouse.errors import GuesthouseError, InvalidArg, NoDomain, NoSupport


class NotOffered(InvalidArg):
    """The host cannot run such a guest."""

    prefix = ""


@dataclass(frozen=True)
class Offer:
    """One way to run guests. ``machines`` maps names and aliases to canonical names, the default one first;
    ``features`` are those of acpi, apic and pae that the platform has."""

    os_type: str
    arch: str
    type: str
    emulator: str
    machines: dict[str, str]
    features: frozenset[str]
    loader: str | None = None


@dataclass
class DomainCaps:
    """The capabilities of one kind of guest; ``root`` is None where the daemon tells none."""

    root: Any = None
    _enums: dict[str, list[str]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return self.root is not None

    def values(self, path: str, enum: str) -> list[str]:
        """The values of an enumeration, such as ("devices/video", "modelType")."""
        if self.root is None:
            return []
        return [v.text or "" for v in self.root.findall(f"{path}/enum[@name='{enum}']/value")]

    def supported(self, path: str) -> bool:
        node = None if self.root is None else self.root.find(path)
        return node is not None and node.get("supported") == "yes"

    def has_element(self, path: str) -> bool:
        return self.root is not None and self.root.find(path) is not None

    @property
    def host_passthrough(self) -> bool:
        """Whether host-passthrough keeps a guest migratable, which is when it is fit to be the default."""
        mode = "cpu/mode[@name='host-passthrough']"
        return self.supported(mode) and "on" in self.values(mode, "hostPassthroughMigratable")

    @property
    def maximum(self) -> bool:
        """Whether guests can have all that the hypervisor is able to play."""
        return self.supported("cpu/mode[@name='maximum']")

    @property
    def host_model_features(self) -> list[str]:
        """Features that the host's own CPU has, as far as its model's name does not say them."""
        if self.root is None:
            return []
        mode = "cpu/mode[@name='host-model']"
        named = ["spec-ctrl"] if "IBRS" in (self.root.findtext(f"{mode}/model") or "") else []
        return named + [str(node.get("name")) for node in self.root.findall(f"{mode}/feature[@policy='require']")]

    @property
    def host_model(self) -> bool:
        if not self.supported("cpu/mode[@name='host-model']"):
            return False
        model = self.root.find("cpu/mode[@name='host-model']/model")
        return model is not None and model.get("fallback") == "forbid"

    def cpu_usable(self, name: str) -> bool:
        """Whether guests can have the CPU model ``name``; True where nobody knows."""
        if self.root is None:
            return True
        for model in self.root.findall("cpu/mode[@name='custom']/model"):
            if model.text == name:
                return bool(model.get("usable") != "no")
        return False


class Host:
    """A connection as the provisioning code sees it."""

    def __init__(self, conn: Connect, uri: str = "") -> None:
        self.conn = conn
        self.uri = uri

    @functools.cached_property
    def driver(self) -> str:
        """The kind of hypervisor: "qemu", "test"."""
        return self.conn.get_type().lower()

    @property
    def is_qemu(self) -> bool:
        return self.driver == "qemu"

    @functools.cached_property
    def is_remote(self) -> bool:
        """Whether the host is another machine, whose files are not ours to look at."""
        scheme, _, rest = self.uri.partition("://")
        transport = scheme.partition("+")[2]
        authority = rest.partition("/")[0]
        return bool(authority) or transport not in ("", "unix")

    @functools.cached_property
    def is_session(self) -> bool:
        """Whether guests belong to an ordinary user, who has no right to the host's bridges."""
        return self.uri.partition("?")[0].endswith("/session")

    @functools.cached_property
    def _capabilities(self) -> Any:
        from lxml import etree

        return etree.fromstring(self.conn.get_capabilities().encode())

    @functools.cached_property
    def arch(self) -> str:
        return str(self._capabilities.findtext("host/cpu/arch") or "x86_64")

    @functools.cached_property
    def cpu_model(self) -> str | None:
        text = self._capabilities.findtext("host/cpu/model")
        return None if text is None else str(text)

    @functools.cached_property
    def offers(self) -> list[Offer]:
        """Every way to run guests, in the daemon's order."""
        found = []
        for guest in self._capabilities.findall("guest"):
            arch = guest.find("arch")
            names = {child.tag for child in guest.findall("features/*")}
            for domain in arch.findall("domain"):
                machines = domain.findall("machine") or arch.findall("machine")
                found.append(
                    Offer(
                        os_type=guest.findtext("os_type") or "hvm",
                        arch=arch.get("name") or "",
                        type=domain.get("type") or "",
                        emulator=domain.findtext("emulator") or arch.findtext("emulator") or "",
                        machines={m.text or "": m.get("canonical") or m.text or "" for m in machines},
                        features=frozenset(names & {"acpi", "apic", "pae"}),
                        loader=domain.findtext("loader") or arch.findtext("loader"),
                    )
                )
        return found

    def choose(
        self,
        os_type: str | None = None,
        arch: str | None = None,
        kind: str | None = None,
        machine: str | None = None,
    ) -> Offer:
        """The best offer that fits: the host's own architecture, hvm, and kvm where nothing else is asked for.

        Raises NotOffered, saying what is missing.
        """
        arch = {"i386": "i686", "amd64": "x86_64", "arm64": "aarch64"}.get(arch or "", arch)
        fits = self.offers
        if not fits:
            raise NotOffered("Host does not support any virtualization options; is QEMU installed?")
        if os_type is not None:
            fits = [o for o in fits if o.os_type == os_type]
            if not fits:
                raise NotOffered(f"Host does not support virtualization type '{os_type}'")
        elif any(o.os_type == "hvm" for o in fits):
            fits = [o for o in fits if o.os_type == "hvm"]
        if arch is not None:
            fits = [o for o in fits if o.arch == arch]
            if not fits:
                raise NotOffered(
                    f"Host does not support virtualization type '{os_type or 'hvm'}' for architecture '{arch}'"
                )
        else:
            own = [o for o in fits if o.arch == self.arch]
            fits = own or [o for o in fits if o.arch == fits[0].arch]
        tail = f"for virtualization type '{fits[0].os_type}' with architecture '{fits[0].arch}'"
        if kind is not None:
            fits = [o for o in fits if o.type == kind]
            if not fits:
                raise NotOffered(f"Host does not support domain type {kind} {tail}")
        if machine is not None:
            first = fits[0]
            fits = [o for o in fits if machine in o.machines or machine in o.machines.values() or not o.machines]
            if not fits:
                import difflib

                near = difflib.get_close_matches(machine, first.machines, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise NotOffered(
                    f"Host does not support domain type {first.type} with machine '{machine}' {tail}{hint}"
                )
        return next((o for o in fits if o.type == "kvm"), fits[0])

    def domain_caps(self, offer: Offer, machine: str | None) -> DomainCaps:
        """The capabilities of guests of ``offer`` on ``machine``."""
        return self._domain_caps(offer.emulator, offer.arch, machine, offer.type)

    @functools.cache  # noqa: B019 - lives as long as the program
    def _domain_caps(self, emulator: str, arch: str, machine: str | None, kind: str) -> DomainCaps:
        from lxml import etree

        try:
            text = self.conn.get_domain_capabilities(emulator or None, arch, machine, kind)
        except NoSupport:
            return DomainCaps()
        return DomainCaps(etree.fromstring(text.encode()))

    # -- what is there already

    def has_domain(self, name: str) -> bool:
        try:
            self.conn.lookup_by_name(name)
        except NoDomain:
            return False
        return True

    @functools.cached_property
    def node_devices(self) -> dict[str, Any]:
        """Every device of the host by name, as lxml elements; asked for once."""
        from guesthouse.provision import host_devices

        return host_devices.documents(self)

    @functools.cached_property
    def domain_documents(self) -> dict[str, Any]:
        """Every guest's document by name, as lxml elements; asked for once."""
        from lxml import etree

        found = {}
        for domain in self.conn.list_all_domains():
            try:
                found[domain.name] = etree.fromstring(domain.get_xml_desc().encode())
            except GuesthouseError:  # it ended meanwhile
                continue
        return found
