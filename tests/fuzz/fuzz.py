"""Looks for bytes and documents that break the wire and the model: coverage-guided, for as long as one likes.

    ./dev fuzz [packet|payload|xml|line] [SECONDS]

Whatever comes in, the answer is a value or one of the project's own errors; and what was read is written, read and
written again the same. Anything else is a finding: it is printed with its traceback, and libFuzzer leaves the input
beside the corpus. Atheris drives (extra "fuzz" of the package); the corpus grows below .fuzz/TARGET.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

with atheris.instrument_imports(include=["guesthouse.wire", "guesthouse.model", "guesthouse.cli.virsh.grammar"]):
    from guesthouse.cli.virsh.completion import candidates
    from guesthouse.cli.virsh.grammar import GrammarError, parse_line
    from guesthouse.model import domain, network, secret, storage
    from guesthouse.model.fields import Element
    from guesthouse.wire import connection as wire
    from guesthouse.wire import xdr
    from guesthouse.wire.types import STRUCTS

from guesthouse.errors import GuesthouseError, RPCError  # noqa: E402
from support.mutations import SEEDS, change_document  # noqa: E402

_KINDS: dict[str, type[Element]] = {
    "domain": domain.Domain,
    "network": network.Network,
    "pool": storage.Pool,
    "volume": storage.Volume,
    "secret": secret.Secret,
}
_NAMES = sorted(STRUCTS)


def packet(data: bytes) -> None:
    """A peer's bytes, in pieces as a socket may cut them: the whole answers the same."""
    cut = data[0] % (len(data) + 1) if data else 0
    whole, pieces = wire.Connection(), wire.Connection()
    assert _fed(whole, [data]) == _fed(pieces, [data[:cut], data[cut:]])


def _fed(machine: wire.Connection, parts: list[bytes]) -> list[object]:
    found: list[object] = []
    try:
        for part in parts:
            found += machine.feed(part)
    except RPCError as error:
        return [str(error)]
    return found


def payload(data: bytes) -> None:
    """A body of any procedure: an error, or a value that comes to the same bytes whenever it is written."""
    name = _NAMES[int.from_bytes(data[:2], "big") % len(_NAMES)]
    try:
        value = xdr.decode(name, data[2:])
    except RPCError:
        return
    again = xdr.encode(name, value)
    assert xdr.encode(name, xdr.decode(name, again)) == again, name


def xml(data: bytes) -> None:
    """A document: an error, or an element whose document reads back as itself."""
    root = data.lstrip()[1:].split(b" ")[0].split(b">")[0].split(b"/")[0].decode("latin-1")
    kind = _KINDS.get(root, domain.Domain)
    try:
        first = kind.from_xml(data).to_xml(secrets=True)
    except GuesthouseError:
        return
    second = kind.from_xml(first).to_xml(secrets=True)
    assert second == first, f"{first}\n--- became ---\n{second}"


def line(data: bytes) -> None:
    """A line of virsh: commands or complaints; and completing it says words or nothing."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parse_line(text)
    except GrammarError:
        pass
    candidates(text.replace("\0", ""), _nobody)


def _nobody() -> object:
    raise ConnectionRefusedError


def _changed(data: bytes, max_size: int, seed: int) -> bytes:
    text = change_document(data, seed)
    return text if len(text) <= max_size else data[:max_size]


def _packets() -> list[bytes]:
    calls = ("connect_open", {"name": "qemu:///system", "flags": 0}), ("connect_get_type", None)
    machine = wire.Connection()
    return [b"".join(machine.call(name, args)[1] for name, args in calls), wire.ping(), wire.pong()]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "packet": (packet, _packets),
    "payload": (payload, lambda: [bytes([number >> 8, number & 255]) + bytes(64) for number in range(len(_NAMES))]),
    "xml": (xml, lambda: SEEDS),
    "line": (line, lambda: [b"start demo --paused; domstate 'demo'", b'echo --xml "<a>" \\; # done']),
}


def run(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which libFuzzer ends: with 0 where nothing was found."""
    test, seeds = TARGETS[name]
    corpus = ROOT / ".fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    arguments = [f"-max_total_time={seconds}", "-max_len=20000", "-timeout=10", "-rss_limit_mb=1500"]
    arguments += [f"-artifact_prefix={ROOT / '.fuzz'}/{name}-", "-print_final_stats=1", "-verbosity=0"]
    mutator = {"custom_mutator": _changed} if name == "xml" else {}
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], test, **mutator)
    atheris.Fuzz()


def main() -> int:
    """Fuzz what the arguments name, else every target in turn; 1 where one found something."""
    words = sys.argv[1:]
    seconds = int(words.pop()) if words and words[-1].isdigit() else 60
    if unknown := [word for word in words if word not in TARGETS]:
        print(f"no target '{unknown[0]}'; there are: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if len(words) == 1:
        run(words[0], seconds)
    failed = []
    for name in words or TARGETS:
        print(f"== {name}: {seconds} s", flush=True)
        if subprocess.run([sys.executable, __file__, name, str(seconds)], cwd=ROOT).returncode:
            failed.append(name)
    print(f"found something: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
