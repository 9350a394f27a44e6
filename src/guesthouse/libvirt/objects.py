"""What every handle is, and how the methods of its class come out of the procedure table.

A class declares its methods as text, one a line: the Python signature, the procedure, and only where it differs from
what the table implies, ``name=expression`` for an argument and ``-> expression`` for the result. The table implies that
the procedure's arguments are the handle and then the method's parameters in order, and that a result of one field is
that field, a handle becoming an object; without a result the method returns 0.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from guesthouse.errors import GuesthouseError
from guesthouse.libvirt import errors, typed
from guesthouse.libvirt.link import SharedLink
from guesthouse.wire.procedures import BY_NAME, Procedure
from guesthouse.wire.types import STRUCTS

_ROW = re.compile(r"(\w+)\((.*?)\) (\w+)((?: \w+=\S+)*)(?: -> (.*))?")
_LIMIT = re.compile(r"<(\d+)>")
_FLAG_STRINGS = 4  # VIR_TYPED_PARAM_STRING_OKAY
# how libvirt writes words of its functions' names that are not just capitalised
_WORDS = {
    **{
        word: word.upper() for word in ("xml", "uuid", "id", "os", "uri", "cpu", "pm", "io", "dhcp", "nmi", "fd", "mac")
    },
    **{word: word.upper() for word in ("scsi", "wwn", "sev")},
    "nwfilter": "NWFilter",
    "nwfilters": "NWFilters",
    "fsfreeze": "FSFreeze",
    "fsthaw": "FSThaw",
    "fstrim": "FSTrim",
    "fsinfo": "FSInfo",
    "iothread": "IOThread",
    "wakeup": "Wakeup",
    "ssh": "SSH",
}
_DOMAINS = {
    "virNetwork": 19,
    "virInterface": 26,
    "virStorage": 18,
    "virNodeDevice": 22,
    "virSecret": 30,
    "virNWFilter": 33,
    "virStream": 38,
    "virConnectClose": 0,
}
# how many there are of what a procedure lists, where that is not its name with num_of
_NUMBERS = {
    "domain_snapshot_list_names": "domain_snapshot_num",
    "domain_snapshot_list_children_names": "domain_snapshot_num_children",
    "node_list_devices": "node_num_of_devices",
}
_T = TypeVar("_T", bound=type)
_classes: dict[str, Any] = {}


class Session:
    """An open connection: until its virConnect is closed or gone, and the last handle that came from it, too.

    Who merely can reach it does not count, such as the frames of an error that a program keeps.
    """

    def __init__(self, link: Any, uri: str, readonly: bool, secure: bool, encrypted: bool) -> None:
        self.link = link  # a SharedLink; for test:/// what answers without a daemon
        self.uri = uri
        self.readonly = readonly
        self.secure = secure
        self.encrypted = encrypted
        self.watch = -1
        self.unwatch: Callable[[], None] | None = None
        self.queue: Any = None
        self.keepalive: Any = None
        self.features: dict[int, bool] = {}
        self.handles: set[int] = set()  # changed by whole operations of the interpreter's: it needs no lock
        self.closed = False

    @property
    def session(self) -> Session:
        return self

    def call(self, function: str, name: str, args: dict[str, Any]) -> Any:
        """Call a procedure for libvirt's ``function``. Raises libvirtError."""
        errors.virResetLastError()
        self.allow(function, BY_NAME[name])
        try:
            return self.link.call(name, **args)
        except GuesthouseError as error:
            errors.fail(error, function)

    def call_with_files(self, function: str, name: str, args: dict[str, Any], fds: list[int]) -> tuple[Any, list[int]]:
        """Likewise with descriptors; returns those that came back, too."""
        errors.virResetLastError()
        self.allow(function, BY_NAME[name])
        if not isinstance(self.link, SharedLink):
            errors.unsupported(function)
        try:
            reply = self.link.exchange(name, args, fds)
        except GuesthouseError as error:
            errors.fail(error, function)
        return reply.value, reply.fds

    def allow(self, function: str, row: Procedure) -> None:
        """Raises where a read-only connection asks for a change: nobody is bothered with that."""
        if self.readonly and row.access == "write":
            text = f"read only access prevents {function}"
            errors.refuse(
                function, errors.OPERATION_DENIED, domain_of(function), f"operation forbidden: {text}",
                "operation forbidden: %s", text,
            )  # fmt: skip

    def has_feature(self, number: int) -> bool:
        """Whether the other side has what libvirt numbers so."""
        if number not in self.features:
            try:
                self.features[number] = self.link.call("connect_supports_feature", feature=number).supported == 1
            except GuesthouseError:
                self.features[number] = False
        return self.features[number]

    def close(self, *, wait: bool = False) -> bool:
        """Its virConnect is done with it. Leaves, and returns True, unless there are handles, which then do when the
        last one goes. With ``wait`` the other side has heard of it, else it soon will."""
        self.closed = True
        if self.handles:
            return False
        from guesthouse.libvirt import connection

        connection.leave(self, wait=wait)
        return True

    def release(self, handle: int) -> None:
        """A handle is gone."""
        self.handles.discard(handle)
        if self.closed and not self.handles:
            self.close()


class Handle:
    """What libvirt-python calls a wrapped C object: the session and the object's name on the wire."""

    __slots__ = ("__weakref__", "ref", "session")

    def __init__(self, session: Session, ref: Any) -> None:
        self.session = session
        self.ref = ref
        session.handles.add(id(self))

    def __del__(self) -> None:
        try:
            self.session.release(id(self))
        except Exception:
            pass  # the interpreter may be on its way out


class Object:
    """The root of the classes. ``_o`` is the handle."""

    _kind = ""
    _o: Any
    _conn: Any

    def __init__(self, conn: Any, _obj: Handle | None = None) -> None:
        if not isinstance(_obj, Handle):
            raise Exception(f"Expected a wrapped C Object but got {type(_obj)}")
        self._conn = getattr(conn, "_conn", conn)  # an object of a domain gets the domain
        self._o = _obj

    if TYPE_CHECKING:  # the methods that are declared as text

        def __getattr__(self, name: str) -> Any: ...

    def connect(self) -> Any:
        """The connection that it came from."""
        return self._conn

    def c_pointer(self) -> int:
        """A number of its own; there is no C object behind it."""
        return id(self._o)


def kib(value: Any, function: str) -> int:
    """An amount of memory that as bytes is a number of 64 bits."""
    number = unsigned_long(value)
    if number >> 54:
        text = f"input too large: {number}"
        pattern = "numerical overflow: %s"
        errors.refuse(function, errors.OVERFLOW, errors.FROM_DOMAIN, pattern % text, pattern, text)
    return number


def uuid_bytes(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))


def uuid_of(raw: Any, function: str) -> str:
    """The canonical text of a UUID in bytes, as the Python binding takes them."""
    if not isinstance(raw, bytes) or len(raw) != 16:
        name = function.replace("ByUUID", "ByName")  # so says libvirt-python
        return string(None, name, "name")
    return uuid_text(raw.hex(), function)


def uuid_text(text: Any, function: str) -> str:
    """The canonical text of a UUID in any of libvirt's spellings. Raises libvirtError for what is none."""
    digits = string(text, function, "uuidstr").replace("-", "").replace(" ", "").lower()
    if len(digits) != 32 or set(digits) - set("0123456789abcdef"):
        errors.refuse(function, errors.INVALID_ARG, domain_of(function), "Invalid UUID", function, "uuidstr")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def fit(o: Any, function: str, name: str, values: Any, args: dict[str, Any]) -> list[typed.Param]:
    """``values`` as the parameters that the getter ``name`` knows."""
    if isinstance(values, dict) and values:
        return typed.fitting(
            counted(o.session, function, name, {**args, "flags": args["flags"] | _FLAG_STRINGS}), values
        )
    return typed.fitting([], values)


def domain_of(function: str) -> int:
    """Which part of libvirt speaks of ``function`` without being asked over the wire."""
    return next((number for start, number in _DOMAINS.items() if function.startswith(start)), errors.FROM_DOMAIN)


def function_name(procedure: str) -> str:
    """libvirt's function for a procedure: domain_get_xml_desc -> virDomainGetXMLDesc."""
    return "vir" + "".join(_WORDS.get(word) or word.capitalize() for word in procedure.split("_"))


def invalid(function: str, what: str) -> NoReturn:
    """Raise that the ``what`` of ``function`` is none (any more)."""
    text = f"invalid {what} pointer in %s"
    if what == "stream":
        errors.refuse(function, errors.INVALID_STREAM, errors.FROM_STREAMS, text % function, text, function)
    errors.refuse(function, errors.INVALID_CONN, domain_of(function), text % function, text, function)


def handle_of(value: Any, function: str) -> Any:
    """How the object ``value`` is named on the wire."""
    if not isinstance(value, Object):
        invalid(function, "domain" if function.startswith("virDomain") else "object")
    return value._o.ref


def string(value: Any, function: str, name: str) -> str:
    """A string that has to be there."""
    if value is None:
        text = f"{name} in {function} must not be NULL"
        errors.refuse(function, errors.INVALID_ARG, domain_of(function), text, function, name)
    if not isinstance(value, str):
        raise TypeError(f"{function}() argument '{name}' must be str or None, not {type(value).__name__}")
    return value


def optional(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"argument must be str or None, not {type(value).__name__}")
    return value


def unsigned(value: Any) -> int:
    """32 bits of a number, as C takes it."""
    return operator.index(value) & 0xFFFFFFFF


def unsigned_long(value: Any) -> int:
    return operator.index(value) & 0xFFFFFFFFFFFFFFFF


def integer(value: Any) -> int:
    number = operator.index(value)
    if not -(1 << 31) <= number < 1 << 31:
        raise OverflowError("signed integer is out of range for a C int")
    return number


def wrap(parent: Any, kind: str, record: Any) -> Any:
    """The object for a handle of the wire's type ``kind``."""
    return _classes[kind](parent, Handle(parent._o.session, tuple(record)))


def cpu_count(o: Any) -> int:
    """How many CPUs the host has, which CPU maps are for."""
    args = {"need_map": 0, "need_online": 0, "flags": 0}
    return int(o.session.call("virNodeGetCPUMap", "node_get_cpu_map", args).ret)


def cpu_bits(o: Any, cpus: Any) -> bytes:
    """A tuple of truths as the wire's CPU map."""
    return typed.bitmap(cpus, cpu_count(o) if isinstance(cpus, tuple) else 0)


def counted(session: Session, function: str, name: str, args: dict[str, Any]) -> list[Any]:
    """The parameters of a procedure that is asked for their number first."""
    count = session.call(function, name, {**args, "nparams": 0}).nparams
    return list(session.call(function, name, {**args, "nparams": count}).params) if count else []


_CONVERSIONS = {
    "uint": "unsigned({})",
    "uhyper": "unsigned_long({})",
    "str?": "optional({})",
    "str": "string({}, {!r}, {!r})",
    "int": "integer({})",
    "hyper": "operator.index({})",
    "uuid": "string({}, {!r}, {!r})",
    "char": "integer({})",
}
_SCOPE: dict[str, Any] = {
    **{f.__name__: f for f in (unsigned, unsigned_long, integer, string, optional, handle_of, wrap, counted, invalid)},
    **{f.__name__: f for f in (uuid_of, uuid_text, fit, cpu_count, cpu_bits, kib)},
    "operator": operator,
    "typed": typed,
}


def _fields(struct: str | None) -> list[tuple[str, str]]:
    found = (word.partition(":") for word in STRUCTS[struct].split()) if struct else ()
    return [(name, kind) for name, _, kind in found]


def _argument(function: str, name: str, kind: str) -> str:
    if kind.startswith("typed"):
        return f"typed.guess({name})"
    if kind.startswith("nonnull_"):
        return f"handle_of({name}, {function!r})"
    if kind.startswith("str<"):
        return f"typed.strings({name}, {function!r})"
    if kind.startswith("opaque"):
        return f"cpu_bits(o, {name})"
    return _CONVERSIONS.get(kind, "{}").format(name, function, name)


def source(line: str, kind: str) -> str:
    """The Python text of the method that ``line`` declares, for a class whose handle is of the wire's type ``kind``."""
    match = _ROW.fullmatch(line)
    assert match is not None, line
    name, signature, procedure, overrides, result = match.groups()
    given = dict(word.split("=", 1) for word in overrides.split())
    row = BY_NAME[procedure]
    function = given.pop("function", None) or function_name(procedure)
    parameters = [word.partition("=")[0].strip() for word in signature.split(",") if word]
    ret = _fields(row.ret)
    limit = next((found[1] for _, t in ret if (found := _LIMIT.search(t))), "0")
    is_typed = any(t.startswith("typed") for _, t in ret)
    args, two_steps, listing, left = [], False, False, list(parameters)
    for at, (field, t) in enumerate(_fields(row.args)):
        if at == 0 and kind == t:
            args.append(f"{field!r}: o.ref")
        elif at == 0 and kind == "nonnull_node_device" and field == "name":
            args.append(f"{field!r}: o.ref[0]")
        elif field in given:
            args.append(f"{field!r}: {given[field]}")
            left = [word for word in left if word == "flags" or not re.search(rf"\b{word}\b", given[field])]
        elif field == "need_results":
            args.append(f"{field!r}: 1")
        elif field in ("maxnames", "maxids", "maxuuids"):
            listing = True
            args.append(f"{field!r}: {limit}")
        elif field == "nparams" and any(f == "nparams" for f, _ in ret):
            two_steps = True
        else:
            value = _argument(function, left.pop(0), t)
            args.append(
                f"{field!r}: {value}{f' | {_FLAG_STRINGS}' if field == 'flags' and two_steps and is_typed else ''}"
            )
    assert not left, (line, left)
    values = f"{{{', '.join(args)}}}"
    what = "connection" if not kind else kind.removeprefix("nonnull_").replace("_", " ")
    session = "o" if not kind else "o.session"
    head = [f"def {name}(self{', ' if signature else ''}{signature}):", " o = self._o"]
    head.append(f" if o is None: invalid({function!r}, {what!r})")
    if listing:  # libvirt-python asks how many there are first, and for none of none
        number = _NUMBERS.get(procedure) or procedure.replace("_list_", "_num_of_")
        wanted = {field for field, _ in _fields(BY_NAME[number].args)}
        some = ", ".join(arg for arg in args if arg.partition(":")[0].strip("'") in wanted)
        head.append(f" if not {session}.call({function_name(number)!r}, {number!r}, {{{some}}}).num: return []")
    if two_steps:
        head.append(f" r = counted({session}, {function!r}, {procedure!r}, {values})")
        default = "typed.values(r)" if is_typed else "dict(r)"
    else:
        head.append(f" r = {session}.call({function!r}, {procedure!r}, {values})")
        default = _result(ret)
    return "\n".join([*head, f" return {result or default}"])


def _result(ret: list[tuple[str, str]]) -> str:
    if not ret:
        return "0"
    field, t = ret[0]
    bare = t.partition("<")[0]
    if bare.startswith("nonnull_"):
        return f"[wrap(self, {bare!r}, x) for x in r.{field}]" if "<" in t else f"wrap(self, {t!r}, r.{field})"
    if bare == "typed":
        return f"typed.values(r.{field})"
    if len(ret) == 1 or (ret[1][0] == "ret" and "<" in t):
        return f"list(r.{field})" if "<" in t and bare != "opaque" else f"r.{field}"
    return "list(r)"


def declared(table: str, **names: Any) -> Callable[[_T], _T]:
    """Give a class the methods of ``table``, unless it has them itself, and let wire handles of its kind become it;
    ``names`` are what expressions in the table use."""

    def decorate(cls: _T) -> _T:
        kind: str = cls._kind  # type: ignore[attr-defined]
        _classes[kind] = cls
        lines = [line for line in table.strip().splitlines() if line]
        methods: dict[str, Any] = {}
        scope = {**_SCOPE, **names}
        exec("\n".join(source(line.strip(), kind) for line in lines), scope, methods)
        for name, method in methods.items():
            method.__qualname__ = f"{cls.__name__}.{name}"
            method.__module__ = cls.__module__
            if name not in vars(cls):
                setattr(cls, name, method)
        return cls

    return decorate
