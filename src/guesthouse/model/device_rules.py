"""What libvirt adds to a document's screens' sound, inputs, redirections, cards and shared memory, and
what it refuses of them. Pure; the rules are libvirt 9.0's (domain_postparse.c, domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.character_rules import check_end, tidy
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.audio import Audio, AudioDirection
from guesthouse.model.devices.chardev import CharSource
from guesthouse.model.devices.redirected import Shmem, ShmemModel, Smartcard
from guesthouse.model.domain import Domain

_MIB = 1 << 20


def complete(domain: Domain) -> None:
    """Complete these devices. Raises the errors that libvirtd gives."""
    dev = domain.dev
    _audios(domain)
    for socket in dev.redirdevs:
        socket.bus = socket.bus or "usb"
        if socket.type is None:
            raise XMLError("missing type in redirdev", domain=ErrorDomain.DOMAIN)
        tidy(socket)
        if socket.type == "dbus" and (socket.source is None or socket.source.channel is None):
            socket.sources = [CharSource(channel="org.qemu.usbredir")]
        check_end(socket, domain)
    if len(dev.redirfilters) > 1:
        raise XMLError("only one set of redirection filter rule is supported", domain=ErrorDomain.DOMAIN)
    for rule in dev.redirfilters[0].rules if dev.redirfilters else []:
        for name in ("usb_class", "vendor", "product", "version"):
            if getattr(rule, name) == -1:
                setattr(rule, name, None)  # any
    if len(dev.smartcards) > 1:
        raise ConfigUnsupported("this QEMU binary lacks multiple smartcard support")
    for card in dev.smartcards:
        _smartcard(card, domain)
    for shared in dev.shmems:
        _shmem(shared)
    for rng in dev.rngs:
        if rng.backend is not None and rng.backend.model == "egd":
            if rng.backend.type is None:
                raise XMLError("missing EGD backend type", domain=ErrorDomain.DOMAIN)
            tidy(rng.backend)
            check_end(rng.backend, domain)


def default_audio(domain: Domain) -> Audio | None:
    """The sound system that a document without one gets; one that is played in a window on the host's own screen is
    the host's to choose."""
    kind: str | None = None if domain.dev.graphics else "none"
    for screen in domain.dev.graphics:
        kind = {"vnc": "none", "spice": "spice", "sdl": None}.get(screen.type, kind)
    return None if kind is None else Audio(id=1, type=kind)


def _audios(domain: Domain) -> None:
    audios = domain.dev.audios
    usual = None if audios else default_audio(domain)
    if usual is not None:
        audios.append(usual)
    for number, audio in enumerate(audios, 1):
        if audio.type is None:
            raise XMLError("missing audio 'type' attribute", domain=ErrorDomain.DOMAIN)
        audio.id = audio.id or (number if len(audios) > 1 else 1)
        for direction in (audio.input, audio.output):
            if direction is not None:
                _direction(direction)
    ids = [audio.id for audio in audios]
    if len(set(ids)) != len(ids):
        raise XMLError(f"Multiple audio backends with ID '{ids[-1]}' detected", domain=ErrorDomain.DOMAIN)


def _direction(direction: AudioDirection) -> None:
    if direction.fixed_settings and direction.mixing_engine is False:
        raise ConfigUnsupported("fixed audio settings require mixing engine", domain=ErrorDomain.DOMAIN)
    if direction.settings is not None and not direction.fixed_settings:
        raise ConfigUnsupported("audio settings require fixed settings flag", domain=ErrorDomain.DOMAIN)


def _smartcard(card: Smartcard, domain: Domain) -> None:
    if card.mode == "host-certificates" and len(card.certificates) != 3:
        raise XMLError("host-certificates mode needs exactly three certificates", domain=ErrorDomain.DOMAIN)
    if card.database is not None and not card.database.startswith("/"):
        raise XMLError(f"expecting absolute path: {card.database}", domain=ErrorDomain.DOMAIN)
    if card.mode == "passthrough":
        if card.type is None:
            text = "passthrough mode requires a character device type attribute"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
        tidy(card)
        check_end(card, domain)
    if card.address is not None and card.address.type not in (None, "ccid"):
        raise ConfigUnsupported("Controllers must use the 'ccid' address type", domain=ErrorDomain.DOMAIN)
    card.extra_nodes[:] = [node for node in card.extra_nodes if node.tag != "target"]
    if card.address is None:
        card.address = Address(type="ccid", controller=0, slot=0)


def _shmem(shared: Shmem) -> None:
    if shared.msi is not None and shared.server is None:
        raise XMLError("msi option is only supported with a server", domain=ErrorDomain.DOMAIN)
    if "/" in (shared.name or ""):
        raise ConfigUnsupported("shmem name cannot include '/' character", domain=ErrorDomain.DOMAIN)
    if shared.name in (".", ".."):
        raise ConfigUnsupported(f"shmem name cannot be equal to '{shared.name}'", domain=ErrorDomain.DOMAIN)
    if shared.model is not None and shared.model.type == "ivshmem":
        raise ConfigUnsupported("ivshmem device is not supported with this QEMU binary")
    if shared.model is None:
        shared.model = ShmemModel()
    if shared.model.type is None:
        # the oldest model has left QEMU
        shared.model.type = "ivshmem-doorbell" if shared.server is not None else "ivshmem-plain"
    if shared.model.type == "ivshmem-plain":
        if shared.server is not None:
            raise ConfigUnsupported("shmem model 'ivshmem-plain' is supported only with server option disabled")
        shared.set_size(shared.size or 4 * _MIB)
    elif shared.model.type == "ivshmem-doorbell":
        if shared.server is None:
            raise ConfigUnsupported("shmem model 'ivshmem-doorbell' is supported only with server option enabled")
        shared.server.path = shared.server.path or f"/var/lib/libvirt/shmem-{shared.name}-sock"
    size = shared.size
    if size & (size - 1):
        raise XMLError("shmem size must be a power of two", domain=ErrorDomain.DOMAIN)
    if size and size < _MIB:
        raise XMLError("shmem size must be at least 1 MiB (1024 KiB)", domain=ErrorDomain.DOMAIN)
    if size:
        shared.set_size(size)
