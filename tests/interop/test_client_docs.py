"""The examples of docs/client.md, run as they are against both daemons."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from support import tour

DOC = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)


@pytest.fixture(params=["c_libvirtd", "guesthoused"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A daemon with a guest "demo", and a pool "docs" with a volume "disk" in it."""
    daemon = request.getfixturevalue(request.param)
    (tmp_path / "pool").mkdir()
    with client.connect(daemon.uri) as conn:
        domain = conn.define_xml(tour.PLAIN.replace("<name>plain</name>", "<name>demo</name>"))
        pool = conn.storage_pool_create_xml(
            f"<pool type='dir'><name>docs</name><target><path>{tmp_path}/pool</path></target></pool>"
        )
        try:
            pool.vol_create_xml("<volume><name>disk</name><capacity>1000</capacity></volume>")
            yield daemon.uri
        finally:
            pool.destroy()
            domain.undefine()


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(uri: str, number: int) -> None:
    env = {**os.environ, "LIBVIRT_DEFAULT_URI": uri}
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if number < 2:
        assert "demo" in done.stdout
    if "no-such-guest" in EXAMPLES[number]:
        assert done.stdout.startswith("42 Domain not found: no domain with matching name 'no-such-guest'")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 7
