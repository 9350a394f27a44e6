"""Any document is read, or refused by one of our errors; and what was read is written so that it reads the same."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from guesthouse.errors import GuesthouseError
from guesthouse.model import domain, network, secret, storage
from guesthouse.model.fields import Element
from support.mutations import SEEDS, change_document

KINDS: dict[str, type[Element]] = {
    "domain": domain.Domain,
    "network": network.Network,
    "pool": storage.Pool,
    "volume": storage.Volume,
    "secret": secret.Secret,
}


def read(data: bytes) -> None:
    tag = re.match(rb"\s*<(\w+)", data)
    kind = KINDS.get(tag[1].decode() if tag else "", domain.Domain)
    try:
        first = kind.from_xml(data).to_xml(secrets=True)
    except GuesthouseError:
        return
    assert kind.from_xml(first).to_xml(secrets=True) == first


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_documents_with_something_else_in_them(document: bytes, seed: int) -> None:
    read(change_document(document, seed))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.binary(max_size=60), st.sampled_from([b"", b"<domain>", b"<network><name>", b"<?xml version='1.0' encoding='"])
)
def test_bytes(data: bytes, start: bytes) -> None:
    read(start + data)


def test_what_fuzzing_has_found() -> None:
    read(b"<domain type='qemu'><name>a</name><memory>1</memory><vcpu><other/></vcpu><os><type>hvm</type></os></domain>")
