"""The secrets that this host keeps for its guests and pools: libvirt's secret procedures.

A secret's value is handed to clients, but never told in a log, an event or a document.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from guesthouse.errors import (
    Domain,
    GuesthouseError,
    InternalError,
    InvalidArg,
    InvalidSecret,
    NoSecret,
    check_flags,
    from_wire,
)
from guesthouse.model.secret import USAGES, Secret, parse_secret
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.events import Event
from guesthouse.services.refs import SecretRef

_log = logging.getLogger(__name__)
_KIND = "secret"
_LIFECYCLE, _VALUE_CHANGED = 0, 1
_DEFINED, _UNDEFINED = 0, 1
_VALIDATE = 1
# virConnectListAllSecretsFlags, pairs of yes and no
_EPHEMERAL, _NO_EPHEMERAL, _PRIVATE, _NO_PRIVATE = 1, 2, 4, 8


@dataclass(slots=True)
class _Entry:
    """A known secret; ``value`` is None until one is set. Not a word of it may come into a repr."""

    secret: Secret
    value: bytes | None = None

    def __repr__(self) -> str:
        return f"<secret {self.secret.uuid}>"

    @property
    def uuid(self) -> str:
        return self.secret.uuid or ""

    @property
    def ref(self) -> SecretRef:
        return SecretRef(self.uuid, self.secret.usage_type, self.secret.usage_id or "")


class Secrets:
    """libvirt's secret procedures over the store. Ephemeral secrets live as long as the daemon, and are never on disk.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._entries: dict[str, _Entry] = {}
        values = ctx.store.secret_values()
        for row in ctx.store.all(_KIND):
            try:
                self._entries[row.uuid] = _Entry(parse_secret(row.xml), values.get(row.uuid))
            except GuesthouseError as error:
                _log.error("secret %s is not taken up: %s", row.uuid, error)

    # What other services ask

    def value_for(self, usage_type: int, *, uuid: str = "", usage_id: str = "") -> bytes:
        """The value of the secret with that UUID, else of the one for ``usage_id``, private or not, for a guest's or a
        pool's own use. Raises NoSecret; InvalidSecret where it is for another use than ``usage_type``."""
        entry = self._entry(uuid) if uuid else self._by_usage(usage_type, usage_id)
        if entry.secret.usage_type != usage_type:
            have, want = USAGES[entry.secret.usage_type], USAGES[usage_type]
            text = f"secret with uuid {entry.uuid} is of type '{have}' not expected '{want}' type"
            raise InvalidSecret(text)
        return self._value(entry)

    # Finding and listing

    def _sorted(self) -> list[_Entry]:
        return sorted(self._entries.values(), key=lambda entry: entry.uuid)

    def _entry(self, uuid: str) -> _Entry:
        entry = self._entries.get(uuid)
        if entry is None:
            raise NoSecret(f"no secret with matching uuid '{uuid}'")
        return entry

    def _find_by_usage(self, usage_type: int, usage_id: str | None) -> _Entry | None:
        if not usage_type:
            return None
        wanted = (usage_type, usage_id)
        found = (entry for entry in self._sorted() if (entry.secret.usage_type, entry.secret.usage_id) == wanted)
        return next(found, None)

    def _by_usage(self, usage_type: int, usage_id: str) -> _Entry:
        entry = self._find_by_usage(usage_type, usage_id)
        if entry is None:
            raise NoSecret(f"no secret with matching usage '{usage_id}'")
        return entry

    def lookup_by_uuid(self, uuid: str) -> SecretRef:
        return self._entry(uuid).ref

    def lookup_by_usage(self, usageType: int, usageID: str) -> SecretRef:
        return self._by_usage(usageType, usageID).ref

    def num_of(self) -> int:
        return len(self._entries)

    def list_uuids(self, maxuuids: int) -> list[str]:
        return [entry.uuid for entry in self._sorted()[:maxuuids]]

    def list_all(self, flags: int) -> list[SecretRef]:
        check_flags(
            flags, _EPHEMERAL | _NO_EPHEMERAL | _PRIVATE | _NO_PRIVATE, "secretConnectListAllSecrets", Domain.SECRET
        )
        return [entry.ref for entry in self._sorted() if _matches(entry.secret, flags)]

    # Definitions

    def define_xml(self, xml: str, flags: int) -> SecretRef:
        """Make a secret known, or change one; its value stays. What it is for cannot change, nor that it is private."""
        check_flags(flags, _VALIDATE, "secretDefineXML", Domain.SECRET)
        secret = parse_secret(xml)
        uuid = secret.uuid or ""
        admit(Named("secret", uuid=uuid, usage=secret.usage_id or ""))
        entry = self._entries.get(uuid)
        if entry is None:
            taken = self._find_by_usage(secret.usage_type, secret.usage_id)
            if taken is not None:
                raise _already(f"a secret with UUID {taken.uuid} already defined for use with {secret.usage_id}")
            entry = _Entry(secret)
        else:
            old = entry.secret
            if old.usage_id != secret.usage_id:
                use = old.usage_id or "(null)"
                raise _already(f"a secret with UUID {uuid} is already defined for use with {use}")
            if old.private and not secret.private:
                raise _already("cannot change private flag on existing secret")
        self._write(secret, entry.value)
        entry.secret = secret
        self._entries[uuid] = entry
        self._emit_lifecycle(entry, _DEFINED)
        return entry.ref

    def _write(self, secret: Secret, value: bytes | None) -> None:
        """Bring the disk to what ``secret`` and ``value`` say: nothing of an ephemeral secret."""
        uuid = secret.uuid or ""
        if secret.ephemeral:
            self._forget(uuid)
            return
        if value is not None:
            self._ctx.store.put_secret_value(uuid, value)
        self._ctx.store.put(_KIND, uuid, uuid, secret.to_xml())

    def _forget(self, uuid: str) -> None:
        self._ctx.store.delete_secret_value(uuid)
        self._ctx.store.delete(_KIND, uuid)

    def undefine(self, secret: SecretRef) -> None:
        entry = self._entry(secret.uuid)
        self._forget(entry.uuid)
        del self._entries[entry.uuid]
        self._emit_lifecycle(entry, _UNDEFINED)

    def get_xml_desc(self, secret: SecretRef, flags: int) -> str:
        check_flags(flags, 0, "secretGetXMLDesc", Domain.SECRET)
        return self._entry(secret.uuid).secret.to_xml()

    # Values

    def set_value(self, secret: SecretRef, value: bytes, flags: int) -> None:
        check_flags(flags, 0, "secretSetValue", Domain.SECRET)
        if not value:
            # the one invalid argument that libvirt tells of without saying that it is one
            raise from_wire(InvalidArg.code, Domain.SECRET, "value in virSecretSetValue must not be NULL")
        entry = self._entry(secret.uuid)
        if not entry.secret.ephemeral:
            self._ctx.store.put_secret_value(entry.uuid, bytes(value))
        entry.value = bytes(value)
        self._ctx.events.emit(Event("secret", _VALUE_CHANGED, entry.ref, {}))

    def get_value(self, secret: SecretRef, flags: int) -> bytes:
        """The value, for a client. Raises InvalidSecret of a private one, NoSecret where none was set."""
        check_flags(flags, 0, "secretGetValue", Domain.SECRET)
        entry = self._entry(secret.uuid)
        if entry.secret.private:
            raise InvalidSecret("secret is private")
        return self._value(entry)

    @staticmethod
    def _value(entry: _Entry) -> bytes:
        if entry.value is None:
            raise NoSecret(f"secret '{entry.uuid}' does not have a value")
        return entry.value

    def _emit_lifecycle(self, entry: _Entry, what: int) -> None:
        self._ctx.events.emit(Event("secret", _LIFECYCLE, entry.ref, {"event": what, "detail": 0}))


def _matches(secret: Secret, flags: int) -> bool:
    for value, yes, no in ((secret.ephemeral, _EPHEMERAL, _NO_EPHEMERAL), (secret.private, _PRIVATE, _NO_PRIVATE)):
        if flags & (yes | no) and not flags & (yes if value else no):
            return False
    return True


def _already(text: str) -> InternalError:
    return InternalError(text, domain=Domain.SECRET)
