"""What libvirt makes of a document's security labels, mapped users, protected memory and other machines' devices when
it is defined. Pure; the rules are libvirt 9.0's (domain_conf.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, XMLDetail, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.domain import Domain, Seclabel

#: The security driver of a host without mandatory access control: the one that a label without a model means.
_USUAL_MODEL = "none"


def labels(domain: Domain) -> None:
    """Labels with the model and the words that libvirt adds."""
    for label in domain.seclabels:
        _label(label)
    models = [label.model for label in domain.seclabels]
    for number, model in enumerate(models):
        if model in models[:number]:
            raise XMLDetail(f"seclabel for model {model or '(null)'} is already provided", domain=ErrorDomain.DOMAIN)
    if len(models) > 1 and None in models:
        raise XMLError("missing security model when using multiple labels", domain=ErrorDomain.DOMAIN)
    if models == [None]:
        only = domain.seclabels[0]
        if only.type in (None, "static") or (only.type == "dynamic" and only.baselabel is not None):
            raise XMLError("missing security model in domain seclabel", domain=ErrorDomain.DOMAIN)
        only.model = _USUAL_MODEL
        _nothing(only)
    # libvirt forgets those that do not say their type
    domain.seclabels = [label for label in domain.seclabels if label.type is not None]


def _nothing(label: Seclabel) -> None:
    label.type, label.relabel, label.label, label.imagelabel, label.baselabel = "none", None, None, None, None


def _label(label: Seclabel) -> None:
    if label.type not in (None, "dynamic", "static", "none"):
        raise XMLError(f"Invalid value for attribute 'type' in element 'seclabel': '{label.type}'.")
    if label.relabel is None:
        label.relabel = label.type in (None, "dynamic")
    if label.type == "dynamic" and not label.relabel:
        raise ConfigUnsupported("dynamic label type must use resource relabeling", domain=ErrorDomain.DOMAIN)
    if label.type == "none" and label.relabel:
        text = "resource relabeling is not compatible with 'none' label type"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if label.model == "none" or label.type == "none":
        _nothing(label)
        return
    label.imagelabel = None
    if label.type == "static":
        label.baselabel = None
        if not label.label:
            raise XMLError("security label is missing", domain=ErrorDomain.DOMAIN)
    else:
        label.label = None


def mapped_users(domain: Domain) -> None:
    """<idmap> is for containers: it counts only as far as it can be wrong."""
    node = domain.idmap
    if node is None:
        return
    ids = {tag: node.findall(tag) for tag in ("uid", "gid")}  # type: ignore[attr-defined]
    if bool(ids["uid"]) != bool(ids["gid"]):
        raise ConfigUnsupported("uid and gid should be mapped both", domain=ErrorDomain.DOMAIN)
    if not ids["uid"]:
        domain.idmap = None
    elif any(min(int(each.get("start", "0")) for each in found) for found in ids.values()):
        raise ConfigUnsupported("You must map the root user of container", domain=ErrorDomain.DOMAIN)


def of_containers(domain: Domain) -> None:
    """What containers and Xen's guests boot with does not count."""
    loader = next((node for node in domain.extra_nodes if node.tag == "bootloader"), None)
    words = next((node for node in domain.extra_nodes if node.tag == "bootloader_args"), None)
    if any(node is not None and (node.text or "").strip() for node in (loader, words)):
        raise ConfigUnsupported("bootloader is not supported by QEMU")
    domain.extra_nodes[:] = [node for node in domain.extra_nodes if node.tag not in ("bootloader", "bootloader_args")]
    if domain.os is not None:
        nodes = domain.os.extra_nodes
        nodes[:] = [node for node in nodes if not str(node.tag).startswith("init")]


def others(domain: Domain, *, sev: bool) -> None:
    """Raises for what other machines, or other processors (``sev``: the host's is one of AMD's with SEV), have."""
    secret = domain.launch_security
    if secret is not None and secret.type == "s390-pv":
        raise ConfigUnsupported("S390 PV launch security is not supported with this QEMU binary")
    if secret is not None and secret.type != "sev":
        text = f"Invalid value for attribute 'type' in element 'launchSecurity': '{secret.type}'."
        raise XMLError(text)
    if secret is not None and secret.policy is None:
        raise XMLError("failed to get launch security policy for launch security type SEV", domain=ErrorDomain.DOMAIN)
    if secret is not None and not sev:
        raise ConfigUnsupported("SEV launch security is not supported with this QEMU binary")
    if domain.dev.nvrams:
        raise ConfigUnsupported("nvram device is only supported for PPC64")
