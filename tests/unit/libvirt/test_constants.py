"""The constants that are in the package are those of the reference facts."""

from __future__ import annotations

from guesthouse import libvirt
from guesthouse.libvirt.constants import VALUES
from support import libvirt_constants
from support.reference import needs_reference


@needs_reference
def test_they_are_fresh() -> None:
    """Else: python tests/support/libvirt_constants.py"""
    assert libvirt_constants.FILE.read_text() == libvirt_constants.text()


def test_numbers_and_texts() -> None:
    assert VALUES["VIR_DOMAIN_SHUTOFF"] == 5
    assert VALUES["VIR_ERR_NO_DOMAIN"] == 42
    assert VALUES["VIR_NODE_CPU_STATS_ALL_CPUS"] == -1
    assert VALUES["VIR_DOMAIN_TUNABLE_CPU_CPU_SHARES"] == "cputune.cpu_shares"
    assert vars(libvirt)["VIR_DOMAIN_XML_SECURE"] == 1
