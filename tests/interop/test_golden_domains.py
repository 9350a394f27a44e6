"""Our golden domains on C libvirtd: what it makes of each input is our golden output, byte for byte."""

from __future__ import annotations

import pytest

from support import domains
from support.libvirtd import Libvirtd

#: Not defined by libvirtd, since the document shows more than this QEMU or libvirt has, or more than goes together.
REFUSED_BY_LIBVIRT = {
    "devices-ends": "cannot parse 'dspPolicy' value '-1'",
}


@pytest.mark.parametrize("name", domains.names())
def test_libvirt_defines_the_same(c_libvirtd: Libvirtd, name: str) -> None:
    defined = c_libvirtd.run("define", str(domains.DOMAINS / f"{name}.xml"))
    if name in REFUSED_BY_LIBVIRT:
        assert defined.returncode == 1 and REFUSED_BY_LIBVIRT[name] in defined.stderr
        return
    assert defined.returncode == 0, defined.stderr
    try:
        out = c_libvirtd.run("dumpxml", "--inactive", "--security-info", name).stdout
    finally:
        c_libvirtd.run("undefine", "--keep-nvram", name)
    assert out.rstrip("\n") + "\n" == domains.text(f"{name}.out")
