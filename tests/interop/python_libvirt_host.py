"""Run by Debian's python3 with python3-libvirt: what a program asks of a host's devices, interfaces and secrets.

Usage: python_libvirt_host.py URI; the network devices are those of test_host_devices.py. Prints a transcript.
"""

import sys

import libvirt

libvirt.registerErrorHandler(lambda _ctx, _err: None, None)
conn = libvirt.open(sys.argv[1])


def tell(call, *args):
    """Call, and print what came of it."""
    try:
        value = call(*args)
    except libvirt.libvirtError as error:
        print(call.__name__, args, "error", error.get_error_code(), error.get_error_domain(), error)
        return
    if isinstance(value, list):
        value = sorted(item if isinstance(item, str) else item.name() for item in value)
    elif hasattr(value, "name"):
        value = value.name()
    elif hasattr(value, "UUIDString"):
        value = value.UUIDString(), value.usageType(), value.usageID()
    print(call.__name__, args, value)


for cap in (None, "net", "pci", "bogus", "80203"):
    tell(conn.numOfDevices, cap)
    tell(conn.listDevices, cap)
tell(conn.numOfDevices, "net", 1)
for flags in (0, 1, 16, 1 << 8, 1 << 21, 1 << 22, 1 << 30, 1 << 31, 3 << 30):
    tell(conn.listAllDevices, flags)
tell(conn.nodeDeviceLookupByName, "")
for name in ("net_lo_00_00_00_00_00_00", "computer", "net_hve4_52_54_00_00_aa_05"):
    device = conn.nodeDeviceLookupByName(name)
    for call in (device.parent, device.listCaps, device.numOfCaps, device.isActive, device.isPersistent):
        tell(call)
    tell(device.autostart)
    tell(device.XMLDesc, 1)
    tell(device.create, 1)
    tell(device.undefine, 1)

for call in (conn.numOfInterfaces, conn.numOfDefinedInterfaces, conn.listInterfaces, conn.listDefinedInterfaces):
    tell(call)
for flags in range(5):
    tell(conn.listAllInterfaces, flags)
tell(conn.interfaceLookupByName, "nonsense")
for mac in ("x", "52:54:00:00:AA:03", "52:54:00:00:aa:03", "52:54:00:00:aa:05"):
    tell(conn.interfaceLookupByMACString, mac)
for name in ("lo", "hbr0", "hve0", "htap0", "htun0"):
    interface = conn.interfaceLookupByName(name)
    for call in (interface.isActive, interface.MACString, interface.name):
        tell(call)
    tell(interface.XMLDesc, 1)
    tell(interface.XMLDesc, 2)
interface = conn.interfaceLookupByName("lo")
tell(conn.interfaceDefineXML, "<x", 0)
tell(conn.changeBegin, 0)
tell(interface.undefine)
tell(interface.create, 0)
tell(interface.destroy, 0)

xml = "<secret ephemeral='{}'><uuid>f52a81b2-424e-490c-823d-6bd4235bc580</uuid><usage type='{}'><name>n</name></usage></secret>"
tell(conn.secretDefineXML, xml.format("yes", "tls"), 2)
tell(conn.secretDefineXML, xml.format("yes", "tls"), 0)
for usage, name in ((4, "n"), (4, "x"), (1, "n"), (9, "n"), (0, "n")):
    tell(conn.secretLookupByUsage, usage, name)
tell(conn.listAllSecrets, 64)
tell(conn.numOfSecrets)
tell(conn.listSecrets)
secret = conn.secretLookupByUUIDString("f52a81b2-424e-490c-823d-6bd4235bc580")
tell(secret.value, 1)
tell(secret.value)
tell(secret.setValue, b"", 0)
tell(secret.setValue, b"x", 1)
tell(secret.setValue, b"a\0b", 0)
tell(secret.value)
tell(secret.XMLDesc, 1)
tell(secret.XMLDesc, 0)
tell(conn.secretDefineXML, xml.format("yes", "vtpm"), 0)
tell(secret.undefine)
tell(secret.undefine)
