"""What may come next on a line of virsh: commands, options, and their values, names asked of the daemon.

All derives from the declarations. The hidden command ``complete`` prints it for the completion of shells, as C virsh's
does, and the interactive shell asks for it itself.
"""

from __future__ import annotations

from guesthouse.cli.virsh import index
from guesthouse.cli.virsh.command import ALIAS, DATA, FLAG, REST, Command, Option, command, rest
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.grammar import GrammarError, split_line
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from guesthouse.client import Connect

# stands where the cursor is, so that quotes and blanks before it are read as anywhere else
_CURSOR = "\0"

# which guests, networks, pools and interfaces a command can do something with: bits of libvirt's lists
_ACTIVE, _INACTIVE, _PERSISTENT, _RUNNING, _PAUSED, _OTHER, _SAVED = 1, 2, 4, 16, 32, 128, 256
_GUESTS: dict[int, str] = {
    _ACTIVE: "console cpu-stats destroy domblkerror domblkstat domcontrol domdisplay domfsfreeze domfsinfo domfsthaw"
    " domfstrim domhostname domid domifaddr domifstat domjobabort domjobinfo dommemstat domtime dump get-user-sshkeys"
    " guestinfo guestvcpus inject-nmi managedsave qemu-agent-command qemu-monitor-command reboot reset save screenshot"
    " send-key send-process-signal set-user-password set-user-sshkeys shutdown ttyconsole vncdisplay",
    _INACTIVE: "domrename start",
    _PERSISTENT: "autostart undefine",
    _RUNNING: "dompmsuspend suspend",
    _PAUSED: "resume",
    _OTHER: "dompmwakeup",
    _SAVED: "managedsave-define managedsave-dumpxml managedsave-edit managedsave-remove",
}
_OFF, _ON = 1, 2  # of networks, pools and interfaces
_OTHERS: dict[int, str] = {
    _ON: "net-destroy net-dhcp-leases pool-destroy pool-refresh vol-clone vol-create vol-create-as vol-create-from"
    " vol-delete vol-download vol-dumpxml vol-info vol-key vol-list vol-path vol-resize vol-upload vol-wipe"
    " iface-destroy",
    _OFF: "net-start pool-delete pool-start iface-start",
    _PERSISTENT: "net-autostart net-undefine pool-autostart pool-undefine",
}


class Place:
    """Where the cursor is: ``typed`` of the word so far, the words before it in this command, what they gave."""

    __slots__ = ("command", "given", "literal", "option", "places", "typed")

    def __init__(self, found: Command, words: list[str], typed: str) -> None:
        self.command = found
        self.typed = typed
        self.given: dict[str, str] = {}
        self.literal = False  # behind "--": values only
        self.option: Option | None = None  # the one whose value comes next
        self.places = [o for o in found.options if o.kind not in (FLAG, ALIAS) and not o.named]
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        if self.option is not None:
            self._give(self.option, word)
            self.option = None
        elif word == "--" and not self.literal:
            self.literal = True
        elif word.startswith("--") and len(word) > 2 and not self.literal:
            name, equals, value = word[2:].partition("=")
            option = self.find(name)
            if option is None or option.kind == FLAG or equals:
                self._give(option, value) if option else None
            else:
                self.option = option
        elif self.places:
            self._give(self.places[0], word)

    def find(self, name: str) -> Option | None:
        """The option called ``name``, its aliases led back to it."""
        for option in self.command.options:
            if option.name == name:
                return self.find(option.target.partition("=")[0]) if option.kind == ALIAS else option
        return None

    def _give(self, option: Option, value: str) -> None:
        self.given.setdefault(option.name, value)
        if option.kind != REST and option in self.places:
            self.places.remove(option)


def candidates(line: str, connect: Callable[[], Connect]) -> list[str]:
    """The words that may stand where ``line`` ends, each with what of it is there already; nothing where the line
    makes no sense. ``connect`` gives the connection where names are asked for; where it raises, there are none."""
    words = _words(line)
    if not words:
        return []
    typed = words[-1]
    if len(words) == 1:
        return _beginning(typed, index.names())
    found = index.find(words[0])
    if found is None:
        return []
    place = Place(found, words[1:-1], typed)
    if place.option is not None:
        return _beginning(typed, _values(place, place.option, connect))
    if typed.startswith("--") and "=" in typed and not place.literal:
        name, _, start = typed[2:].partition("=")
        option = place.find(name)
        if option is None or option.kind == FLAG:
            return []
        return [f"--{name}={value}" for value in _beginning(start, _values(place, option, connect))]
    options = [] if place.literal else _options(place)
    if typed.startswith("-") and not place.literal:
        return _beginning(typed, options)
    values = _values(place, place.places[0], connect) if place.places else []
    return [*_beginning(typed, options), *_beginning(typed, values)]


def takes_file(line: str) -> bool:
    """Whether the word at the end of ``line`` may name a file."""
    words = _words(line)
    found = index.find(words[0]) if len(words) > 1 else None
    if found is None:
        return False
    place = Place(found, words[1:-1], words[-1])
    option = place.option or (place.find(words[-1][2:].partition("=")[0]) if words[-1].startswith("--") else None)
    if option is None and place.places:
        option = place.places[0]
    return option is not None and option.complete == "file"


def _words(line: str) -> list[str]:
    """The words of the last command in ``line``; the last of them, which may be empty, is where the cursor is."""
    for end in ("", '"'):
        try:
            commands = split_line(f"{line}{_CURSOR}{end}")
        except GrammarError:
            continue
        words = commands[-1] if commands else []
        if words and words[-1].endswith(_CURSOR):
            return [*words[:-1], words[-1][:-1]]
    return []


def _beginning(start: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(start)]


def _options(place: Place) -> list[str]:
    return [
        f"--{option.name}"
        for option in place.command.options
        if option.kind != ALIAS and (option.name not in place.given or option.kind == REST)
    ]


def _values(place: Place, option: Option, connect: Callable[[], Connect]) -> list[str]:
    """The values that ``option`` may have, as far as they are known."""
    if option.complete == "command":
        return [*index.names(), *index.GROUPS]
    asked = _ASKED.get(option.complete)
    if asked is None:
        return [] if option.complete == "file" else _listed(place, option)
    try:
        return asked(place, connect())
    except (GuesthouseError, OSError):
        return []


def _listed(place: Place, option: Option) -> list[str]:
    """The words of the declaration; behind a comma those that are not there yet, where a comma can be."""
    words = option.complete.split()
    before, comma, _ = place.typed.rpartition(",")
    if not comma or option.kind == DATA:
        return words
    return [f"{before},{word}" for word in words if word not in before.split(",")]


# -- names, asked of the daemon


def _bits(table: dict[int, str], name: str) -> int:
    return next((bits for bits, names in table.items() if name in names.split()), 0)


def _guests(place: Place, conn: Connect) -> list[str]:
    guests = conn.list_all_domains(_bits(_GUESTS, place.command.name))
    return [guest.uuid if place.command.name == "domname" else guest.name for guest in guests]


def _networks(place: Place, conn: Connect) -> list[str]:
    networks = conn.list_all_networks(_bits(_OTHERS, place.command.name))
    return [each.uuid if place.command.name == "net-name" else each.name for each in networks]


def _pools(place: Place, conn: Connect) -> list[str]:
    pools = conn.list_all_storage_pools(_bits(_OTHERS, place.command.name))
    return [each.uuid if place.command.name == "pool-name" else each.name for each in pools]


def _volumes(place: Place, conn: Connect) -> list[str]:
    """Of the pool that is given; of all active pools where none is, by their paths."""
    name = place.given.get("inputpool") or place.given.get("pool")
    if name:
        return [volume.name for volume in conn.storage_pool_lookup_by_name(name).list_all_volumes()]
    return [volume.key for pool in conn.list_all_storage_pools(_ON) for volume in pool.list_all_volumes()]


def _secrets(place: Place, conn: Connect) -> list[str]:
    return [secret.uuid for secret in conn.list_all_secrets()]


def _filters(place: Place, conn: Connect) -> list[str]:
    return [found.name for found in conn.list_all_nwfilters()]


def _filtered(place: Place, conn: Connect) -> list[str]:
    return [binding.portdev for binding in conn.list_all_nwfilter_bindings()]


def _devices(place: Place, conn: Connect) -> list[str]:
    return [device.name for device in conn.list_all_devices()]


def _interfaces(place: Place, conn: Connect) -> list[str]:
    interfaces = conn.list_all_interfaces(_bits(_OTHERS, place.command.name))
    return [each.mac if place.command.name == "iface-name" else each.name for each in interfaces]


def _disks(place: Place, conn: Connect) -> list[str]:
    return _in_guest(place, conn, "disk", ("target", "dev"))


def _cards(place: Place, conn: Connect) -> list[str]:
    return _in_guest(place, conn, "interface", ("target", "dev"), ("mac", "address"))


def _in_guest(place: Place, conn: Connect, family: str, *spots: tuple[str, str]) -> list[str]:
    """What calls the devices of one family of the guest that is given: of each the first spot that it has."""
    from xml.etree.ElementTree import fromstring

    from guesthouse.cli.virsh.devices import attribute
    from guesthouse.cli.virsh.given import parse_number

    name = place.given.get("domain", "")
    number = parse_number(name)
    guest = conn.lookup_by_name(name) if number is None else conn.lookup_by_id(number)
    found = []
    for device in fromstring(guest.get_xml_desc()).findall(f"devices/{family}"):
        names = (attribute(device, *spot) for spot in spots)
        found.append(next((each for each in names if each), ""))
    return [each for each in found if each]


_ASKED: dict[str, Callable[[Place, Connect], list[str]]] = {
    "domain": _guests,
    "network": _networks,
    "pool": _pools,
    "volume": _volumes,
    "secret": _secrets,
    "nwfilter": _filters,
    "binding": _filtered,
    "device": _devices,
    "interface": _interfaces,
    "disk": _disks,
    "card": _cards,
}


@command(
    "virsh",
    "complete",
    "print what may come next on a line, for the completion of shells",
    rest("string", "the words of the line, of which the last is not whole", empty=True),
    description="Used by the completion of shells, not by people.",
    connect=False,
    hidden=True,
)
def complete(shell: Shell, given: Given) -> None:
    line = " ".join(given.rest())
    shell.out("".join(f"{word}\n" for word in candidates(line, shell.ask_names)))
