"""Commands that save a guest to a file or with the daemon, and bring it back."""

from __future__ import annotations

import os
import sys

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, dump_xml, read_file, xpath_options
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, InvalidArg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from guesthouse.cli.virsh.command import Option
    from guesthouse.client import Domain

_SECURE = 1
_RUNNING, _PAUSED = 2, 4
_FLAGS = {"bypass-cache": 1, "running": _RUNNING, "paused": _PAUSED, "reset-nvram": 8}
_POLL = 0.1

_BYPASS = flag("bypass-cache", "leave nothing of it in the host's file cache")
_XML = string("xml", "a file with other XML, for example with other paths of disks", "file")
_VERBOSE = flag("verbose", "show how far it is")
_IMAGE = data("file", "the file that the guest was saved to", "file")
_NEW_XML = data("xml", "a file with the new XML", "file")


def _states(when: str) -> tuple[Option, Option]:
    return flag("running", f"the guest runs {when}"), flag("paused", f"the guest is paused {when}")


@command(
    "domain",
    "save",
    "save a guest's state to a file, and end it",
    DOMAIN,
    data("file", "where to save it", "file"),
    _BYPASS,
    _XML,
    *_states("when it is restored"),
    _VERBOSE,
    description="Save the memory and the devices of a guest to a file, and end the guest; restore brings it back.",
)
def save(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    file = given.need("file")
    flags, xml = given.flags(_FLAGS), _given_xml(given)

    def work() -> None:
        if flags or xml is not None:
            guest.call("save_flags", to=_absolute(file), dxml=xml, flags=flags)
        else:
            guest.call("save", to=_absolute(file))

    with shell.explain(f"Failed to save domain '{name}' to {file}"):
        _one_state(flags)
        _watched(shell, guest, work, "Save" if given.has("verbose") else "")
    shell.extra(f"\nDomain '{name}' saved to {file}\n")


@command(
    "domain",
    "managedsave",
    "save a guest's state for its next start, and end it",
    DOMAIN,
    _BYPASS,
    *_states("when it is started"),
    _VERBOSE,
    description="Save a guest and end it; the daemon keeps its state, and the next start goes on from there.",
)
def managed_save(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    flags = given.flags(_FLAGS)
    with shell.explain(f"Failed to save domain '{name}' state"):
        _one_state(flags)
        _watched(
            shell,
            guest,
            lambda: guest.call("managed_save", flags=flags),
            "Managedsave" if given.has("verbose") else "",
        )
    shell.extra(f"\nDomain '{name}' state saved by libvirt\n")


@command(
    "domain",
    "restore",
    "bring back a guest that was saved to a file",
    _IMAGE,
    _BYPASS,
    _XML,
    *_states("afterwards"),
    flag("reset-nvram", "make the guest's NVRAM anew from its template"),
    description="Start a guest that goes on from the state in a file. The file stays; it is of no more use once the "
    "guest has written to its disks.",
)
def restore(shell: Shell, given: Given) -> None:
    file = given.need("file")
    flags, xml = given.flags(_FLAGS), _given_xml(given)
    args: dict[str, object] = {"from": _absolute(file)}
    with shell.explain(f"Failed to restore domain from {file}"):
        _one_state(flags)
        if flags or xml is not None:
            shell.conn.call("domain_restore_flags", dxml=xml, flags=flags, **args)
        else:
            shell.conn.call("domain_restore", **args)
    shell.extra(f"Domain restored from {file}\n")


@command(
    "domain",
    "save-image-dumpxml",
    "print the XML of a guest that was saved to a file",
    _IMAGE,
    flag("security-info", "with passwords and the like"),
    *xpath_options(),
    description="Print the XML that a saved guest will be restored with.",
)
def dump_image(shell: Shell, given: Given) -> None:
    file, flags = _absolute(given.need("file")), given.flags({"security-info": _SECURE})
    dump_xml(shell, given, shell.conn.call("domain_save_image_get_xml_desc", file=file, flags=flags).xml)


@command(
    "domain",
    "save-image-define",
    "change the XML of a guest that was saved to a file",
    _IMAGE,
    _NEW_XML,
    *_states("when it is restored"),
    description="Change what a saved guest will be restored with: where its disks are, or how its networks are called.",
)
def define_image(shell: Shell, given: Given) -> None:
    file, flags = given.need("file"), given.flags(_FLAGS)
    xml = read_file(given.need("xml"))
    with shell.explain(f"Failed to update {file}"):
        _one_state(flags)
        shell.conn.call("domain_save_image_define_xml", file=_absolute(file), dxml=xml, flags=flags)
    shell.extra(f"State file {file} updated.\n")


@command(
    "domain",
    "save-image-edit",
    "change the XML of a guest that was saved to a file, in an editor",
    _IMAGE,
    *_states("when it is restored"),
    description="Open the XML that a saved guest will be restored with in an editor.",
)
def edit_image(shell: Shell, given: Given) -> None:
    given.exclusive("running", "paused")
    file, flags = given.need("file"), given.flags(_FLAGS)
    path, call = _absolute(file), shell.conn.call
    edited = _edited(
        shell,
        lambda: str(call("domain_save_image_get_xml_desc", file=path, flags=_SECURE).xml),
        lambda xml: call("domain_save_image_define_xml", file=path, dxml=xml, flags=flags),
    )
    if edited:
        shell.extra(f"State file {file} edited.\n")
    else:
        shell.extra(f"Saved image {file} XML configuration not changed.\n")


@command(
    "domain",
    "managedsave-remove",
    "remove the state that a guest's next start would go on from",
    DOMAIN,
    description="Give up a guest's saved state; its next start boots.",
)
def remove_managed(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    with shell.explain("Failed to check for domain managed save image"):
        saved = guest.has_managed_save_image()
    if not saved:
        shell.extra(f"Domain '{name}' has no manage save image; removal skipped")
        return
    with shell.explain(f"Failed to remove managed save image for domain '{name}'"):
        guest.call("managed_save_remove", flags=0)
    shell.extra(f"Removed managedsave image for domain '{name}'")


@command(
    "domain",
    "managedsave-dumpxml",
    "print the XML of a guest's saved state",
    DOMAIN,
    flag("security-info", "with passwords and the like"),
    *xpath_options(),
    description="Print the XML that a guest whose state the daemon keeps will be started with.",
)
def dump_managed(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    flags = given.flags({"security-info": _SECURE})
    dump_xml(shell, given, guest.call("managed_save_get_xml_desc", flags=flags).xml)


@command(
    "domain",
    "managedsave-define",
    "change the XML of a guest's saved state",
    DOMAIN,
    _NEW_XML,
    *_states("when it is started"),
    description="Change what a guest whose state the daemon keeps will be started with.",
)
def define_managed(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    flags = given.flags(_FLAGS)
    xml = read_file(given.need("xml"))
    with shell.explain(f"Failed to update {name} XML configuration"):
        _one_state(flags)
        guest.call("managed_save_define_xml", dxml=xml, flags=flags)
    shell.extra(f"Managed save state file of domain '{name}' updated.\n")


@command(
    "domain",
    "managedsave-edit",
    "change the XML of a guest's saved state, in an editor",
    DOMAIN,
    *_states("when it is started"),
    description="Open the XML that a guest whose state the daemon keeps will be started with in an editor.",
)
def edit_managed(shell: Shell, given: Given) -> None:
    given.exclusive("running", "paused")
    guest, name = domain(shell, given)
    flags = given.flags(_FLAGS)
    edited = _edited(
        shell,
        lambda: str(guest.call("managed_save_get_xml_desc", flags=_SECURE).xml),
        lambda xml: guest.call("managed_save_define_xml", dxml=xml, flags=flags),
    )
    if edited:
        shell.extra(f"Managed save image of domain '{name}' XML configuration edited.\n")
    else:
        shell.extra(f"Managed save image of domain '{name}' XML configuration not changed.\n")


def _edited(shell: Shell, read: Callable[[], str], define: Callable[[str], object]) -> bool:
    from guesthouse.cli.virsh.editing import edit

    def defined(xml: str) -> bool:
        define(xml)
        return True

    return bool(edit(shell, read, defined))


def _given_xml(given: Given) -> str | None:
    path = given.raw("xml")
    return read_file(path) if path is not None else None


def _absolute(path: str) -> str:
    """The daemon stands in another folder."""
    return os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118


def _one_state(flags: int) -> None:
    """What libvirt's library says before it asks the daemon. Raises InvalidArg."""
    if flags & _RUNNING and flags & _PAUSED:
        error = InvalidArg()
        error.message = "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive"
        raise error


def _watched(shell: Shell, guest: Domain, work: Callable[[], object], label: str) -> None:
    """Do ``work``, which keeps the connection busy, and meanwhile show under ``label`` how far it is (""; show nothing).
    Ctrl-C has the daemon give it up. Raises what the work raises."""
    import threading

    failures: list[BaseException] = []

    def worker() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    shell.flush()
    thread = threading.Thread(target=worker)
    thread.start()
    watcher = _Watcher(shell, guest)
    try:
        while thread.is_alive():
            try:
                thread.join(_POLL)
                if label and thread.is_alive():
                    _show(label, watcher.percent())
            except KeyboardInterrupt:
                watcher.abort()
    finally:
        thread.join()
        watcher.close()
    if failures:
        if label:
            sys.stderr.write("\n")
        raise failures[0]
    if label:
        _show(label, 100)


def _show(label: str, percent: int) -> None:
    sys.stderr.write(f"\r{label}: [{percent:3} %]")
    sys.stderr.flush()


class _Watcher:
    """Asks after a job over a connection of its own, which is opened when it is needed."""

    def __init__(self, shell: Shell, guest: Domain) -> None:
        self._shell = shell
        self._uuid = guest.uuid
        self._guest: Domain | None = None

    def _own(self) -> Domain:
        if self._guest is None:
            from guesthouse import client

            self._guest = client.connect(self._shell.uri, self._shell.readonly).lookup_by_uuid(self._uuid)
        return self._guest

    def percent(self) -> int:
        """How much is done, 0 before anything is known."""
        try:
            info = self._own().call("get_job_info")
        except GuesthouseError:
            return 0
        if not info.dataTotal:
            return 0
        return min(99, 100 - int(info.dataRemaining) * 100 // int(info.dataTotal))

    def abort(self) -> None:
        try:
            self._own().call("abort_job")
        except GuesthouseError as error:
            self._shell.error(error.message)

    def close(self) -> None:
        if self._guest is not None:
            self._guest.conn.close()


@command(
    "domain",
    "domxml-to-native",
    "print what a guest's XML comes to for its hypervisor",
    data("format", "qemu-argv: QEMU's command line", "qemu-argv"),
    string("domain", "name, id or UUID of the guest", "domain", named=True),
    string("xml", "a file with the XML", "file"),
    description="Print the command that a guest would be started with, without starting it.",
)
def to_native(shell: Shell, given: Given) -> None:
    given.exclusive("domain", "xml")
    kind, file = given.need("format"), given.raw("xml")
    if given.has("domain"):
        guest, _ = domain(shell, given)
        xml = guest.get_xml_desc(_SECURE | 2)
    elif file is not None:
        xml = read_file(file)
    else:
        raise Failed("need either domain or domain XML")
    shell.out(shell.conn.call("connect_domain_xml_to_native", nativeFormat=kind, domainXml=xml, flags=0).nativeConfig)
    shell.out("\n")


@command(
    "domain",
    "domxml-from-native",
    "turn a hypervisor's configuration into a guest's XML",
    data("format", "what it is: qemu-argv"),
    data("config", "a file with the configuration", "file"),
    description="Turn a hypervisor's own configuration into XML; libvirt 9.0 has given that up for QEMU.",
)
def from_native(shell: Shell, given: Given) -> None:
    kind, config = given.need("format"), read_file(given.need("config"))
    call = shell.conn.call
    shell.out(call("connect_domain_xml_from_native", nativeFormat=kind, nativeConfig=config, flags=0).domainXml)
    shell.out("\n")
