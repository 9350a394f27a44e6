"""<tpm> for QEMU: its backend and the guest's device."""

from __future__ import annotations

from collections.abc import Iterator

from guesthouse.model.devices.tpm import Tpm
from guesthouse.qemu.parts import Chardev, Parts

_CHARDEV = "chrtpm"


def tpm(device: Tpm, socket: str | None, host: tuple[int, int] | None, sets: Iterator[int]) -> Parts:
    """A TPM. ``socket`` is the control socket of its emulator; ``host`` has the descriptors of the host's TPM and of
    where its commands are cancelled, which go into the next two of ``sets``."""
    alias = (device.alias and device.alias.name) or "tpm0"
    backend = device.backend
    assert backend is not None
    parts = Parts()
    if backend.type == "passthrough":
        words = []
        for name, fd in zip(("path", "cancel-path"), host or (0, 0), strict=True):
            number, what = next(sets), "tpm" if name == "path" else "cancel"
            parts.options += ["-add-fd", f"set={number},fd={fd},opaque={alias}-{what}"]
            parts.fds.append(fd)
            words.append(f"{name}=/dev/fdset/{number}")
        parts.options += ["-tpmdev", f"passthrough,id=tpm-{alias},{','.join(words)}"]
    else:
        if backend.type == "external":
            socket = backend.source.path if backend.source is not None else None
        parts.chardevs.append(Chardev(_CHARDEV, "socket", {"path": socket or ""}))
        parts.options += ["-tpmdev", f"emulator,id=tpm-{alias},chardev={_CHARDEV}"]
    parts.devices.append({"driver": device.model, "tpmdev": f"tpm-{alias}", "id": alias})
    return parts
