"""Moving a guest, as libvirt's third protocol goes: begin, prepare, perform, finish, confirm."""

from __future__ import annotations

from typing import Any

from guesthouse.libvirt import errors, typed
from guesthouse.libvirt.errors import libvirtError
from guesthouse.libvirt.objects import invalid, optional, unsigned, wrap

PEER2PEER = 2  # VIR_MIGRATE_PEER2PEER
_PEER2PEER, _DIRECT = 4, 5  # features of a side that moves guests by itself


def parameters(dxml: str | None, dname: str | None, uri: str | None, bandwidth: int) -> dict[str, Any]:
    """The older calls' arguments as parameters."""
    given = {"destination_xml": dxml, "destination_name": dname, "migrate_uri": uri, "bandwidth": bandwidth or None}
    return {field: value for field, value in given.items() if value is not None}


def by_host(dom: Any, dconnuri: str | None, params: dict[str, Any], flags: int) -> None:
    """Have the guest's host do all of it. Raises libvirtError where that was not asked for."""
    function = "virDomainMigrateToURI3"
    direct, session = not flags & PEER2PEER, dom._o.session
    if not session.has_feature(_DIRECT if direct else _PEER2PEER):
        text = f"{'direct' if direct else 'p2p'} migration is not supported by the source host"
        pattern = "argument unsupported: %s"
        errors.refuse(function, errors.ARGUMENT_UNSUPPORTED, errors.FROM_DOMAIN, pattern % text, pattern, text)
    server = (dconnuri or "").partition("://")[2].partition("/")[0].rpartition("@")[2]
    if not direct and (not server or server.startswith("localhost")):
        text = "Attempt to migrate guest to the same host"
        errors.refuse(function, errors.INVALID_ARG, errors.FROM_DOMAIN, text, function, "dconnuri")
    args = {"dconnuri": optional(dconnuri), "params": typed.guess(params), "cookie_in": b"", "flags": unsigned(flags)}
    dom._call(function, "domain_migrate_perform3_params", **args)


def between(dom: Any, dconn: Any, params: dict[str, Any], flags: int) -> Any:
    """Carry it out between two connections; returns the guest at the other. It runs at one of them, whatever fails."""
    function = "virDomainMigrate3"
    if dconn is None or dconn._o is None:
        invalid(function, "connection")
    there, bits = dconn._o, unsigned(flags)
    given = dict(params)
    begun = dom._call(function, "domain_migrate_begin3_params", params=typed.guess(given), flags=bits)
    given["destination_xml"] = begun.xml
    wire = typed.guess(given)
    prepared = there.call(
        function, "domain_migrate_prepare3_params", {"params": wire, "cookie_in": begun.cookie_out, "flags": bits}
    )
    uri = prepared.uri_out or given.get("migrate_uri")
    wire = typed.guess({**given, "migrate_uri": uri} if uri else given)
    cookie, failed = b"", None
    try:
        args = {"dconnuri": None, "params": wire, "cookie_in": prepared.cookie_out, "flags": bits}
        cookie = dom._call(function, "domain_migrate_perform3_params", **args).cookie_out
    except libvirtError as error:
        failed = error
    finished, cancelled = None, int(failed is not None)
    end = {"params": wire, "cookie_in": cookie, "flags": bits, "cancelled": cancelled}
    try:
        finished = there.call(function, "domain_migrate_finish3_params", end)
    except libvirtError as error:
        failed, cancelled = failed or error, 1
    last = finished.cookie_out if finished is not None else b""
    dom._call(function, "domain_migrate_confirm3_params", params=wire, cookie_in=last, flags=bits, cancelled=cancelled)
    if failed is not None or finished is None:
        raise failed or libvirtError(f"{function}() failed")
    return wrap(dconn, "nonnull_domain", finished.dom)
