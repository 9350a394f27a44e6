"""Run by Debian's python3 with python3-libvirt: networks changed in place, and their ports; prints a transcript.

Usage: network_calls.py URI
"""

import sys

import libvirt

libvirt.registerErrorHandler(lambda _ctx, _err: None, None)
conn = libvirt.open(sys.argv[1])

NET = """<network><name>u</name><uuid>11111112-2222-4333-8444-555555555555</uuid><forward mode='nat'/>
<bridge name='ubr' stp='off'/><mac address='52:54:00:0a:0b:0c'/>
<dns><txt name='a' value='b'/><host ip='10.9.4.5'><hostname>x</hostname></host><srv service='s' protocol='tcp'/></dns>
<ip address='10.9.4.1' netmask='255.255.255.0'><dhcp><range start='10.9.4.10' end='10.9.4.20'/>
<host mac='52:54:00:00:00:07' name='seven' ip='10.9.4.7'/></dhcp></ip>
<portgroup name='a' default='yes'/><portgroup name='b'/></network>"""
SECTIONS = "none bridge domain ip ip-dhcp-host ip-dhcp-range forward forward-interface forward-pf portgroup dns-host"
SECTION = {name: number for number, name in enumerate([*SECTIONS.split(), "dns-txt", "dns-srv"])}
COMMAND = {"modify": 1, "delete": 2, "add": 3, "first": 4, "what": 9}


def ask(call, *args):
    try:
        return call(*args)
    except libvirt.libvirtError as error:
        return error.get_error_code(), error.get_error_domain(), str(error)
    except LookupError as error:
        return str(error)


def host(number, name, ip, prefix="10.9.4."):
    return f"<host mac='52:54:00:00:00:{number:02x}' name='{name}' ip='{prefix}{ip}'/>"


def span(start, end, prefix="10.9.4."):
    return f"<range start='{prefix}{start}' end='{prefix}{end}'/>"


def record(ip, *names):
    return f"<host ip='10.9.4.{ip}'>{''.join(f'<hostname>{name}</hostname>' for name in names)}</host>"


SRV = "<srv service='%s' protocol='udp' domain='d' target='t' port='4' priority='5' weight='6'/>"
# command, section, element, and where they are not -1 and 0: the parent's index, flags
UPDATES = [
    ("add", "ip-dhcp-host", host(8, "eight", 8)),
    ("first", "ip-dhcp-host", host(9, "nine", 9)),
    ("add", "ip-dhcp-host", host(8, "ate", 88)),
    ("add", "ip-dhcp-host", host(0x18, "eight", 88)),
    ("add", "ip-dhcp-host", host(0x18, "ate", 8)),
    ("modify", "ip-dhcp-host", host(8, "acht", 18)),
    ("modify", "ip-dhcp-host", host(0x38, "huit", 18)),
    ("modify", "ip-dhcp-host", host(0x38, "ocho", 38)),
    ("modify", "ip-dhcp-host", "<host name='ocho' ip='10.9.4.39'/>"),
    ("modify", "ip-dhcp-host", "<host name='acht' ip='10.9.4.19'/>"),
    ("delete", "ip-dhcp-host", "<host mac='52:54:00:00:00:08'/>"),
    ("delete", "ip-dhcp-host", host(9, "nine", 9)),
    ("delete", "ip-dhcp-host", host(9, "nine", 9)),
    ("delete", "ip-dhcp-host", "<host ip='10.9.4.7'/>"),
    ("delete", "ip-dhcp-host", "<host/>"),
    ("add", "ip-dhcp-host", "<host ip='10.9.4.7'/>"),
    ("add", "ip-dhcp-host", "<host mac='52:54:00:00:00:55' />"),
    ("add", "ip-dhcp-host", "<range start='10.9.4.7'/>"),
    ("add", "ip-dhcp-host", "<host mac="),
    ("add", "ip-dhcp-host", host(0x44, "x44", 1, "10.9.3.")),
    ("add", "ip-dhcp-host", host(0x45, "x45", "::1", "fd00")),
    ("add", "ip-dhcp-host", host(0x46, "x46", 46), 0),
    ("add", "ip-dhcp-host", host(0x47, "x47", 47), 1),
    ("add", "ip-dhcp-host", host(0x48, "x48", 48), -1, 1),
    ("add", "ip-dhcp-host", host(0x49, "x49", 49), -1, 2),
    ("add", "ip-dhcp-host", host(0x50, "x50", 50), -1, 3),
    ("add", "ip-dhcp-host", host(0x51, "x51", 51), -1, 8),
    ("delete", "ip-dhcp-host", host(0x49, "x49", 49), -1, 3),
    ("delete", "ip-dhcp-host", host(0x48, "x48", 48), -1, 3),
    ("add", "ip-dhcp-range", span(30, 40)),
    ("first", "ip-dhcp-range", span(60, 70)),
    ("add", "ip-dhcp-range", span(30, 40)),
    ("add", "ip-dhcp-range", span(35, 45)),
    ("add", "ip-dhcp-range", span(35, 45, "10.9.3.")),
    ("add", "ip-dhcp-range", span(90, 80)),
    ("modify", "ip-dhcp-range", span(30, 41)),
    ("delete", "ip-dhcp-range", span(30, 41)),
    ("delete", "ip-dhcp-range", span(30, 40)),
    ("delete", "ip-dhcp-range", "<host/>"),
    ("add", "dns-host", record(5, "y")),
    ("add", "dns-host", record(6, "x")),
    ("add", "dns-host", record(6, "z")),
    ("first", "dns-host", record(77, "w", "w2")),
    ("modify", "dns-host", record(6, "zz")),
    ("delete", "dns-host", record(6)),
    ("delete", "dns-host", "<host><hostname>w2</hostname></host>"),
    ("delete", "dns-host", "<host><hostname>w2</hostname></host>"),
    ("delete", "dns-host", "<host/>"),
    ("add", "dns-host", "<host/>"),
    ("add", "dns-host", record(61)),
    ("add", "dns-host", "<txt/>"),
    ("add", "dns-txt", "<txt name='a' value='c'/>"),
    ("first", "dns-txt", "<txt name='t2' value='c'/>"),
    ("modify", "dns-txt", "<txt name='t2' value='d'/>"),
    ("delete", "dns-txt", "<txt name='t2'/>"),
    ("delete", "dns-txt", "<txt name='t2'/>"),
    ("delete", "dns-txt", "<txt/>"),
    ("add", "dns-srv", "<srv service='s' protocol='tcp'/>"),
    ("add", "dns-srv", SRV % "s"),
    ("first", "dns-srv", SRV % "s2"),
    ("delete", "dns-srv", "<srv service='s'/>"),
    ("delete", "dns-srv", "<srv service='s2' protocol='udp'/>"),
    ("delete", "dns-srv", "<srv service='nope'/>"),
    ("delete", "dns-srv", "<srv/>"),
    ("modify", "dns-srv", "<srv service='s' protocol='udp'/>"),
    ("add", "portgroup", "<portgroup name='a'/>"),
    ("add", "portgroup", "<portgroup name='c' default='yes'/>"),
    ("add", "portgroup", "<portgroup name='c'/>"),
    ("first", "portgroup", "<portgroup name='d'/>"),
    ("modify", "portgroup", "<portgroup name='c'><bandwidth><inbound average='5'/></bandwidth></portgroup>"),
    ("modify", "portgroup", "<portgroup name='e'/>"),
    ("modify", "portgroup", "<portgroup name='b' default='yes'/>"),
    ("delete", "portgroup", "<portgroup name='c'/>"),
    ("delete", "portgroup", "<portgroup name='c'/>"),
    ("delete", "portgroup", "<portgroup/>"),
    ("add", "forward-interface", "<interface dev='eth3'/>"),
    ("first", "forward-interface", "<interface dev='eth4'/>"),
    ("delete", "forward-interface", "<interface dev='eth3'/>"),
    ("delete", "forward-interface", "<interface dev='eth3'/>"),
    ("modify", "forward-interface", "<interface dev='eth3'/>"),
    ("add", "forward-interface", "<interface/>"),
    ("add", "bridge", "<bridge/>"),
    ("modify", "domain", "<domain/>"),
    ("delete", "ip", "<ip/>"),
    ("add", "forward", "<forward/>"),
    ("add", "forward-pf", "<pf/>"),
    ("what", "ip-dhcp-host", host(0x61, "x61", 61)),
    ("add", "none", host(0x61, "x61", 61)),
]


def updates(active, persistent, cases=UPDATES):
    print("\n### active", active, "persistent", persistent)
    net = conn.networkDefineXML(NET) if persistent else conn.networkCreateXML(NET)
    if active and persistent:
        net.create()
    shown = ""
    for command, section, xml, *more in cases:
        parent, flags = [*more, -1, 0][:2] if len(more) != 1 else (more[0], 0)
        print(
            command, section, xml, *more, "->", ask(net.update, COMMAND[command], SECTION[section], parent, xml, flags)
        )
        documents = "".join(net.XMLDesc(flag) for flag in (0, libvirt.VIR_NETWORK_XML_INACTIVE))
        if documents != shown:
            print(documents)
            shown = documents
    if active:
        net.destroy()
    if persistent:
        net.undefine()


PORT = (
    "<networkport><uuid>7ae53100-022b-49e0-9ca0-6e5d6ec2d3%02x</uuid>"
    "<owner><name>dom</name><uuid>06578fc1-c686-46fa-bc2c-220893b466a6</uuid></owner>%s</networkport>"
)
MAC = "<mac address='52:54:00:7b:35:09'/>"
LIMITS = "<bandwidth><inbound average='20' peak='30' burst='40'/><outbound average='7'/></bandwidth>"
PORTS = [
    ("", 0),
    (MAC, 0),
    (MAC + "<group>nope</group>", 0),
    (MAC + "<group>b</group>", 0),
    (MAC + "<vlan><tag id='4'/></vlan>", 0),
    (MAC + "<virtualport type='openvswitch'/>", 0),
    (MAC + "<bandwidth><inbound floor='10' average='20'/></bandwidth>", 0),
    (MAC + LIMITS, 0),
    (MAC + "<rxfilters trustGuest='yes'/>", 0),
    (MAC + "<port isolated='yes'/>", 0),
    (MAC + "<plug type='network' bridge='ubr'/>", 0),
    (MAC + "<plug type='network' bridge='ubr'/>", 1),
    (MAC, 1),
    ("<mac/>", 0),
    ("<mac address='zz'/>", 0),
    (MAC + "<plug type='none'/><class id='4'/>", 0),
    (MAC + "<bandwidth><inbound/></bandwidth>", 0),
]
BROKEN = ["<networkport/>", "<networkport><uuid>zz</uuid></networkport>", "<x/>", "<x"]


def ports():
    print("\n### ports")
    net = conn.networkDefineXML(NET.replace("name='a' default='yes'/>", f"name='a' default='yes'>{LIMITS}</portgroup>"))
    print(ask(net.listAllPorts), ask(net.portCreateXML, PORT % (0, MAC)))
    net.create()
    made = {}
    for number, (parts, flags) in enumerate(PORTS):
        port = ask(net.portCreateXML, PORT % (number, parts), flags)
        print(parts, flags, "->", port if isinstance(port, tuple) else port.XMLDesc())
        if not isinstance(port, tuple):
            made[port.UUIDString()] = port
    print(ask(net.portCreateXML, PORT % (3, MAC)), [ask(net.portCreateXML, xml) for xml in BROKEN])
    print(sorted(port.UUIDString() for port in net.listAllPorts()) == sorted(made), net.XMLDesc().splitlines()[0])
    port = net.portLookupByUUIDString("7ae53100-022b-49e0-9ca0-6e5d6ec2d307")
    print(port.parameters())
    for change in ({"inbound.average": 5, "inbound.burst": 7}, {"outbound.average": 3}, {"inbound.average": 0}):
        print(change, ask(port.setParameters, change), ask(port.parameters), port.XMLDesc())
    print(ask(net.portLookupByUUIDString, "8865f5e2-3758-49bf-b796-f2a53d448d5a"))
    port.delete()
    print(ask(port.XMLDesc), ask(port.delete), ask(port.parameters))
    net.destroy()
    net.create()
    print(net.listAllPorts())
    net.destroy()
    net.undefine()


# the active ones cost C libvirtd half a second each
updates(False, True)
updates(True, True, [case for number, case in enumerate(UPDATES) if number % 4 == 0 or len(case) > 3])
updates(True, False, [case for case in UPDATES if len(case) > 3])
ports()
