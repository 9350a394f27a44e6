"""What programs do with libvirt-python, by any module of that kind against any daemon; prints a transcript.

python libvirt_scenario.py MODULE URI FOLDER

Lines before "== each" are the same whatever the module and the daemon; those behind it depend on what the daemon serves
and are the same for all modules.
"""

import functools
import gc
import importlib
import os
import sys
import threading
import time
from pathlib import Path

NAME, URI, WORK = sys.argv[1:]
libvirt = importlib.import_module(NAME)

DOMAIN = """<domain type='qemu'><name>scene</name><uuid>6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef0aa</uuid>
<memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
<features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
</disk><serial type='pty'/><graphics type='vnc'/><video><model type='vga'/></video></devices></domain>"""
NETWORK = """<network><name>scenenet</name><uuid>6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef0bb</uuid>
<bridge name='virbr9'/><ip address='192.168.199.1' netmask='255.255.255.0'>
<dhcp><range start='192.168.199.2' end='192.168.199.9'/></dhcp></ip></network>"""
POOL = """<pool type='dir'><name>scenepool</name><uuid>6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef0cc</uuid>
<target><path>{folder}</path></target></pool>"""
VOLUME = "<volume><name>{name}</name><capacity>{size}</capacity><target><format type='{format}'/></target></volume>"
SECRET = """<secret ephemeral='no' private='no'><uuid>6c2d9a3e-7e0b-4c7d-9b0e-0d7c1c5ef0dd</uuid>
<usage type='ceph'><name>scene secret</name></usage></secret>"""


def shape(value):
    """A value without what differs from one moment to the next: numbers become their type."""
    if isinstance(value, dict):
        return {key: shape(value[key]) for key in sorted(value)}
    if isinstance(value, tuple):
        return tuple(shape(item) for item in value)
    if isinstance(value, list):
        return [shape(item) for item in value]
    return value if isinstance(value, (str, bytes, bool)) or value is None else type(value).__name__


def plain(value):
    """A value with objects by class and name."""
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if type(value).__name__.startswith("vir"):
        return f"<{type(value).__name__}>"
    return value


def ours(names):
    """Those that this scenario made: a daemon may have some of its own."""
    return [name for name in names if name.startswith("scene")]


def show(label, call, view=plain):
    """One line: what a call returned or raised."""
    try:
        result = view(call())
    except libvirt.libvirtError as error:
        texts = (error.get_error_code(), error.get_error_domain(), error.get_error_level(), error.get_error_message())
        print(label, "!!", *texts)
    except Exception as error:
        print(label, "!!", type(error).__name__)
    else:
        print(label, "=>", repr(result))


# -- the event loop runs in a thread, events are collected

libvirt.registerErrorHandler(lambda _ctx, _error: None, None)
show("no connection", lambda: libvirt.open("qemu+unix:///system?socket=/nowhere/socket"))
show("no driver", lambda: libvirt.open("nonsense"))
early = libvirt.open(URI)
show("events without a loop", lambda: early.domainEventRegisterAny(None, 0, print, None))
show("keepalive without a loop", lambda: early.setKeepAlive(5, 3))
early.close()


def sockets():
    return sum(path.is_socket() for path in Path("/proc/self/fd").iterdir())


def closing(use):
    """What close() returns after ``use(conn)``, whose result is kept, and how many sockets are left: then, and when
    nothing is kept any more."""
    before, mine = sockets(), libvirt.open(URI)
    kept = use(mine)
    closed, left = mine.close(), sockets() - before
    del kept, mine
    return closed, left, sockets() - before


def refused(call):
    try:
        call()
    except libvirt.libvirtError as error:
        return error


def unknown(conn):
    with conn:
        conn.networkLookupByName("scene")


gc.disable()  # a connection that is closed does not wait for it
show("closing", lambda: closing(lambda conn: None))
show("closing with an object", lambda: closing(lambda conn: conn.newStream(0)))
show("closing with an error", lambda: closing(lambda conn: refused(lambda: conn.networkLookupByName("scene"))))
show("closing with an object's error", lambda: closing(lambda conn: refused(conn.newStream(0).finish)))
count = sockets()
show("closing by an error", lambda: unknown(libvirt.open(URI)))
show("closed", lambda: sockets() - count)
show("a path that there is not", lambda: libvirt.open(URI.replace("/system", "/nowhere", 1)))
gc.enable()
show("register the loop", libvirt.virEventRegisterDefaultImpl)
stop = threading.Event()


def loop():
    while not stop.is_set():
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=loop, daemon=True).start()
seen = []
arrived = threading.Condition()


def note(*words):
    with arrived:
        seen.append(words)
        arrived.notify_all()


def wait_for(count):
    with arrived:
        arrived.wait_for(lambda: len(seen) >= count, 20)


ticks = []
timer = libvirt.virEventAddTimeout(5, lambda number, opaque: ticks.append((number, opaque)), "tick")
while len(ticks) < 2:
    time.sleep(0.005)
show("a timer", lambda: (ticks[0] == (timer, "tick"), libvirt.virEventRemoveTimeout(timer)))
reader, writer = os.pipe()
handled = threading.Event()
read = []


def readable(number, fd, events, opaque):
    read.append((number == watch, fd == reader, events, opaque, os.read(fd, 10)))
    handled.set()


watch = libvirt.virEventAddHandle(reader, libvirt.VIR_EVENT_HANDLE_READABLE, readable, "handle")
os.write(writer, b"x")
handled.wait(10)
show("a handle", lambda: (read, libvirt.virEventRemoveHandle(watch)))
show("a handle that is gone", lambda: libvirt.virEventRemoveHandle(watch))

# -- the connection and its host

conn = libvirt.open(URI)
show("alive", conn.isAlive)
show("keepalive", lambda: conn.setKeepAlive(5, 3))
show("type", lambda: (conn.getType(), conn.getLibVersion(), conn.getURI() == URI))
show("version", lambda: (conn.getVersion() == conn.getVersion(), libvirt.getVersion(), libvirt.getVersion("qemu")))
show("host", lambda: (conn.getHostname() == os.uname().nodename, conn.getMaxVcpus("qemu")))
show("info", lambda: [type(item).__name__ for item in conn.getInfo()])
show("info's values", lambda: (conn.getInfo()[0], conn.getInfo()[2:]))
show("cpu map", conn.getCPUMap)
show("cpu stats", lambda: conn.getCPUStats(-1), shape)
show("memory stats", lambda: conn.getMemoryStats(-1), shape)
show("free memory", lambda: (conn.getFreeMemory(), conn.getCellsFreeMemory(0, 1)), shape)
show("security", conn.getSecurityModel)
show("models", lambda: conn.getCPUModelNames("x86_64")[:3])
show("no such architecture", lambda: conn.getCPUModelNames("nonsense"))
show("capabilities", lambda: conn.getCapabilities().split("\n")[0])
show("domain capabilities", lambda: conn.getDomainCapabilities(None, "x86_64", "pc", "qemu").split("\n")[1:3])
show("closed", lambda: libvirt.open(URI).close())
gone = libvirt.open(URI)
gone.close()
show("closed twice", gone.close)
show("asked when closed", gone.getHostname)
with libvirt.openReadOnly(URI) as watcher:
    show("read only", lambda: (watcher.getType(), watcher.numOfDomains()))
    show("read only refuses", lambda: watcher.defineXML("<domain/>"))
    show("read only refuses a network", lambda: watcher.networkCreateXML("<network/>"))
show("authenticated", lambda: libvirt.openAuth(URI, [[libvirt.VIR_CRED_AUTHNAME], lambda *_: -1, None], 0).getType())

# -- guests

disk = f"{WORK}/disk.img"
Path(disk).write_bytes(bytes(1 << 20))
Path(disk).chmod(0o666)


def lifecycle(_conn, dom, event, detail, opaque):
    note(opaque, dom.name(), dom.ID() > 0, event, detail)


any_id = conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, "any")
show("no such event", lambda: conn.domainEventRegisterAny(None, 999, lifecycle, None))
show("no domain", lambda: conn.lookupByName("absent"))
show("no domain by id", lambda: conn.lookupByID(4711))
show("no domain by uuid", lambda: conn.lookupByUUIDString("00000000-1111-2222-3333-444444444444"))
show("a bad uuid", lambda: conn.lookupByUUIDString("nonsense"))
show("a name of None", lambda: conn.lookupByName(None))
show("a name of 3", lambda: conn.lookupByName(3))
show("bad XML", lambda: conn.defineXML("<domain"))
show("bad network", lambda: conn.networkDefineXML("<network"))
show("bad pool", lambda: conn.storagePoolDefineXML("<pool"))
show("bad secret", lambda: conn.secretDefineXML("<secret"))
show("bad filter", lambda: conn.nwfilterDefineXML("<filter"))
show("bad device", lambda: conn.nodeDeviceCreateXML("<device"))
show("bad CPU", lambda: conn.compareCPU("<cpu"))
show("XML of something else", lambda: conn.defineXML("<network/>"))
dom = conn.defineXML(DOMAIN.format(disk=disk))
show("defined", lambda: (dom.name(), dom.ID(), dom.UUIDString(), dom.UUID(), dom.connect() is conn))
show(
    "truths", lambda: (dom.isPersistent(), dom.isActive(), dom.isUpdated(), dom.autostart(), dom.hasManagedSaveImage())
)
show(
    "lists",
    lambda: (conn.listDefinedDomains(), conn.numOfDefinedDomains(), conn.listDomainsID(), conn.listAllDomains()),
)
show("lookups", lambda: conn.lookupByUUID(dom.UUID()).name() + conn.lookupByUUIDString(dom.UUIDString()).name())
show("info when off", lambda: (dom.info(), dom.state(), dom.OSType(), dom.maxMemory()))
show("max vcpus when off", dom.maxVcpus)
show("autostart", lambda: (dom.setAutostart(1), dom.autostart(), dom.setAutostart(False), dom.autostart()))
show("no title", lambda: dom.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None))
config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
show("set title", lambda: dom.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "A scene", None, None, config))
show("title", lambda: dom.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None, flags=config))
element = (libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<a>1</a>", "my", "http://example.org/my", config)
show("set element", lambda: dom.setMetadata(*element))
show("element", lambda: dom.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "http://example.org/my", config))
deeper = (
    libvirt.VIR_DOMAIN_METADATA_ELEMENT,
    "<b c='1'><d/><e:f xmlns:e='http://e/'>2</e:f></b>",
    "b",
    "http://b/",
    config,
)
show("set another", lambda: dom.setMetadata(*deeper))
show("another", lambda: dom.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "http://b/", config))
show(
    "both", lambda: dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).partition("<metadata>")[2].partition("</metadata>")[0]
)
show("no element", lambda: dom.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "http://example.org/none", config))
show("off", dom.destroy)
show("a flag that is none", lambda: dom.createWithFlags(1 << 30))
show("start", dom.create)
wait_for(3)
show("running", lambda: (dom.isActive(), dom.ID() > 0, dom.state(), dom.info()[:4], dom.maxVcpus()))
show("again", dom.create)
show("its id", lambda: (conn.lookupByID(dom.ID()).name(), conn.listDomainsID() == [dom.ID()], conn.numOfDomains()))
show("vcpus", lambda: dom.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_MAXIMUM))
show("control", lambda: dom.controlInfo()[:2])
show("xml", lambda: [line for line in dom.XMLDesc().split("\n") if "<name>" in line or "<title>" in line])
show("inactive xml", lambda: "<alias" in dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
show("a flag of another", lambda: dom.XMLDesc(flags=1 << 20))
show("pause", lambda: (dom.suspend(), dom.state()))
show("go on", lambda: (dom.resume(), dom.state()))
state = conn.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
show("stats", lambda: [(d.name(), values) for d, values in state])
show("its stats", lambda: [v for _, v in conn.domainListGetStats([dom], libvirt.VIR_DOMAIN_STATS_STATE)])
show("no snapshots", lambda: (dom.snapshotNum(), dom.hasCurrentSnapshot(), dom.listAllSnapshots()))
show("job", dom.jobInfo)
show("reset", dom.reset)


def picture(collect):
    stream = conn.newStream()
    mime = dom.screenshot(stream, 0)
    collect(stream)
    return mime


chunks = []


def by_hand(stream):
    while data := stream.recv(65536):
        chunks.append(data)
    stream.finish()


def at_once(stream):
    stream.recvAll(lambda _stream, data, opaque: opaque.append(data), chunks)
    stream.finish()


def loud(stream):
    def handler(*_):
        raise KeyError("handler")

    stream.recvAll(handler, None)


show("screenshot", lambda: (picture(by_hand), b"".join(chunks)[:2], len(b"".join(chunks)) > 100))
chunks.clear()
show("screenshot at once", lambda: (picture(at_once), b"".join(chunks)[:2]))
show("a handler that raises", lambda: picture(loud))
show("no such screen", lambda: dom.screenshot(conn.newStream(), 77))
show("no stream", lambda: dom.screenshot(None, 0))
show("an unopened stream", lambda: conn.newStream().recv(10))
show("unopened, finished", lambda: conn.newStream().finish())
show("unopened, aborted", lambda: conn.newStream().abort())


def console():
    """Without blocking, by events: a console says nothing until somebody types; typed words come back or not."""
    stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
    dom.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    writable = threading.Event()

    def ready(_stream, events, opaque):
        if events & libvirt.VIR_STREAM_EVENT_WRITABLE:
            opaque.set()
            stream.eventUpdateCallback(libvirt.VIR_STREAM_EVENT_READABLE)

    stream.eventAddCallback(libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_WRITABLE, ready, writable)
    writable.wait(10)
    sent = stream.send(b"hello\n")
    stream.eventRemoveCallback()
    stream.abort()
    return writable.is_set(), sent


show("console", console)
show("stop", lambda: (dom.destroy(), dom.ID(), dom.state()))
show("undefine", dom.undefine)
show("undefined", dom.info)
wait_for(8)
show("deregister", lambda: conn.domainEventDeregisterAny(any_id))
print("events", *(words for words in seen if words[3:] != (4, 0)), sep="\n  ")
seen.clear()


def old_style(_conn, dom, event, detail, opaque):
    note(opaque, dom.name(), event, detail)


show("old events", lambda: conn.domainEventRegister(old_style, "old"))
transient = conn.createXML(DOMAIN.format(disk=disk), libvirt.VIR_DOMAIN_START_PAUSED)
show("transient", lambda: (transient.isPersistent(), transient.state(), transient.ID() > 0))
show("stop it", lambda: transient.destroyFlags(0))
wait_for(2)
show("no old events", lambda: conn.domainEventDeregister(old_style))
show("its end", transient.isActive)

# -- networks

seen.clear()
network_id = conn.networkEventRegisterAny(
    None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, lambda _c, net, *rest: note(net.name(), *rest), "net"
)
show("no network", lambda: conn.networkLookupByName("absent"))
net = conn.networkDefineXML(NETWORK)
show("network", lambda: (net.name(), net.UUIDString(), net.isActive(), net.isPersistent(), net.bridgeName()))
show("networks", lambda: (ours(conn.listDefinedNetworks()), ours(conn.listNetworks())))
show("all networks", lambda: ours(n.name() for n in conn.listAllNetworks()))
show("network up", lambda: (net.create(), net.isActive(), ours(conn.listNetworks()), conn.numOfNetworks() > 0))
show("network up again", net.create)
show("leases", net.DHCPLeases)
show("leases of one", lambda: net.DHCPLeases("52:54:00:00:00:01", 0))
show("network xml", lambda: [line.strip() for line in net.XMLDesc().split("\n") if "<range" in line])
show("network autostart", lambda: (net.setAutostart(True), net.autostart(), net.setAutostart(0)))
show("network down", lambda: (net.destroy(), net.isActive()))
show("network gone", lambda: (net.undefine(), ours(conn.listDefinedNetworks())))
wait_for(4)
show("network events over", lambda: conn.networkEventDeregisterAny(network_id))
print("network events", seen)

# -- storage

seen.clear()
Path(f"{WORK}/pool").mkdir()
Path(f"{WORK}/pool").chmod(0o777)
pool_id = conn.storagePoolEventRegisterAny(
    None, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, lambda _c, pool, *rest: note(pool.name(), *rest), "pool"
)
show("no pool", lambda: conn.storagePoolLookupByName("absent"))
pool = conn.storagePoolDefineXML(POOL.format(folder=f"{WORK}/pool"))
show("pool", lambda: (pool.name(), pool.UUIDString(), pool.isActive(), pool.isPersistent(), pool.info()))
show("pool up", lambda: (pool.create(), pool.isActive(), conn.listStoragePools(), conn.listDefinedStoragePools()))
show("pool info", lambda: (pool.info()[0], type(pool.info()).__name__, len(pool.info())))
show("pool by path", lambda: conn.storagePoolLookupByTargetPath(f"{WORK}/pool").name())
vol = pool.createXML(VOLUME.format(name="one", size=1 << 20, format="raw"))
show("volume", lambda: (vol.name(), vol.key() == vol.path() == f"{WORK}/pool/one", vol.info()))
show("volume again", lambda: pool.createXML(VOLUME.format(name="one", size=1, format="raw")))
show("volumes", lambda: (pool.listVolumes(), pool.numOfVolumes(), pool.listAllVolumes()))
show("no volume", lambda: pool.storageVolLookupByName("absent"))
show("no path", lambda: conn.storageVolLookupByPath("/nowhere/at/all"))
show("by path", lambda: conn.storageVolLookupByPath(vol.path()).storagePoolLookupByVolume().name())

content = bytes(range(256)) * 4096


def upload(data):
    stream, at = conn.newStream(), [0]
    vol.upload(stream, 0, len(data), 0)

    def handler(_stream, count, opaque):
        piece = opaque[at[0] : at[0] + count]
        at[0] += len(piece)
        return piece

    stream.sendAll(handler, data)
    return stream.finish()


def download():
    stream, pieces = conn.newStream(), []
    vol.download(stream, 0, 0)
    stream.recvAll(lambda _stream, data, opaque: opaque.append(data), pieces)
    stream.finish()
    return b"".join(pieces)


def sparse_upload():
    """A hole in the middle."""
    stream, parts = conn.newStream(), [(True, 65536), (False, (2 << 20) - 131072), (True, 65536), (True, 0)]
    vol.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
    skipped = []

    def data(_stream, count, _opaque):
        if parts[0][1]:
            parts.pop(0)
        return b"d" * count

    def skip(_stream, count, opaque):
        parts.pop(0)
        opaque.append(count)
        return 0

    stream.sparseSendAll(data, lambda *_: parts[0], skip, skipped)
    return skipped, stream.finish()


def sparse_download():
    stream, got = conn.newStream(), [0, 0]
    vol.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)

    def data(_stream, piece, opaque):
        opaque[0] += len(piece)

    def hole(_stream, count, opaque):
        opaque[1] += count

    stream.sparseRecvAll(data, hole, got)
    stream.finish()
    return got


show("upload", lambda: upload(content))
show("download", lambda: download() == content)
show("upload too much", lambda: upload(content * 2))
show("resize", lambda: (vol.resize(2 << 20), vol.info()[:2]))
show("wipe", lambda: (vol.wipe(), download() == bytes(2 << 20)))
show("sparse upload", sparse_upload)
show("sparse download", lambda: sum(sparse_download()))
show("what is there", lambda: (download()[:4], download()[65536:65540], len(download())))
copy = pool.createXMLFrom(VOLUME.format(name="two", size=2 << 20, format="raw"), vol, 0)
show("copy", lambda: (copy.name(), sorted(pool.listVolumes())))
show(
    "volume xml",
    lambda: [line.strip() for line in vol.XMLDesc(0).split("\n") if "<name>" in line or "<capacity" in line],
)
show("delete", lambda: (vol.delete(), copy.delete(0), pool.refresh(), pool.listVolumes()))
show("deleted", vol.info)
show("pool down", lambda: (pool.destroy(), pool.isActive()))
show("pool gone", lambda: (pool.undefine(), conn.numOfDefinedStoragePools()))
wait_for(4)
show("pool events over", lambda: conn.storagePoolEventDeregisterAny(pool_id))
show("pool events", lambda: seen)

# -- threads: many at once on one connection

conn.networkDefineXML(NETWORK)
counts = []


def busy():
    for _ in range(50):
        counts.append((conn.getType(), [n.name() for n in conn.listAllNetworks()]))


threads = [threading.Thread(target=busy) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
show("threads", lambda: (len(counts), {(kind, *ours(names)) for kind, names in counts}))
conn.networkLookupByName("scenenet").undefine()

# -- what depends on the daemon

print("== each")
dom = conn.createXML(DOMAIN.format(disk=disk), 0)
os.dup2(writer, 77)  # a number that is in messages
for call in (
    *("vcpus", "vcpuPinInfo", "emulatorPinInfo", "ioThreadInfo", "schedulerType", "schedulerParameters"),
    *("schedulerParametersFlags", "memoryStats", "memoryParameters", "blkioParameters", "numaParameters", "perfEvents"),
    *("securityLabel", "securityLabelList", "diskErrors", "jobStats", "hostname", "getTime", "fsInfo", "guestInfo"),
    *("guestVcpus", "messages", "launchSecurityInfo", "listAllCheckpoints", "snapshotListNames", "snapshotCurrent"),
    *("migrateGetMaxSpeed", "migrateGetMaxDowntime", "backupGetXMLDesc", "injectNMI", "abortJob", "fsFreeze"),
):
    show(call, getattr(dom, call), shape)
for call, *arguments in (
    *(("blockStats", "vda"), ("blockStatsFlags", "vda"), ("blockInfo", "vda"), ("blockIoTune", "vda")),
    *(("blockJobInfo", "vda"), ("blockPeek", "vda", 0, 16), ("memoryPeek", 0, 0, libvirt.VIR_MEMORY_PHYSICAL)),
    *(("interfaceStats", "none"), ("interfaceAddresses", 0), ("interfaceParameters", "none"), ("getCPUStats", True)),
    *(("getCPUStats", False), ("sendKey", 0, 10, [28, 29], 2), ("pinVcpu", 0, (True, True)), ("pinVcpu", 0, [True])),
    *(("setMemory", 65536), ("setVcpus", 1), ("setSchedulerParameters", {"cpu_shares": 512}), ("setTime", None)),
    *(("setSchedulerParameters", {}), ("setSchedulerParameters", {"nonsense": 1}), ("setMaxMemory", -1)),
    *(("setMemoryParameters", {"hard_limit": 1 << 20}), ("setBlockIoTune", "vda", {"total_iops_sec": 100})),
    *(("attachDevice", "<disk/>"), ("detachDeviceAlias", "none"), ("updateDeviceFlags", "<graphics/>", 0)),
    *(("managedSave",), ("coreDump", "/nowhere/at/all"), ("snapshotLookupByName", "none"), ("openChannel", "x", None)),
    *(("agentSetResponseTimeout", -1), ("setUserPassword", "a", "b"), ("setPerfEvents", {"cmt": True})),
    *(("setMetadata", 0, "words", None, None), ("metadata", 0, None), ("setGuestVcpus", "0", 1), ("setVcpu", "1", 0)),
    *(("authorizedSSHKeysGet", "root"), ("blockPull", "vda"), ("blockCommit", "vda", None, None), ("pMWakeup",)),
    *(("blockResize", "vda", 2048), ("fSTrim", None, 0), ("setLifecycleAction", 0, 1), ("migrateToURI3", "x", {}, 2)),
    *(("migrateToURI3", "x", {}, 0), ("openGraphics", 0, 77), ("FDAssociate", "x", [77])),
):
    show(f"{call}{arguments}", functools.partial(getattr(dom, call), *arguments), shape)


def display():
    """A socket that speaks VNC."""
    fd = dom.openGraphicsFD(0)
    words = os.read(fd, 4)
    os.close(fd)
    return words


show("display", display)
show("gone with its guest", dom.destroy)
for call in (
    *(
        "listSecrets",
        "listNWFilters",
        "listInterfaces",
        "numOfSecrets",
        "numOfNWFilters",
        "numOfInterfaces",
        "getSEVInfo",
    ),
    *("listDefinedInterfaces", "numOfDefinedInterfaces", "listAllInterfaces", "listAllNWFilterBindings", "isSecure"),
    *("isEncrypted",),
    *("changeBegin", "changeRollback", "getMemoryParameters"),
):
    show(call, getattr(conn, call), lambda value: shape(plain(value)))
show("filters", lambda: sorted(f.name() for f in conn.listAllNWFilters())[:3])
show("a filter", lambda: len(conn.nwfilterLookupByName("clean-traffic").UUID()))
show("devices", lambda: sorted(d.name() for d in conn.listAllDevices())[:3])
show("some devices", lambda: sorted(conn.listDevices("net", 0)))
device = None


def a_device(name):
    found = conn.nodeDeviceLookupByName(name)
    return found.name(), found.parent(), found.listCaps(), found.numOfCaps(), found.isActive(), found.isPersistent()


show("a device", lambda: a_device("computer"))
show("no device", lambda: a_device("none"))
show("sysinfo", lambda: conn.getSysinfo()[:9])
show("pages", lambda: conn.getFreePages([4], 0, 1), shape)
show("storage capabilities", lambda: conn.getStoragePoolCapabilities().split("\n")[0])
show("pool sources", lambda: conn.findStoragePoolSources("dir", None))
show("compare cpu", lambda: conn.compareCPU("<cpu/>"))
show("baseline of nothing", lambda: conn.baselineCPU([]))
show("from native", lambda: conn.domainXMLFromNative("nonsense", "x", 0))
show("to native", lambda: conn.domainXMLToNative("nonsense", "<domain/>"))
show("restore nothing", lambda: conn.restore("/nowhere/at/all"))
show("a stranger's interface", lambda: conn.interfaceLookupByMACString("00:00:00:00:00:00"))


def secret():
    kept = conn.secretDefineXML(SECRET)
    described = kept.UUIDString(), kept.usageType(), kept.usageID(), kept.setValue(b"\0hidden", 0), kept.value()
    found = conn.secretLookupByUsage(kept.usageType(), kept.usageID()).UUID() == kept.UUID()
    return described, found, conn.listSecrets(), [s.UUIDString() for s in conn.listAllSecrets()], kept.undefine()


show("secret", secret)
show("no secret", lambda: conn.secretLookupByUUIDString("00000000-1111-2222-3333-444444444444"))
net = conn.networkCreateXML(NETWORK)
section = (libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, -1)
host = "<host mac='52:54:00:00:00:07' ip='192.168.199.7'/>"
show("network update", lambda: (net.update(*section, host), "192.168.199.7" in net.XMLDesc()))
show("ports", net.listAllPorts)
show("no port", lambda: net.portLookupByUUIDString("00000000-1111-2222-3333-444444444444"))
show("network's end", net.destroy)

# -- the other side goes away

closed = threading.Event()
show("tell me", lambda: conn.registerCloseCallback(lambda _c, reason, opaque: closed.set(), None))
show("do not", conn.unregisterCloseCallback)
show("close", conn.close)
stop.set()
