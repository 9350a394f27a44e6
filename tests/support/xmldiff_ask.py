"""Run by Debian's python3 with python3-libvirt: what a daemon makes of many documents, over one connection.

Usage: xmldiff_ask.py URI < [[NAME, XML, START], ...] > [{ASPECT: TEXT}, ...]; a refusal's text is "error CODE: MESSAGE". A daemon that
dies of a document ends the list with an empty answer.
"""

import json
import pathlib
import re
import shlex
import sys

import libvirt

GONE = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE


def told(call, *args):
    try:
        return call(*args)
    except libvirt.libvirtError as error:
        return f"error {error.get_error_code()}: {error.get_error_message()}"


def command_of(uuid):
    """The command line of the guest's QEMU as shell text."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        if uuid in words and "qemu" in words[0]:
            return shlex.join(words)
    return "error 0: no QEMU runs"


def ask(conn, xml, start):
    found = {}
    if not re.search(r"<interface [^>]*type=.hostdev", xml):  # libvirtd uses such cards after it has freed them
        found["native"] = told(conn.domainXMLToNative, "qemu-argv", xml, 0)
    try:
        domain = conn.defineXMLFlags(xml, 0)
    except libvirt.libvirtError as error:
        return {**found, "define": f"error {error.get_error_code()}: {error.get_error_message()}"}
    found["define"] = ""
    found["inactive"] = told(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    found["migratable"] = told(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_MIGRATABLE)
    again = told(conn.defineXMLFlags, found["inactive"], 0)
    found["again"] = again if isinstance(again, str) else told(again.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE)
    if start:
        refused = told(domain.createWithFlags, libvirt.VIR_DOMAIN_START_PAUSED)
        found["start"] = refused or ""
        if not refused:
            found["argv"] = command_of(domain.UUIDString())
            found["live"] = told(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_SECURE)
            found["next"] = told(domain.XMLDesc, libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
            told(domain.destroy)
    found["undefine"] = told(domain.undefineFlags, GONE) or ""
    return found


def main():
    libvirt.registerErrorHandler(lambda _ctx, _err: None, None)
    conn = libvirt.open(sys.argv[1])
    found = []
    for _name, xml, start in json.load(sys.stdin):
        found.append(ask(conn, xml, start))
        if conn.isAlive() != 1:
            found[-1] = {}
            break
    json.dump(found, sys.stdout)


main()
