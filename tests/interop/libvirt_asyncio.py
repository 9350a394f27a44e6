"""Debian's libvirtaio, an event loop over asyncio, with guesthouse.libvirt in libvirt-python's place.

python3 libvirt_asyncio.py SOURCES URI DOMAIN_XML
"""

import asyncio
import importlib
import sys
from pathlib import Path

sources, uri, xml = sys.argv[1:]
sys.path.insert(0, sources)
libvirt = sys.modules["libvirt"] = importlib.import_module("guesthouse.libvirt")
sys.path.append("/usr/lib/python3/dist-packages")
libvirtaio = importlib.import_module("libvirtaio")


async def main():
    libvirtaio.virEventRegisterAsyncIOImpl()
    conn, seen, done = libvirt.open(uri), [], asyncio.Event()

    def lifecycle(_conn, dom, event, detail, opaque):
        seen.append((dom.name(), event, detail, opaque))
        if event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
            done.set()

    number = conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, "x")
    dom = conn.defineXML(Path(xml).read_text())
    dom.undefine()
    await asyncio.wait_for(done.wait(), 20)
    conn.domainEventDeregisterAny(number)
    print(seen)
    del dom
    print(conn.close())


asyncio.run(main())
