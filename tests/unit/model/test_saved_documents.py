"""What is kept of a live document, and which other documents its state fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from guesthouse.errors import ConfigUnsupported
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import abi
from guesthouse.model.defaults import prepare
from guesthouse.model.devices.audio import Sound
from guesthouse.model.domain import Domain, Seclabel
from guesthouse.model.inactive import inactive
from support import domains

XML = """\
<domain type='qemu'>
  <name>kept</name>
  <uuid>7a6c2d9a-3e7e-4b4c-9d9b-0e0d7c1c5e02</uuid>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'><source file='/a.raw'/><target dev='vda' bus='virtio'/><alias name='ua-a'/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:02'/><source bridge='br0'/><target dev='mine0'/>
    </interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><source mode='bind' path='/own.sock'/><target type='virtio' name='a.b'/></channel>
    <graphics type='vnc' passwd='Secret12'/>
    <graphics type='spice' port='5999' autoport='no'/>
  </devices>
</domain>
"""
MADE = "/run/made"


def live_of(definition: Domain) -> Domain:
    """As a daemon completes it."""
    live = domains.live(definition)
    live.id = 7
    first = live.dev.interfaces[0]
    first.set_tap("vnet3")
    assert first.source is not None
    first.source.bridge, first.source.portid = "virbr0", definition.uuid
    serial, console = live.dev.serials[0], live.dev.consoles[0]
    serial.end().path = console.end().path = console.tty = "/dev/pts/3"
    agent = live.dev.channels[0]
    agent.end().mode, agent.end().path = "bind", f"{MADE}/domain-7/agent"
    assert agent.target is not None
    agent.target.state = "connected"
    vnc = live.dev.graphics[0]
    vnc.listens[0].address = vnc.listen = "127.0.0.1"
    live.seclabels.append(Seclabel(type="dynamic", model="dac", relabel=True, label="+1:+1"))
    return live


def test_a_live_document_comes_back_to_its_definition() -> None:
    definition = domains.define(XML)
    kept = inactive(live_of(definition), definition, MADE)
    assert kept.to_xml(secrets=True) == definition.to_xml(secrets=True)


def test_without_a_definition_all_that_is_needed_is_kept() -> None:
    live = live_of(domains.define(XML))
    before = live.to_xml(secrets=True)
    text = inactive(live, None, MADE).to_xml(secrets=True)
    assert live.to_xml(secrets=True) == before, "the live document is left alone"
    for gone in ("vnet3", "portid", "/dev/pts", MADE, "connected", "dynamic", "'net0'", "id='7'", "index='1'/"):
        assert gone not in text, gone
    for there in ("ua-a", "mine0", "/own.sock", "port='5999'", "port='-1'", "Secret12"):
        assert there in text, there


def test_a_live_document_that_is_sent_back_is_a_definition() -> None:
    """As programs do who change a running guest: they define what they were given."""
    definition = domains.define(XML)
    live, again = live_of(definition), domains.define(definition.to_xml(secrets=True)).to_xml(secrets=True)
    live.dev.graphics[0].listens[0].address = live.dev.graphics[0].listen = None  # it might be the user's
    sockets = ("domain-7-kept/org.qemu.guest_agent.0", "domain-1-a.b/org.qemu.guest_agent.0", "domain-1-a/another")
    for number, name in enumerate(sockets):
        channel = live.dev.channels[0]
        channel.end().path = f"/var/lib/libvirt/qemu/channel/target/{name}"  # of libvirtd's guest
        sent = Domain.from_xml(live.to_xml(secrets=True))
        prepare(sent, replace(domains.HOST, run_folder=MADE))
        sent.resource, sent.dev.disks[0].backing = None, None  # of these libvirtd does not know who wrote them
        assert sent.seclabels.pop().to_xml() == "<seclabel type='dynamic' model='dac' relabel='yes'/>\n"
        if number < 2:
            assert sent.to_xml(secrets=True) == again
        else:
            assert name in sent.to_xml(), "a socket that has another name is somebody's own"


# C libvirtd says the same
PROCESSORS = [
    ("<cpu mode='host-model'><model fallback='allow'/></cpu>", "<cpu mode='host-model' check='partial'/>"),
    (
        "<cpu mode='host-model'><model>qemu64</model></cpu>",
        "<cpu mode='host-model' check='partial'>\n  <model fallback='allow'>qemu64</model>\n</cpu>",
    ),
    ("<cpu mode='maximum'><model>qemu64</model></cpu>", "<cpu mode='maximum' check='none'/>"),
    (
        "<cpu><model/></cpu>",
        "<cpu mode='custom' match='exact' check='none'>\n  <model fallback='forbid'>qemu64</model>\n</cpu>",
    ),
]


@pytest.mark.parametrize(("given", "kept"), PROCESSORS)
def test_a_processor_without_a_name_for_its_model_has_none(given: str, kept: str) -> None:
    domain = domains.define(XML.replace("<devices>", f"{given}<devices>"))
    assert domain.cpu is not None and domain.cpu.to_xml().strip() == kept


def test_what_says_nothing_to_qemu_is_not_kept() -> None:
    namespace = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
    text = XML.replace("type='qemu'", f"type='qemu' {namespace}", 1)
    assert "qemu:" not in domains.define(text.replace("</domain>", "<qemu:commandline/></domain>")).to_xml()


def test_what_the_guest_does_not_see_may_differ() -> None:
    source, target = domains.define(XML), domains.define(XML)
    target.title = "new"
    disk = target.dev.disks[0]
    assert disk.source is not None
    disk.source.file = "/b.raw"
    target.dev.graphics.clear()
    abi.check(source, target)


def _memory(domain: Domain) -> None:
    domain.memory = 65 * 1024


def _name(domain: Domain) -> None:
    domain.name = "other"


def _machine(domain: Domain) -> None:
    assert domain.os is not None and domain.os.type is not None
    domain.os.type.machine = "pc-q35-7.1"


def _processor(domain: Domain) -> None:
    assert domain.cpu is not None and domain.cpu.model is not None
    domain.cpu.model.name = "qemu32"


def _apic(domain: Domain) -> None:
    assert domain.features is not None
    domain.features.acpi = False


def _bus(domain: Domain) -> None:
    target = domain.dev.disks[0].target
    assert target is not None
    target.bus = "sata"


def _place(domain: Domain) -> None:
    address = domain.dev.disks[0].address
    assert address is not None
    address.bus = 9


def _mac(domain: Domain) -> None:
    mac = domain.dev.interfaces[1].mac
    assert mac is not None
    mac.address = "52:54:00:00:00:03"


def _sound(domain: Domain) -> None:
    domain.dev.sounds.append(Sound(model="ich6"))


def _balloon(domain: Domain) -> None:
    assert domain.dev.memballoon is not None
    domain.dev.memballoon.model = "none"


# C libvirtd says the same (but for a blank that its PCI message lacks)
DIFFERENCES: list[tuple[Callable[[Domain], None], str]] = [
    (_memory, "Target domain max memory 66560 does not match source 65536"),
    (_name, "Target domain name 'other' does not match source 'kept'"),
    (_machine, "Target domain machine type pc-q35-7.1 does not match source pc-q35-7.2"),
    (_processor, "Target CPU model qemu32 does not match source qemu64"),
    (_apic, "State of feature 'acpi' differs: source: 'on', destination: 'default'"),
    (_bus, "Target disk bus sata does not match source virtio"),
    (_place, "Target device PCI address 0000:09:00.0 does not match source 0000:05:00.0"),
    (_mac, "Target network card mac 52:54:00:00:00:03 does not match source 52:54:00:00:00:02"),
    (_sound, "Target domain sound card count 1 does not match source 0"),
    (_balloon, "Target balloon model none does not match source virtio"),
]


@pytest.mark.parametrize(("change", "words"), DIFFERENCES, ids=[change.__name__ for change, _ in DIFFERENCES])
def test_another_machine_is_refused(change: Callable[[Domain], None], words: str) -> None:
    source, target = domains.define(XML), domains.define(XML)
    change(target)
    with pytest.raises(ConfigUnsupported) as caught:
        abi.check(source, target)
    assert caught.value.detail == words
    assert caught.value.domain == (ErrorDomain.CPU if "CPU" in words else ErrorDomain.DOMAIN)


@pytest.mark.parametrize("name", domains.names())
def test_every_golden_document_fits_itself_and_stays_complete(name: str) -> None:
    definition = domains.define(domains.text(name))
    kept = inactive(domains.live(definition), definition, MADE)
    again = kept.copy()
    prepare(again, domains.HOST)
    abi.check(kept, again)
    if definition.os is not None and definition.os.firmware:
        definition.os = kept.os  # what was chosen stays
    have, want = (sorted(d.to_xml(secrets=True).splitlines()) for d in (kept, definition))
    assert have == want, "but for the order of controllers"
