"""What a program of guesthouse.libvirt hears when its daemon dies or falls silent: python libvirt_lost.py URI

Prints "ready", waits for a line, and then prints what was heard.
"""

import sys
import threading
import time

import guesthouse.libvirt as libvirt

libvirt.registerErrorHandler(lambda *_: None, "")
libvirt.virEventRegisterDefaultImpl()


def loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=loop, daemon=True).start()
conn = libvirt.open(sys.argv[1])
heard: list[int] = []
told = threading.Event()


def closed(_conn: object, reason: int, _opaque: object) -> None:
    heard.append(reason)
    told.set()


conn.registerCloseCallback(closed, None)
conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda *_: None, None)
conn.setKeepAlive(1, 2)
time.sleep(2.5)  # pings that are answered
print("ready", conn.isAlive(), heard, flush=True)
sys.stdin.readline()
told.wait(20)
try:
    conn.getType()
except libvirt.libvirtError as error:
    print(heard, conn.isAlive(), error.get_error_code(), error.get_error_domain(), error)
