"""Open files that go to a daemon and come from it, by libvirt-python's module or ours; prints a transcript.

Usage: python_libvirt_files.py MODULE URI FOLDER
"""

import gc
import importlib
import json
import os
import pathlib
import socket
import sys
import time

libvirt = importlib.import_module(sys.argv[1])
libvirt_qemu = importlib.import_module({"libvirt": "libvirt_qemu"}.get(sys.argv[1], "guesthouse.libvirt.qemu"))
uri, folder = sys.argv[2], pathlib.Path(sys.argv[3])
GUEST = f"""
<domain type='qemu'>
  <name>files</name>
  <uuid>2b2e4cb6-61a4-4a0c-8d68-3b3b1c1e7a11</uuid>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{folder}/handed.img' fdgroup='handed'/><target dev='vda' bus='virtio'/>
    </disk>
    <channel type='unix'><target type='virtio' name='org.example.0'/></channel>
    <channel type='pty'><target type='virtio' name='org.example.1'/></channel>
    <graphics type='vnc'><listen type='none'/></graphics>
  </devices>
</domain>
"""
libvirt.registerErrorHandler(lambda _ctx, _err: None, None)


def tell(name, call):
    try:
        print(name, "=>", call())
    except libvirt.libvirtError as error:
        print(name, "!!", error.get_error_code(), error.get_error_domain(), error)


def hello(sock):
    with sock:
        sock.settimeout(20)
        return sock.recv(12)


def screen(index, flags):
    return hello(socket.socket(fileno=guest.openGraphicsFD(index, flags)))


def screen_of_ours(index, flags):
    ours, theirs = socket.socketpair()
    with theirs:
        guest.openGraphics(index, theirs.fileno(), flags)
    return hello(ours)


def channel(name, flags=0):
    stream = conn.newStream()
    guest.openChannel(name, stream, flags)
    streams.append(stream)
    return "open"


def command(text, files, flags=0):
    answer, given = libvirt_qemu.qemuMonitorCommandWithFiles(guest, text, files, flags)
    return answer.partition(',"id"')[0], given


image = folder / "handed.img"
image.write_bytes(bytes(1 << 20))
image.chmod(0o600)
conn = libvirt.open(uri)
guest = conn.defineXML(GUEST)
streams = []
kept = os.open(image, os.O_RDWR)

tell("graphics of one that is off", lambda: guest.openGraphicsFD(0, 0))
tell("command to one that is off", lambda: command('{"execute":"query-name"}', [kept]))
tell("start without the files", guest.create)
tell("no files", lambda: guest.FDAssociate("handed", [], 0))
tell("flags", lambda: guest.FDAssociate("handed", [kept], 64))
tell("files", lambda: guest.FDAssociate("handed", [kept], 0))
os.close(kept)
tell("start", lambda: guest.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED))
tell("screen", lambda: screen(0, 0))
tell("screen without password", lambda: screen(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))
tell("screen by a socket of ours", lambda: screen_of_ours(0, 0))
tell("screen that is not there", lambda: screen(1, 0))
tell("screen's flags", lambda: screen(0, 8))
with image.open("rb") as plain:
    tell("no socket", lambda: guest.openGraphics(0, os.dup2(plain.fileno(), 77), 0))
    added = json.loads(libvirt_qemu.qemuMonitorCommandWithFiles(guest, '{"execute":"add-fd"}', [plain.fileno()], 0)[0])
    print("one file", sorted(added["return"]))
    tell("for people", lambda: command("info name", [plain.fileno()], 1))
    tell("two files", lambda: command('{"execute":"add-fd"}', [plain.fileno()] * 2))
tell("no file", lambda: command('{"execute":"query-name"}', []))
tell("command of the monitor", lambda: libvirt_qemu.qemuMonitorCommand(guest, "info name", 1))
tell("agent that is not there", lambda: libvirt_qemu.qemuAgentCommand(guest, '{"execute":"guest-ping"}', 1, 0))
tell("a QEMU of somebody else's", lambda: libvirt_qemu.qemuAttach(conn, 1, 0))
tell("channel", lambda: channel("org.example.0"))
tell("channel again", lambda: channel("channel0"))
tell("channel by force", lambda: channel(None, libvirt.VIR_DOMAIN_CHANNEL_FORCE))
tell("channel that is a terminal", lambda: channel("org.example.1"))
tell("no channel", lambda: channel("nope"))
for stream in streams[1:]:
    stream.abort()
guest.destroy()
tell("start again", guest.create)
guest.destroy()
streams.clear()
stream = guest = None
gc.collect()
conn.close()
time.sleep(0.5)  # the daemon learns of it when it comes to that
conn = libvirt.open(uri)
guest = conn.lookupByName("files")
tell("start when who brought them has gone", guest.create)
if guest.isActive():
    guest.destroy()
guest.undefine()
