"""SMBIOS, as dmidecode prints it and libvirt shows it."""

from __future__ import annotations

from guesthouse.host import sysinfo
from guesthouse.model.sysinfo import SysInfo

PRINTED = """\
BIOS Information
\tVendor: SeaBIOS
\tVersion: rel-1.16
\tRelease Date: 04/01/2014
\tCharacteristics:
\t\tTargeted content distribution is supported
\tBIOS Revision: 0.0

System Information
\tManufacturer: QEMU
\tProduct Name: Standard <PC>
\tSerial Number: Not Specified
\tUUID: 6c6b1f9e-0000-4000-8000-0123456789ab
\tWake-up Type: Power Switch
\tFamily: Not Specified

Base Board Information
\tManufacturer: Maker
\tLocation In Chassis: 1U

Chassis Information
\tManufacturer: QEMU
\tHeight: Unspecified

Processor Information
\tSocket Designation: CPU 0
\tType: Central Processor
\tFlags:
\t\tFPU (Floating-point unit on-chip)
\tMax Speed: 2000 MHz

Memory Device
\tSize: 2 GB
\tLocator: DIMM 0

Memory Device
\tSize: No Module Installed
\tLocator: DIMM 1

OEM Strings
\tString 1: one
\tString 2: two: three

"""
WRITTEN = """\
<sysinfo type='smbios'>
  <bios>
    <entry name='vendor'>SeaBIOS</entry>
    <entry name='version'>rel-1.16</entry>
    <entry name='date'>04/01/2014</entry>
    <entry name='release'>0.0</entry>
  </bios>
  <system>
    <entry name='manufacturer'>QEMU</entry>
    <entry name='product'>Standard &lt;PC&gt;</entry>
    <entry name='serial'>Not Specified</entry>
    <entry name='uuid'>6c6b1f9e-0000-4000-8000-0123456789ab</entry>
    <entry name='family'>Not Specified</entry>
  </system>
  <baseBoard>
    <entry name='manufacturer'>Maker</entry>
    <entry name='location'>1U</entry>
  </baseBoard>
  <chassis>
    <entry name='manufacturer'>QEMU</entry>
  </chassis>
  <processor>
    <entry name='socket_destination'>CPU 0</entry>
    <entry name='type'>Central Processor</entry>
    <entry name='max_speed'>2000 MHz</entry>
  </processor>
  <memory_device>
    <entry name='size'>2 GB</entry>
    <entry name='locator'>DIMM 0</entry>
  </memory_device>
  <oemStrings>
    <entry>one</entry>
    <entry>two: three</entry>
  </oemStrings>
</sysinfo>
"""


def test_a_machine() -> None:
    info = sysinfo.parse(PRINTED)
    assert info is not None
    assert info.to_xml() == WRITTEN
    assert SysInfo.from_xml(WRITTEN) == info


def test_a_machine_without() -> None:
    assert sysinfo.parse("# No SMBIOS nor DMI entry point found, sorry.\n") is None
    assert sysinfo.parse("") is None
