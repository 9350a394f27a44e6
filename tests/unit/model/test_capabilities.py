"""<capabilities> and <domainCapabilities>: what libvirt writes comes out as it went in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from guesthouse.errors import XMLError
from guesthouse.model.capabilities import Capabilities, DomainCapabilities, Enum, Offer
from support.reference import REFERENCE, needs_reference

CONTEXT = REFERENCE / "virtinstall/context"

HOST = """\
<capabilities>

  <host>
    <uuid>265e93d3-3518-487a-a62d-e05870bf8553</uuid>
    <cpu>
      <arch>x86_64</arch>
      <model>Haswell-noTSX-IBRS</model>
      <vendor>Intel</vendor>
      <microcode version='1'/>
      <signature family='6' model='60' stepping='3'/>
      <counter name='tsc' frequency='2591999000' scaling='no'/>
      <topology sockets='1' dies='1' cores='2' threads='2'/>
      <maxphysaddr mode='emulate' bits='39'/>
      <feature name='vme'/>
      <pages unit='KiB' size='4'/>
    </cpu>
    <power_management>
      <suspend_mem/>
      <suspend_hybrid/>
    </power_management>
    <iommu support='yes'/>
    <migration_features>
      <live/>
      <uri_transports>
        <uri_transport>tcp</uri_transport>
      </uri_transports>
    </migration_features>
    <netprefix>vif</netprefix>
    <topology>
      <cells num='1'>
        <cell id='0'>
          <memory unit='KiB'>5073100</memory>
          <pages unit='KiB' size='4'>1268275</pages>
          <distances>
            <sibling id='0' value='10'/>
          </distances>
          <cache level='1' associativity='direct' policy='writeback'/>
          <cpus num='1'>
            <cpu id='0' socket_id='0' die_id='0' core_id='0' siblings='0,2'/>
          </cpus>
        </cell>
      </cells>
    </topology>
    <cache>
      <bank id='0' level='3' type='both' size='4' unit='MiB' cpus='0-3'/>
    </cache>
    <secmodel>
      <model>dac</model>
      <doi>0</doi>
      <baselabel type='kvm'>+64055:+64055</baselabel>
    </secmodel>
  </host>

  <guest>
    <os_type>hvm</os_type>
    <arch name='i686'>
      <wordsize>32</wordsize>
      <emulator>/usr/bin/qemu-system-i386</emulator>
      <machine maxCpus='255'>pc-i440fx-7.2</machine>
      <machine canonical='pc-i440fx-7.2' maxCpus='255' deprecated='yes'>pc</machine>
      <domain type='qemu'/>
      <domain type='kvm'>
        <emulator>/usr/bin/kvm</emulator>
      </domain>
    </arch>
    <features>
      <pae/>
      <nonpae/>
      <acpi default='on' toggle='yes'/>
      <disksnapshot default='off' toggle='no'/>
    </features>
  </guest>

</capabilities>
"""

DOMAIN = """\
<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <domain>kvm</domain>
  <machine>pc-q35-7.2</machine>
  <arch>x86_64</arch>
  <vcpu max='288'/>
  <iothreads supported='yes'/>
  <os supported='yes'>
    <enum name='firmware'/>
    <loader supported='yes'>
      <value>/usr/share/OVMF/OVMF_CODE.fd</value>
      <enum name='type'>
        <value>rom</value>
      </enum>
    </loader>
  </os>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='host-model' supported='yes'>
      <model fallback='forbid'>EPYC</model>
      <vendor>AMD</vendor>
      <maxphysaddr mode='passthrough' limit='48'/>
      <feature policy='require' name='x2apic'/>
      <feature policy='disable' name='svm'/>
    </mode>
    <mode name='custom' supported='yes'>
      <model usable='no' deprecated='yes' vendor='AMD'>phenom</model>
    </mode>
  </cpu>
  <memoryBacking supported='no'/>
  <devices>
    <disk supported='yes'>
      <enum name='bus'>
        <value>virtio</value>
        <value>sata</value>
      </enum>
    </disk>
    <hostdev supported='no'/>
  </devices>
  <features>
    <gic supported='no'/>
    <sev supported='yes'>
      <cbitpos>47</cbitpos>
    </sev>
  </features>
</domainCapabilities>
"""


def facts(text: str) -> Counter[Any]:
    """Every element with its path, attributes and text."""
    found: Counter[Any] = Counter()

    def walk(node: Any, path: str) -> None:
        if isinstance(node.tag, str):
            here = f"{path}/{node.tag}"
            found[here, tuple(sorted(node.attrib.items())), (node.text or "").strip()] += 1
            for child in node:
                walk(child, here)

    walk(etree.fromstring(text.encode()), "")
    return found


def test_host() -> None:
    parsed = Capabilities.from_xml(HOST)
    assert parsed.to_xml() == HOST
    assert parsed.host is not None and parsed.host.power_management is not None
    assert not parsed.host.power_management.suspend_disk
    (guest,) = parsed.guests
    assert guest.arch is not None
    assert [m.canonical for m in guest.arch.machines] == [None, "pc-i440fx-7.2"]
    assert guest.arch.domains[1].emulator == "/usr/bin/kvm"


def test_domain() -> None:
    parsed = DomainCapabilities.from_xml(DOMAIN)
    # the one thing that is not declared stands behind what is
    assert facts(parsed.to_xml()) == facts(DOMAIN)
    assert DomainCapabilities.from_xml(parsed.to_xml()) == parsed
    assert parsed.devices is not None and parsed.devices.disk is not None
    assert parsed.devices.disk.values("bus") == ["virtio", "sata"]
    assert parsed.devices.disk.values("model") == []
    assert parsed.cpu is not None
    mode = parsed.cpu.mode("host-model")
    assert mode is not None and mode.models[0].name == "EPYC" and mode.features[1].policy == "disable"
    assert parsed.cpu.mode("maximum") is None


def test_made_from_nothing() -> None:
    offer = Offer(supported=True, enums=[Enum.of("bus", ["ide", "<x>"]), Enum.of("none", [])])
    assert offer.to_xml() == (
        "<offer supported='yes'>\n  <enum name='bus'>\n    <value>ide</value>\n    <value>&lt;x&gt;</value>\n"
        "  </enum>\n  <enum name='none'/>\n</offer>\n"
    )


def test_a_wrong_value_is_refused() -> None:
    with pytest.raises(XMLError, match="'maybe'"):
        Capabilities.from_xml(HOST.replace("<iommu support='yes'/>", "<iommu support='maybe'/>"))


@needs_reference
@pytest.mark.parametrize("file", sorted(CONTEXT.glob("kvm-*.xml")), ids=lambda p: p.name)
def test_documents_of_other_hosts_lose_nothing(file: Path) -> None:
    text = file.read_text()
    kind = DomainCapabilities if "domcaps" in file.name else Capabilities
    assert facts(kind.from_xml(text).to_xml()) == facts(text)
