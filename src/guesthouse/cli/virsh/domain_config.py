"""Commands about a guest's definition: autostart and undefine."""

from __future__ import annotations

from guesthouse.cli.virsh.command import alias, command, flag, string
from guesthouse.cli.virsh.devices import attribute, guest_xml
from guesthouse.cli.virsh.given import Failed, Given, split_commas
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, InvalidArg, NoSupport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain, StorageVol

    Disk = tuple[StorageVol, str, str]

_MANAGED_SAVE, _SNAPSHOTS, _NVRAM = 1, 2, 4
_UNDEFINE_FLAGS = {
    "managed-save": _MANAGED_SAVE,
    "snapshots-metadata": _SNAPSHOTS,
    "checkpoints-metadata": 16,
    "nvram": _NVRAM,
    "keep-nvram": 8,
    "tpm": 32,
    "keep-tpm": 64,
}
_LIST_METADATA = 2  # VIR_DOMAIN_SNAPSHOT_LIST_METADATA
_WITH_SNAPSHOTS = 2  # VIR_STORAGE_VOL_DELETE_WITH_SNAPSHOTS


@command(
    "domain",
    "autostart",
    "start a guest whenever the host starts",
    DOMAIN,
    flag("disable", "do not"),
    description="Say whether a guest is started together with the daemon when the host boots.",
)
def autostart(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    mark = "unmark" if given.has("disable") else "mark"
    with shell.explain(f"Failed to {mark} domain '{name}' as autostarted"):
        guest.set_autostart(not given.has("disable"))
    shell.extra(f"Domain '{name}' {mark}ed as autostarted\n")


@command(
    "domain",
    "undefine",
    "remove a guest's definition",
    DOMAIN,
    flag("managed-save", "remove its saved state too"),
    string("storage", "remove these volumes too: targets or paths as domblklist shows them, with commas between"),
    flag("remove-all-storage", "remove all its volumes too; they are gone for good"),
    alias("delete-snapshots", "delete-storage-volume-snapshots"),
    flag("delete-storage-volume-snapshots", "remove the volumes' own snapshots too (with --remove-all-storage)"),
    flag("wipe-storage", "overwrite the volumes before they are removed"),
    flag("snapshots-metadata", "forget the guest's snapshots (it must not run)"),
    flag("checkpoints-metadata", "forget the guest's checkpoints (it must not run)"),
    flag("nvram", "remove its NVRAM file too"),
    flag("keep-nvram", "keep its NVRAM file"),
    flag("tpm", "remove its TPM's state too"),
    flag("keep-tpm", "keep its TPM's state"),
    description="Forget a guest; one that runs goes on until it stops.",
)
def undefine(shell: Shell, given: Given) -> None:
    given.require("delete-storage-volume-snapshots", "remove-all-storage")
    given.exclusive("nvram", "keep-nvram")
    given.exclusive("tpm", "keep-tpm")
    wanted = given.raw("storage") or None
    everything = given.has("remove-all-storage")
    if given.has("wipe-storage") and not wanted and not everything:
        raise Failed("'--wipe-storage' requires '--storage <string>' or '--remove-all-storage'")
    guest, name = domain(shell, given)
    running = guest.is_active()
    flags = given.flags(_UNDEFINE_FLAGS)
    saved, snapshots = (False, 0) if running else (_saved(guest), _snapshots(guest))
    if not saved:
        flags &= ~_MANAGED_SAVE
    if not snapshots:
        flags &= ~_SNAPSHOTS
    disks: list[Disk] = []
    if wanted or everything:
        if running:
            raise Failed("Storage volume deletion is supported only on stopped domains")
        if wanted and everything:
            raise Failed("Specified both --storage and --remove-all-storage")
        disks = _disks(shell, guest, split_commas(wanted) if wanted else None)
    if saved and not flags:
        raise Failed("Refusing to undefine while domain managed save image exists")
    with shell.explain(f"Failed to undefine domain '{name}'"):
        _undefine(guest, flags)
    shell.extra(f"Domain '{name}' has been undefined\n")
    _remove(shell, given, disks)


def _undefine(guest: Domain, flags: int) -> None:
    try:
        guest.undefine_flags(flags)
    except (NoSupport, InvalidArg):
        if flags:
            raise
        guest.undefine()  # a daemon that knows no flags


def _saved(guest: Domain) -> bool:
    try:
        return guest.has_managed_save_image()
    except NoSupport:
        return False


def _snapshots(guest: Domain) -> int:
    try:
        return guest.snapshot_num(_LIST_METADATA)
    except NoSupport:
        return 0


def _disks(shell: Shell, guest: Domain, wanted: list[str] | None) -> list[Disk]:
    """The volumes behind the guest's disks (those in ``wanted`` alone), with target and source.

    What is no volume of a pool is named and left. Raises Failed where one of ``wanted`` is no disk of the guest.
    """
    missing = list(wanted or ())
    disks: list[Disk] = []
    for disk in guest_xml(shell, guest).findall("devices/disk"):
        target = attribute(disk, "target", "dev") or ""
        source = attribute(disk, "source", "file", "dir", "name", "dev", "volume")
        if source is None:
            continue
        if wanted is not None:
            named = [word for word in missing if word in (target, source)]
            if not named:
                continue
            missing.remove(named[0])
        volume = _volume(shell, attribute(disk, "source", "pool"), source, target)
        if volume is not None:
            disks.append((volume, target, source))
    for word in missing:
        shell.error(f"Volume '{word}' was not found in domain's definition.\n")
    if missing:
        raise Failed("")
    return disks


def _volume(shell: Shell, pool: str | None, source: str, target: str) -> StorageVol | None:
    """The volume ``source`` (of ``pool``, or a path); None, and an error printed, where there is none."""
    try:
        if pool is None:
            return shell.conn.storage_vol_lookup_by_path(source)
        storage = shell.conn.storage_pool_lookup_by_name(pool)
    except GuesthouseError:
        if pool is not None:
            shell.error(f"Storage pool '{pool}' for volume '{target}' not found.")
            return None
    else:
        try:
            return storage.vol_lookup_by_name(source)
        except GuesthouseError:
            pass
    shell.error(f"Storage volume '{target}'({source}) is not managed by libvirt. Remove it manually.\n")
    return None


def _remove(shell: Shell, given: Given, disks: list[Disk]) -> None:
    """Remove the volumes, wiping them first if asked; goes on past one that fails. Raises Failed at the end then."""
    flags = _WITH_SNAPSHOTS if given.has("delete-storage-volume-snapshots") else 0
    failure: GuesthouseError | None = None
    for volume, target, source in disks:
        try:
            if given.has("wipe-storage"):
                shell.extra(f"Wiping volume '{target}'({source}) ... ")
                shell.flush()
                with shell.explain("Failed! Volume not removed."):
                    volume.wipe()
                shell.extra("Done.\n")
            with shell.explain(f"Failed to remove storage volume '{target}'({source})"):
                volume.delete(flags)
            shell.extra(f"Volume '{target}'({source}) removed.\n")
        except GuesthouseError as error:
            failure = error
    if failure is not None:
        raise Failed("") from failure
