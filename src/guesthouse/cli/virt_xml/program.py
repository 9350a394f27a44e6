"""The program: which guest, what to change of it, and then the change shown, made, or both."""

from __future__ import annotations

import sys

from guesthouse.cli.virt_install.frame import program
from guesthouse.cli.virt_install.options import Options, UsageError, parse
from guesthouse.cli.virt_install.report import Report
from guesthouse.cli.virt_xml import options as own
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.cli.virt_xml.edits import Editor
    from guesthouse.client import Connect
    from guesthouse.client import Domain as Handle
    from guesthouse.model.domain import Domain
    from guesthouse.model.fields import Element
    from guesthouse.provision.host import Host
    from guesthouse.provision.request import Request
    from guesthouse.provision.storage import NewVolume

_SECURE, _INACTIVE = 1, 2
_SHUTOFF = 5
_LIVE = 1


def main(argv: list[str] | None = None) -> int:
    """Run virt-xml with ``argv`` (default: the arguments of this process); returns its exit code."""
    args = sys.argv[1:] if argv is None else argv
    return program(lambda: _parse(args), _is_quiet, _run, "Aborted at user request")


def _parse(args: list[str]) -> Options:
    options = parse(args, own.ROWS, 1)
    if "define" in options and "no-define" in options:
        raise UsageError("argument --no-define: not allowed with argument --define")
    return options


def _is_quiet(options: Options) -> bool:
    return "quiet" in options and not {"confirm", "print-xml", "print-diff", "build-xml"} & options.given.keys()


def _run(options: Options, report: Report) -> int:
    if "help" in options or "version" in options:
        from guesthouse.cli.virt_install.help import version

        print(version() if "version" in options else own.usage())
        return 0
    if _listed(options):
        return 0
    return _Change(options, report).run()


def _listed(options: Options) -> bool:
    """Answer ``--disk ?`` and ``--osinfo list``; whether there was something to answer."""
    from guesthouse.cli.virt_install.options import FLAG

    done = False
    for row in own.ROWS:
        if row.kind != FLAG and row.family and {"?", "help"} & set(options.all(row.name)):
            from guesthouse.cli.virt_install.families import FAMILIES
            from guesthouse.cli.virt_install.suboptions import listing

            print(listing(row.name, [*FAMILIES[row.name].keys(), *(["clearxml"] if FAMILIES[row.name].at else [])]))
            done = True
    if options.last("osinfo") == "list":
        from guesthouse.provision import osinfo

        print("\n".join(osinfo.listing()))
        return True
    return done


class _Change:
    """One run: what the options ask for, checked before anything happens."""

    def __init__(self, options: Options, report: Report) -> None:
        """Raises UsageError."""
        self.options = options
        self.report = report
        self.guest_name = options.last("")
        self.stdin = ""
        asks = "confirm" in options
        if self.guest_name is None and "build-xml" not in options:
            if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
                raise UsageError("A domain must be specified")
            for name in ("confirm", "update"):
                if name in options:
                    raise UsageError(f"Can't use --{name} with stdin input.")
            self.stdin = sys.stdin.read()
            if not self.stdin.strip():
                raise UsageError("A domain must be specified")
        self.action = own.action_of(options)
        self.name = own.family_of(options)
        self.texts = options.all(self.name)
        self.print_xml, self.print_diff = "print-xml" in options, "print-diff" in options
        self.define = "define" in options
        if not self.print_xml and not self.print_diff and "no-define" not in options:
            if self.stdin:
                self.print_xml = not self.define
            else:
                self.define = True
        self.asks = asks
        if asks and not self.print_xml:
            self.print_diff = True
        self._check()

    def _check(self) -> None:
        from guesthouse.cli.virt_install.families import FAMILIES
        from guesthouse.cli.virt_xml.selection import is_list

        name, action = self.name, self.action
        family = FAMILIES.get(name)
        at = family.at if family is not None else ""
        if "update" in self.options and not at:
            raise UsageError(f"Don't know how to --update for --{name}")
        if action in ("add-device", "remove-device") and not (at and is_list(name)):
            raise UsageError(f"Cannot use --{action} with --{name}")
        if action == "build-xml" and not at:
            raise UsageError(f"--build-xml not supported for --{name}")
        if "osinfo" in self.options and action != "add-device":
            raise UsageError(f"--osinfo/--os-variant is not supported with --{action}")
        if "update" in self.options and "start" in self.options:
            raise UsageError("Cannot use --update and --start at the same time")

    def run(self) -> int:
        from guesthouse import client
        from guesthouse.client.uri import default_uri
        from guesthouse.provision.host import Host

        with client.connect(self.options.last("connect") or default_uri()) as conn:
            host = Host(conn, conn.get_uri())
            if self.action == "build-xml":
                return self._build(host)
            handle = _find(conn, self.guest_name) if self.guest_name is not None else None
            return self._change(host, handle)

    # -- steps

    def _build(self, host: Host) -> int:
        from guesthouse.model.domain import Domain

        domain = Domain(type="")
        if self.guest_name is not None:
            domain = _document(_find(host.conn, self.guest_name), _SECURE | _INACTIVE)
        editor = self._editor(host, domain)
        if not domain.type:
            from guesthouse.provision import defaults

            defaults.choose(editor.request, host)
        for part in editor.build(self.name, self.texts):
            print(part.to_xml(secrets=True), end="")
        return 0

    def _change(self, host: Host, handle: Handle | None) -> int:
        from guesthouse.model.domain import Domain

        runs = handle is not None and handle.get_state()[0] != _SHUTOFF
        added: list[Element] | None = None
        made: list[NewVolume] = []
        updated = False
        if "update" in self.options and handle is not None:
            if runs:
                editor = self._editor(host, _document(handle, _SECURE))
                added = self._apply(editor, None)
                made = editor.request.volumes
                self._update(editor, handle, added)
                updated = True
            else:
                self.report.warn("The VM is not running, --update is inapplicable.")
            if not self.define:
                return 0
        stored = Domain.from_xml(self.stdin) if handle is None else _document(handle, _SECURE | _INACTIVE)
        before = stored.to_xml(secrets=True)
        editor = self._editor(host, stored)
        self._apply(editor, added if self.action == "add-device" else None)
        if not self.define:
            if "start" in self.options:
                self._start_once(editor)
            return 0
        return self._store(editor, handle, before, runs, updated, made)

    def _editor(self, host: Host, domain: Domain) -> Editor:
        from guesthouse.cli.virt_xml.edits import Editor
        from guesthouse.provision.storage import Planner

        writes = (self.define or "start" in self.options or "update" in self.options) and self.action == "add-device"
        return Editor(_request(domain, self.options.last("osinfo")), host, Planner(host, dry=not writes))

    def _apply(self, editor: Editor, added: list[Element] | None) -> list[Element]:
        """Change the editor's document and show that; ``added`` are devices that the running guest has got already.
        Returns the devices that it is about."""
        before = editor.domain.to_xml(secrets=True)
        if self.action == "edit":
            parts = editor.edit(self.name, self.options.last("edit") or "", self.texts)
        elif self.action == "remove-device":
            parts = editor.remove(self.name, self.texts[-1])
        elif added is not None:
            from guesthouse.cli.virt_xml.selection import place

            owner, field = place(editor.domain, self.name)
            value = getattr(owner, field)
            if isinstance(value, list):
                value += [part.copy() for part in added]
            else:
                setattr(owner, field, added[-1].copy())
            parts = added
        else:
            parts = editor.add(self.name, self.texts)
        after = editor.domain.to_xml(secrets=True)
        diff = _diff(before, after)
        if not diff:
            self.report.warn("No XML diff was generated. The requested changes will have no effect.")
        if self.print_diff:
            if diff:
                print(diff)
        elif self.print_xml:
            print(after, end="")
        return parts

    def _update(self, editor: Editor, handle: Handle, parts: list[Element]) -> None:
        """Change the running guest. Raises UsageError with the daemon's reason; volumes that were made go again then."""
        what, calls = {
            "add-device": ("hotplug", handle.attach_device_flags),
            "remove-device": ("hotunplug", handle.detach_device_flags),
            "edit": ("update", handle.update_device_flags),
        }[self.action]
        for part in parts:
            xml = part.to_xml(secrets=True)
            verb = {"hotplug": "Hotplug this device to", "hotunplug": "Hotunplug this device from"}.get(
                what, "Update this device for"
            )
            if self.asks and not _yes(f"{xml}\n\n{verb} the guest '{handle.name}'?"):
                continue
            with _Volumes(editor, self.report, [part]):
                try:
                    calls(xml, _LIVE)
                except GuesthouseError as error:
                    raise UsageError(f"Error attempting device {what}: {error.message}") from None
            self.report.say(f"Device {what} successful.")
            if self.asks:
                self.report.say("")

    def _start_once(self, editor: Editor) -> None:
        name = editor.domain.name or ""
        if self.asks and not _yes(f"Start '{name}' with the changed XML?"):
            return
        with _Volumes(editor, self.report):
            try:
                editor.host.conn.create_xml(editor.domain.to_xml(secrets=True))
            except GuesthouseError as error:
                raise UsageError(f"Failed starting domain '{name}': {error.message}") from None
        self.report.say(f"Domain '{name}' started successfully.")

    def _store(
        self, editor: Editor, handle: Handle | None, before: str, runs: bool, updated: bool, made: list[NewVolume]
    ) -> int:
        name = editor.domain.name or ""
        if self.asks and not _yes(f"Define '{name}' with the changed XML?"):
            return 0
        with _Volumes(editor, self.report):
            guest = editor.host.conn.define_xml(editor.domain.to_xml(secrets=True))
        self.report.say(f"Domain '{name}' defined successfully.")
        if "start" in self.options:
            try:
                guest.create()
            except GuesthouseError as error:
                raise UsageError(f"Failed starting domain '{name}': {error.message}") from None
            self.report.say(f"Domain '{name}' started successfully.")
        elif runs and not updated:
            self.report.say("Changes will take effect after the domain is fully powered off.")
        elif handle is not None and _document(guest, _SECURE | _INACTIVE).to_xml(secrets=True) == before:
            self.report.warn(
                "XML did not change after domain define. You may have changed a value that libvirt is setting by"
                " default."
            )
        return 0


class _Volumes:
    """Makes the volumes that added disks want, those of ``parts`` or all; what fails inside takes them away again."""

    def __init__(self, editor: Editor, report: Report, parts: list[Element] | None = None) -> None:
        self._planner = editor.planner
        volumes = editor.request.volumes
        wanted = volumes if parts is None else [volume for volume in volumes if any(volume.disk is p for p in parts)]
        self._volumes = [volume for volume in wanted if volume.made is None]
        self._report = report

    def __enter__(self) -> None:
        from guesthouse.provision import storage

        try:
            storage.build(
                self._planner, self._volumes, lambda volume: self._report.begin(f"Allocating '{volume.name}'")
            )
        except BaseException:
            self._take_back()
            raise
        if self._volumes:
            self._report.end()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._take_back()

    def _take_back(self) -> None:
        from guesthouse.provision import storage

        storage.remove(
            self._planner,
            self._volumes,
            lambda volume, error: self._report.error(f"Failed to remove disk '{volume.name}': {error}"),
        )


def _request(domain: Domain, osinfo_name: str | None) -> Request:
    """``domain`` with the operating system that was named, or that its metadata name."""
    from guesthouse.errors import InvalidArg
    from guesthouse.provision import osinfo
    from guesthouse.provision.request import Request

    request = Request(domain)
    if osinfo_name is not None:
        request.os = osinfo.find(osinfo_name.partition(",")[0].removeprefix("name=").removeprefix("short-id="))
        return request
    metadata = domain.metadata
    node = metadata.find(f".//{{{osinfo.NAMESPACE}}}os") if metadata is not None else None  # type: ignore[attr-defined]
    if node is not None and node.get("id"):
        try:
            request.os = osinfo.find(node.get("id"))
        except InvalidArg:  # a system of another host's database
            pass
    return request


def _document(handle: Handle, flags: int) -> Domain:
    from guesthouse.model.domain import Domain

    return Domain.from_xml(handle.get_xml_desc(flags))


def _find(conn: Connect, text: str) -> Handle:
    """The guest by its name, id or UUID. Raises UsageError."""
    from guesthouse.errors import NoDomain
    from guesthouse.units import parse_uuid

    try:
        return conn.lookup_by_name(text)
    except NoDomain as error:
        if text.isdigit():
            for handle in conn.list_all_domains():
                if handle.id == int(text):
                    return handle
        try:
            return conn.lookup_by_uuid(parse_uuid(text))
        except GuesthouseError:
            raise UsageError(f"Could not find domain '{text}': {error.message}") from None


def _diff(before: str, after: str) -> str:
    import difflib

    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), "Original XML", "Altered XML")
    return "".join(lines)


def _yes(question: str) -> bool:
    """Ask until there is an answer; the end of the input is a no."""
    while True:
        print(f"{question} (y/n): ", end="", flush=True)
        answer = sys.stdin.readline()
        word = answer.strip().lower()
        if word in ("y", "yes"):
            return True
        if word in ("n", "no") or not answer:
            return False
        print("Please enter 'yes' or 'no'.")
