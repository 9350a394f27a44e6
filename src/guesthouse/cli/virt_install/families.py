"""All families of sub-options, by name."""

from guesthouse.cli.virt_install import (
    char_families,
    device_families,
    guest_families,
    host_families,
    tuning_families,
)
from guesthouse.cli.virt_install.family import FAMILIES

__all__ = ["FAMILIES", "char_families", "device_families", "guest_families", "host_families", "tuning_families"]
