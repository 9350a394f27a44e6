"""Pools of type "scsi": the logical units of a SCSI host adapter."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, XMLError
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.storage import Adapter, Pool, Volume
from guesthouse.storage.luns import ScsiUnits


class Scsi(ScsiUnits):
    """See :class:`guesthouse.storage.backend.Backend`."""

    type = "scsi"
    programs: tuple[str, ...] = ()
    package = ""

    async def start(self, pool: Pool) -> None:
        """A virtual port of a Fibre Channel adapter must be there. Raises ConfigUnsupported where it is not."""
        adapter = _adapter(pool)
        if adapter.type == "fc_host" and _fc_host(self.sysfs, adapter) is None:
            text = "a Fibre Channel pool does not make its virtual port (vHBA) yet: create it first (echo"
            text += f" '{adapter.wwpn}:{adapter.wwnn}' into the adapter's vport_create in sysfs)"
            raise ConfigUnsupported(text, domain=Domain.STORAGE)

    async def started(self, pool: Pool) -> bool:
        adapter = _adapter(pool)
        if adapter.type == "fc_host" and _fc_host(self.sysfs, adapter) is None:
            return False
        return self.sysfs.exists(f"/class/scsi_host/host{host_number(self.sysfs, adapter)}")

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        host = host_number(self.sysfs, _adapter(pool))
        await self.rescan(host)
        return await self.units(pool, host)


def _adapter(pool: Pool) -> Adapter:
    assert pool.source is not None and pool.source.adapter is not None
    return pool.source.adapter


def host_number(sysfs: Sysfs, adapter: Adapter) -> int:
    """The number of the SCSI host that an adapter is now. Raises InternalError for a name that is none, XMLError where
    no host is at the address, or has the world wide names."""
    name = adapter.name or ""
    if adapter.type == "fc_host":
        found = _fc_host(sysfs, adapter)
        if found is None:
            text = f"Failed to find SCSI host with wwnn='{adapter.wwnn}', wwpn='{adapter.wwpn}'"
            raise XMLError(text, domain=Domain.STORAGE)
        name = found
    elif adapter.parent_address is not None:
        name = _at_address(sysfs, adapter)
    number = name
    for prefix in ("scsi_host", "fc_host", "host"):
        if name.startswith(prefix):
            number = name.removeprefix(prefix)
            break
    else:
        number = ""
    if not number.isdecimal():
        raise InternalError(f"Invalid adapter name '{name}' for SCSI pool", domain=Domain.STORAGE)
    return int(number)


def same_adapter(one: Adapter | None, other: Adapter | None) -> bool:
    """Whether both are the same adapter now. One that is not there is like no other."""
    if one is None or other is None:
        return False
    if one.type == other.type == "fc_host":
        return (one.wwnn, one.wwpn) == (other.wwnn, other.wwpn)
    try:
        return host_number(Sysfs(), one) == host_number(Sysfs(), other)
    except GuesthouseError:
        return False


def _at_address(sysfs: Sysfs, adapter: Adapter) -> str:
    assert adapter.parent_address is not None
    at, wanted = adapter.parent_address.address, adapter.parent_address.unique_id or 0
    place = "0000:00:00.0"
    if at is not None:
        place = f"{at.domain or 0:04x}:{at.bus or 0:02x}:{at.slot or 0:02x}.{at.function or 0:x}"
    for host in sysfs.names("/class/scsi_host"):
        real = sysfs.real(f"/class/scsi_host/{host}") or ""
        if place in real.split("/") and sysfs.number(f"/class/scsi_host/{host}/unique_id") == wanted:
            return host
    text = f"Failed to find scsi_host using PCI '{place}' and unique_id='{wanted}'"
    raise XMLError(text, domain=Domain.STORAGE)


def _fc_host(sysfs: Sysfs, adapter: Adapter) -> str | None:
    """The host with the adapter's world wide names."""

    def same(host: str, attribute: str, wanted: str | None) -> bool:
        have = sysfs.text(f"/class/fc_host/{host}/{attribute}") or ""
        return have.removeprefix("0x") == (wanted or "").removeprefix("0x")

    hosts = sysfs.names("/class/fc_host")
    fitting = (h for h in hosts if same(h, "port_name", adapter.wwpn) and same(h, "node_name", adapter.wwnn))
    return next(fitting, None)
