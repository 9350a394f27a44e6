"""Run by Debian's python3 with python3-libvirt: what a program written for libvirt does; prints a transcript.

Usage: python_libvirt.py URI DOMAIN_XML
"""

import pathlib
import sys
import threading

import libvirt

uri, xml_file = sys.argv[1:]
libvirt.virEventRegisterDefaultImpl()
stop = threading.Event()


def loop():
    while not stop.is_set():
        libvirt.virEventRunDefaultImpl()


thread = threading.Thread(target=loop, daemon=True)
thread.start()
libvirt.registerErrorHandler(lambda _ctx, _err: None, None)

conn = libvirt.open(uri)
seen = []
done = threading.Event()


def lifecycle(_conn, dom, event, detail, _opaque):
    seen.append((dom.name(), event, detail))
    if event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
        done.set()


handle = conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
print("type", conn.getType(), "lib", conn.getLibVersion(), "alive", conn.isAlive())
print("info", conn.getInfo()[0], conn.getInfo()[2])
dom = conn.defineXML(pathlib.Path(xml_file).read_text())
print("defined", dom.name(), dom.ID(), dom.UUIDString(), dom.isPersistent(), dom.isActive(), dom.autostart())
print("info", dom.info(), "state", dom.state(), "os", dom.OSType())
dom.create()
print("running", dom.isActive(), dom.state(), dom.maxVcpus(), dom.maxMemory())
try:
    dom.create()
except libvirt.libvirtError as error:
    print("again", error.get_error_code(), error.get_error_domain(), error)
dom.suspend()
print("paused", dom.state())
dom.resume()
print("resumed", dom.state())
stream = conn.newStream()
mime = dom.screenshot(stream, 0)
size = 0
while chunk := stream.recv(65536):
    size += len(chunk)
stream.finish()
print("screenshot", mime, size > 100)
stats = conn.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
print("stats", [(d.name(), s["state.state"]) for d, s in stats])
print("list", [d.name() for d in conn.listAllDomains()], conn.listDefinedDomains(), conn.numOfDomains())
dom.destroy()
print("off", dom.state(), dom.ID())
dom.undefine()
for what in (lambda: conn.lookupByName("absent"), lambda: conn.lookupByID(4711), lambda: dom.create(), dom.undefine):
    try:
        what()
    except libvirt.libvirtError as error:
        print("error", error.get_error_code(), error.get_error_domain(), error)
done.wait(5)
conn.domainEventDeregisterAny(handle)
print("events", seen)
print("close", conn.close())
stop.set()
