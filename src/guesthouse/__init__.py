"""Guesthouse: virtual machines on Linux over QEMU, speaking libvirt's XML, protocol and command lines."""

__version__ = "0.1.0"

#: The libvirt release whose protocol, XML and behaviour is spoken (major * 1000000 + minor * 1000 + release).
LIBVIRT_VERSION = 9_000_000
