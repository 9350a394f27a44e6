"""Our client library against C libvirtd: calls, events, streams, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse import client, errors
from support import tour
from support.libvirtd import Libvirtd


@pytest.fixture
def conn(c_libvirtd: Libvirtd) -> client.Connect:
    with client.connect(c_libvirtd.uri) as connection:
        yield connection


def test_life_of_a_guest_with_its_events(conn: client.Connect) -> None:
    seen: list[tuple[str, int, int]] = []
    number = conn.domain_event_register_any(None, 0, lambda e: seen.append((e.msg.dom.name, e.msg.event, e.msg.detail)))
    xml = tour.PLAIN.replace("</domain>", "<devices><graphics type='vnc'/></devices></domain>")
    domain = conn.define_xml(xml)
    try:
        assert (domain.name, domain.id, domain.is_active()) == ("plain", -1, False)
        domain.create()
        assert domain.id > 0
        assert domain.get_state() == (1, 1)
        assert domain.get_info().maxMem == 65536
        mime, stream = domain.screenshot()
        picture = b""
        while chunk := stream.recv(65536):
            picture += chunk
        stream.finish()
        assert mime == "image/png" and picture.startswith(b"\x89PNG")
        with pytest.raises(errors.OperationInvalid, match="domain is already running"):
            domain.create()
    finally:
        domain.destroy()
        domain.undefine()
    while len(seen) < 6 and conn.dispatch_events(2):
        pass
    assert seen == [("plain", *pair) for pair in ((0, 0), (4, 0), (2, 0), (6, 2), (5, 1), (1, 0))]
    conn.event_deregister_any(number)


def test_volume_content_up_and_down(conn: client.Connect, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    pool = conn.storage_pool_create_xml(
        f"<pool type='dir'><name>updown</name><target><path>{tmp_path}/pool</path></target></pool>"
    )
    try:
        xml = "<volume><name>v</name><capacity>1000000</capacity><target><format type='raw'/></target></volume>"
        volume = pool.vol_create_xml(xml)
        content = bytes(range(256)) * 3000
        stream = volume.upload(0, len(content))
        stream.send(content)
        stream.finish()
        stream = volume.download(1, 700_000)
        back = b""
        while chunk := stream.recv(50_000):
            back += chunk
        stream.finish()
        assert back == content[1:700_001]
        with pytest.raises(errors.GuesthouseError):
            stream = volume.upload(0, 2_000_000)
            for _ in range(200):
                stream.send(bytes(20_000))
            stream.finish()
        volume.delete()
    finally:
        pool.destroy()


def test_errors_and_readonly(c_libvirtd: Libvirtd) -> None:
    with client.connect(c_libvirtd.uri, readonly=True) as conn:
        with pytest.raises(errors.NoDomain, match="no domain with matching name 'absent'"):
            conn.lookup_by_name("absent")
        with pytest.raises(errors.OperationDenied):
            conn.define_xml(tour.PLAIN)
    with pytest.raises(errors.SystemFailure, match="No such file or directory"):
        client.connect("qemu+unix:///system?socket=/nonexistent/sock")
