"""The tour: {C virsh, our virsh} x {guesthoused, C libvirtd}, four transcripts that must be one."""

from __future__ import annotations

import difflib
import functools

import pytest

from support import tour
from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable

# Differences that stay, with the reason; docs/compatibility.md tells users the same.
KNOWN: dict[str, str] = {
    "domcapabilities": "fewer devices are served here; compared by meaning in test_host.py",
    "capabilities": "fewer features are served here; compared by meaning in test_host.py",
}

PROGRAMS = {"c-virsh": "/usr/bin/virsh", "our-virsh": str(BIN / "virsh")}


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[tour.Step]]:
    """One fresh daemon a transcript: ids and leftovers of one tour must not show in another."""
    done = {}
    base = reachable(tmp_path_factory.mktemp("tour"))
    kinds: dict[str, type[Libvirtd] | type[Guesthoused]] = {"libvirtd": Libvirtd, "guesthoused": Guesthoused}
    for kind, make in kinds.items():
        for name, program in PROGRAMS.items():
            place = base / f"{kind}-{name}".ljust(24, "-")  # tables are as wide as the paths in them
            daemon = make(place / "root")
            try:
                virsh = functools.partial(daemon.run, virsh=program)
                done[kind, name] = tour.run(virsh, daemon.root, place / "work", place / "images")
            finally:
                daemon.close()
    return done


@pytest.mark.parametrize("index", range(len(tour.STEPS)), ids=[f"{i}-{s}" for i, s in enumerate(tour.STEPS)])
@pytest.mark.parametrize(
    "pair",
    [("guesthoused", "c-virsh"), ("libvirtd", "our-virsh"), ("guesthoused", "our-virsh")],
    ids=["c-virsh-guesthoused", "our-virsh-libvirtd", "our-virsh-guesthoused"],
)
def test_step(transcripts: dict[tuple[str, str], list[tour.Step]], pair: tuple[str, str], index: int) -> None:
    want, have = transcripts["libvirtd", "c-virsh"][index], transcripts[pair][index]
    if pair[0] == "guesthoused" and want.line in KNOWN:
        pytest.skip(KNOWN[want.line])
    for name in ("out", "err"):
        left, right = getattr(want, name), getattr(have, name)
        diff = "\n".join(difflib.unified_diff(left.splitlines(), right.splitlines(), "C", "ours", lineterm="", n=2))
        assert left == right, f"$ virsh {want.line} ({name})\n{diff}"
    assert want.code == have.code, want.line
