"""Secrets for the daemon's own use, whoever may not see them; and what a log could ever hold of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.errors import InvalidSecret, NoSecret
from guesthouse.services.context import Config, Context, Paths
from guesthouse.services.events import Event, EventBus
from guesthouse.services.secrets import Secrets
from guesthouse.services.store import Store

UUID = "f52a81b2-424e-490c-823d-6bd4235bc573"
XML = f"<secret private='yes'><uuid>{UUID}</uuid><usage type='ceph'><name>client.admin</name></usage></secret>"
VOLUME, CEPH = 1, 2


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    paths = Paths.for_root(tmp_path)
    paths.make()
    store = Store(paths.state, paths.run)
    yield Context(paths, "system", store, EventBus(), Config())
    store.close()


def test_values_for_guests(ctx: Context) -> None:
    secrets = Secrets(ctx)
    events: list[Event] = []
    ctx.events.subscribe(events.append)
    ref = secrets.define_xml(xml=XML, flags=0)
    with pytest.raises(NoSecret, match="does not have a value"):
        secrets.value_for(CEPH, uuid=UUID)
    secrets.set_value(secret=ref, value=b"tons of coal", flags=0)
    for known in (secrets, Secrets(ctx)):  # this daemon, and the next one
        assert known.value_for(CEPH, uuid=UUID) == b"tons of coal"
        assert known.value_for(CEPH, usage_id="client.admin") == b"tons of coal"
        with pytest.raises(InvalidSecret, match="is of type 'ceph' not expected 'volume' type"):
            known.value_for(VOLUME, uuid=UUID)
        with pytest.raises(NoSecret, match="no secret with matching usage 'x'"):
            known.value_for(CEPH, usage_id="x")
        assert "coal" not in f"{vars(known)} {ref}"
    assert [(event.id, event.args.get("event")) for event in events] == [(0, 0), (1, None)]
    assert "coal" not in str(events)


def test_a_row_that_is_not_understood_hides_no_other(ctx: Context) -> None:
    ctx.store.put("secret", UUID, UUID, "<secret")
    other = UUID.replace("573", "574")
    ctx.store.put("secret", other, other, f"<secret><uuid>{other}</uuid></secret>")
    assert Secrets(ctx).list_uuids(maxuuids=9) == [other]
