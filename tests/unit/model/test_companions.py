"""<filesystem>, <tpm>, <vsock>: what libvirt adds, and refuses, in its words."""

from __future__ import annotations

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.model.domain import Domain
from support import domains

FS = "<filesystem type='mount'{0}>{1}<source dir='/a'/><target dir='t'/></filesystem>"
VIRTIOFS = FS.format("{0}", "<driver type='virtiofs'{1}/>")
TPM = "<tpm model='{0}'><backend type='{1}'{2}</tpm>"


def define(devices: str) -> Domain:
    return domains.define(
        "<domain type='qemu'><name>x</name><memory>65536</memory>"
        f"<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"
    )


@pytest.mark.parametrize(
    "code, text, devices",
    [
        (19, "missing source information for device t", "<filesystem><target dir='t'/></filesystem>"),
        (20, "missing target information for device /a", "<filesystem><source dir='/a'/></filesystem>"),
        (27, "invalid fmode: '01777'", FS.format(" accessmode='mapped' fmode='1777'", "")),
        (67, "fmode and dmode must be used with accessmode=mapped", FS.format(" dmode='0755'", "")),
        (67, "only supports mount filesystem type", FS.format("", "").replace("mount", "bind")),
        (67, "Filesystem driver type not supported", FS.format("", "<driver type='loop'/>")),
        (67, "boot order is only supported for virtiofs", FS.format("", "<boot order='1'/>")),
        (67, "filesystem target 't' specified twice", VIRTIOFS.format("", "") * 2),
        (67, "virtiofs only supports passthrough accessmode", VIRTIOFS.format(" accessmode='squash'", "")),
        (67, "virtiofs does not support model", VIRTIOFS.format(" model='virtio'", "")),
        (67, "virtiofs does not support multidevs", VIRTIOFS.format(" multidevs='remap'", "")),
        (67, "virtiofs does not support wrpolicy", VIRTIOFS.format("", " wrpolicy='immediate'")),
        (
            67,
            "virtiofs does not yet support read-only mode",
            VIRTIOFS.format("", "").replace("<target", "<readonly/><target"),
        ),
        (27, "missing TPM device backend", "<tpm model='tpm-tis'/>"),
        (67, "Unsupported interface 'tpm-crb' for TPM 1.2", TPM.format("tpm-crb", "emulator", " version='1.2'/>")),
        (
            27,
            "<active_pcr_banks/> requires TPM version '2.0'",
            TPM.format("tpm-tis", "emulator", "><active_pcr_banks><sha1/></active_pcr_banks></backend>"),
        ),
        (27, "missing external TPM backend type", TPM.format("tpm-tis", "external", "/>")),
        (67, "only a single TPM non-proxy device is supported", TPM.format("tpm-tis", "emulator", "/>") * 2),
        (67, "guest CIDs must be >= 3", "<vsock><cid auto='no' address='2'/></vsock>"),
        (27, "only a single vsock device is supported", "<vsock/><vsock/>"),
    ],
)
def test_refused(code: int, text: str, devices: str) -> None:
    with pytest.raises(GuesthouseError) as caught:
        define(devices)
    assert text in str(caught.value) and caught.value.code == code


def test_completed() -> None:
    devices = FS.format("", "<driver type='default' wrpolicy='default'/>") + "<vsock/>"
    dev = define(devices + TPM.format("tpm-crb", "emulator", "/>")).dev
    [share], [vsock], [tpm] = dev.filesystems, dev.vsocks, dev.tpms
    assert share.accessmode == "passthrough" and share.driver is None
    assert vsock.model == "virtio" and vsock.cid is not None and vsock.cid.auto
    assert tpm.backend is not None and tpm.backend.version == "2.0"
    [tpm] = define("<tpm><backend type='passthrough'/></tpm>").dev.tpms
    assert tpm.model == "tpm-tis" and tpm.backend is not None and tpm.backend.device is not None
    assert tpm.backend.device.path == "/dev/tpm0"
