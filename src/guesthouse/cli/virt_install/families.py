"""All families of sub-options, by name."""

from guesthouse.cli.virt_install import device_families, guest_families
from guesthouse.cli.virt_install.family import FAMILIES

__all__ = ["FAMILIES", "device_families", "guest_families"]
