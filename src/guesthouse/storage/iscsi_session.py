"""An iSCSI session without the kernel (RFC 7143): what a pool asks a target, and a volume full of zeros.

One connection, no digests, error recovery level 0. QEMU has an initiator of its own, for the guests.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from guesthouse.errors import Domain, InternalError

#: Seconds that a target may take for an answer.
TIMEOUT = 30.0
DISCOVERY, NORMAL = "Discovery", "Normal"

_SECURITY, _OPERATIONAL, _FULL = 0, 1, 3
_NOP_OUT, _COMMAND, _LOGIN, _TEXT, _DATA_OUT, _LOGOUT = 0x00, 0x01, 0x03, 0x04, 0x05, 0x06
_NOP_IN, _RESPONSE, _LOGIN_ANSWER, _TEXT_ANSWER, _DATA_IN, _LOGOUT_ANSWER, _READY = (
    *(0x20, 0x21, 0x23, 0x24, 0x25, 0x26),
    0x31,
)
_IMMEDIATE, _FINAL = 0x40, 0x80
_READ, _WRITE = 0x40, 0x20
_NONE = 0xFFFFFFFF
_LARGEST = 1 << 18
_CHAP_MD5 = "5"
_GOOD, _CHECK = 0, 2
_UNIT_ATTENTION = 6
_DISK = 0
_STEP = 128
_LOGIN_FAILURES = {
    0x0200: "Initiator error",
    0x0201: "Authentication failure",
    0x0202: "Authorization failure",
    0x0203: "Target not found",
    0x0204: "Target removed",
    0x0300: "Target error",
    0x0301: "Service unavailable",
    0x0302: "Out of resources",
}


@dataclass(frozen=True)
class Lun:
    """A logical unit: ``size`` in bytes, of blocks of ``block`` bytes; 0 for what is no disk."""

    number: int
    size: int
    block: int


@dataclass
class _Pdu:
    head: bytes
    data: bytes

    @property
    def opcode(self) -> int:
        return self.head[0] & 0x3F

    @property
    def flags(self) -> int:
        return self.head[1]

    def word(self, at: int) -> int:
        return int.from_bytes(self.head[at : at + 4], "big")


def _failure(text: str) -> InternalError:
    return InternalError(text, domain=Domain.STORAGE)


@asynccontextmanager
async def session(
    host: str, port: int, initiator: str, target: str | None, *, user: str = "", password: bytes = b""
) -> AsyncIterator[Session]:
    """A session with ``target``, or for discovery where that is None. Raises InternalError where nobody answers or the
    target refuses; the session is closed in the end."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT)
    except OSError as error:
        what = f"{os.strerror(error.errno)}({error.errno})" if error.errno else str(error)
        raise _failure(f"Failed to connect: iscsi_service: socket error {what}.") from None
    except TimeoutError:
        raise _failure("Failed to connect: iscsi_service: socket error Connection timed out(110).") from None
    made = Session(reader, writer)
    try:
        await made.log_in(initiator, target, user, password)
        yield made
        with suppress(InternalError):
            await made.log_out()
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)


class Session:
    """Commands go one after another; each raises InternalError where the target fails or is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._id = b"\x80" + os.urandom(5)  # a random qualifier, so that no session of another is taken over
        self._handle = 0
        self._tag = 0
        self._command, self._expected = 1, 0
        self._target_takes = 8192

    # PDUs

    async def _send(self, opcode: int, flags: int, rest: Iterable[tuple[int, bytes]], data: bytes = b"") -> None:
        """``rest`` are fields of the header by their place."""
        head = bytearray(48)
        head[0], head[1] = opcode, flags
        head[5:8] = len(data).to_bytes(3, "big")
        for at, value in rest:
            head[at : at + len(value)] = value
        self._writer.write(bytes(head) + data + bytes(-len(data) % 4))
        try:
            await asyncio.wait_for(self._writer.drain(), TIMEOUT)
        except (OSError, TimeoutError) as error:
            raise _failure(f"the iSCSI target is gone: {error}") from None

    async def _receive(self) -> _Pdu:
        """The next PDU; the target's questions whether we are there are answered on the way."""
        while True:
            try:
                head = await asyncio.wait_for(self._reader.readexactly(48), TIMEOUT)
                length = int.from_bytes(head[5:8], "big")
                rest = 4 * head[4] + length + -length % 4
                body = await asyncio.wait_for(self._reader.readexactly(rest), TIMEOUT) if rest else b""
            except (OSError, EOFError, TimeoutError) as error:
                raise _failure(f"the iSCSI target does not answer: {str(error) or 'timed out'}") from None
            pdu = _Pdu(head, body[4 * head[4] : 4 * head[4] + length])
            if pdu.opcode == _NOP_IN:
                if pdu.word(20) != _NONE:
                    fields = [(8, head[8:16]), (16, _word(_NONE)), (20, head[20:24]), *self._numbers()]
                    await self._send(_NOP_OUT | _IMMEDIATE, _FINAL, fields, pdu.data)
                continue
            if pdu.opcode in (_RESPONSE, _LOGIN_ANSWER, _TEXT_ANSWER) or (pdu.opcode == _DATA_IN and pdu.flags & 1):
                self._expected = (pdu.word(24) + 1) & _NONE
            return pdu

    async def _expect(self, opcode: int) -> _Pdu:
        pdu = await self._receive()
        if pdu.opcode != opcode:
            raise _failure(f"the iSCSI target answers with a PDU of type {pdu.opcode:#x}")
        return pdu

    def _numbers(self) -> list[tuple[int, bytes]]:
        return [(24, _word(self._command)), (28, _word(self._expected))]

    def _next(self) -> int:
        self._tag += 1
        return self._tag

    # Coming and going

    async def log_in(self, initiator: str, target: str | None, user: str, password: bytes) -> None:
        kind = DISCOVERY if target is None else NORMAL
        keys = {"InitiatorName": initiator, "SessionType": kind, "AuthMethod": "CHAP" if user else "None"}
        if target is not None:
            keys["TargetName"] = target
        answer = await self._negotiate(_SECURITY, keys, last=not user)
        if user:
            answer = await self._negotiate(_SECURITY, {"CHAP_A": _CHAP_MD5}, last=False)
            await self._negotiate(_SECURITY, _chap(answer, user, password), last=True)
        answer = await self._negotiate(_OPERATIONAL, _operational(kind), last=True)
        takes = answer.get("MaxRecvDataSegmentLength", "")
        if takes.isdecimal():
            self._target_takes = max(512, min(int(takes), _LARGEST))

    async def _negotiate(self, stage: int, keys: dict[str, str], *, last: bool) -> dict[str, str]:
        """Say ``keys`` and hear what the target says to them, until it agrees to leave the stage where ``last``."""
        heard: dict[str, str] = {}
        following = _OPERATIONAL if stage == _SECURITY else _FULL
        while True:
            flags = (_FINAL | following if last else 0) | stage << 2
            fields = [(8, self._id), (14, self._handle.to_bytes(2, "big")), *self._numbers()]
            await self._send(_LOGIN | _IMMEDIATE, flags, fields, _text(keys))
            pdu = await self._expect(_LOGIN_ANSWER)
            status = int.from_bytes(pdu.head[36:38], "big")
            if status:
                what = _LOGIN_FAILURES.get(status, "Moved" if status >> 8 == 1 else "Unknown login status")
                raise _failure(f"Failed to login: Failed to log in to target. Status: {what}({status})")
            heard |= _read_text(pdu.data)
            if not last or pdu.flags & _FINAL:
                self._handle = int.from_bytes(pdu.head[14:16], "big")
                return heard
            keys = {}

    async def log_out(self) -> None:
        await self._send(_LOGOUT | _IMMEDIATE, _FINAL, [(16, _word(self._next())), *self._numbers()])
        await self._expect(_LOGOUT_ANSWER)

    # Asking

    async def targets(self) -> list[str]:
        """The names of the targets, in a session for discovery."""
        found: list[str] = []
        data, transfer, text = _text({"SendTargets": "All"}), _NONE, b""
        tag = self._next()
        while True:
            fields = [(16, _word(tag)), (20, _word(transfer)), *self._numbers()]
            await self._send(_TEXT | _IMMEDIATE, _FINAL, fields, data)
            pdu = await self._expect(_TEXT_ANSWER)
            text += pdu.data
            data, transfer = b"", pdu.word(20)
            if pdu.flags & _FINAL and transfer == _NONE:
                break
        for pair in text.split(b"\0"):
            key, _, value = pair.decode("utf-8", "replace").partition("=")
            if key == "TargetName":
                found.append(value)
        return found

    async def luns(self) -> list[Lun]:
        """The target's logical units, in its order. What is no disk has no size."""
        data = await self._run(0, struct.pack(">B5xI2x", 0xA0, 1 << 16), read=1 << 16)
        length = min(int.from_bytes(data[:4], "big"), len(data) - 8)
        numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(8, 8 + length, 8)]
        return [await self.measure(number) for number in numbers]

    async def measure(self, lun: int) -> Lun:
        await self._run(lun, bytes(6))  # TEST UNIT READY
        data = await self._run(lun, struct.pack(">BxxBBx", 0x12, 0, 64), read=64)
        if not data or data[0] & 0x1F != _DISK:
            return Lun(lun, 0, 0)
        data = await self._run(lun, struct.pack(">BB8xIxx", 0x9E, 0x10, 32), read=32)
        if len(data) < 12:
            raise _failure(f"Failed to get capacity of lun: {len(data)} bytes for the capacity of the LUN {lun}")
        last, block = struct.unpack(">QI", data[:12])
        return Lun(lun, (last + 1) * block, block)

    async def clear(self, lun: int) -> None:
        """Write zeros over a logical unit from end to end."""
        unit = await self.measure(lun)
        if not unit.block:
            raise _failure(f"failed to write to LUN {lun}: no disk")
        blocks, at = unit.size // unit.block, 0
        while at < blocks:
            count = min(_STEP, blocks - at)
            await self._run(lun, struct.pack(">BxQIxx", 0x8A, at, count), write=bytes(count * unit.block))
            at += count

    async def _run(self, lun: int, cdb: bytes, *, read: int = 0, write: bytes = b"") -> bytes:
        """What the logical unit says to a SCSI command. One that tells of a change meanwhile is asked again."""
        for attempt in range(8):
            status, data, sense = await self._run_once(lun, cdb, read, write)
            if status == _GOOD:
                return data
            if status != _CHECK or sense[:3][-1:] != bytes([_UNIT_ATTENTION]):
                break
            await asyncio.sleep(0.01 * 2**attempt)
        why = f"SENSE KEY:{sense[2] & 15} ASCQ:{sense[12:14].hex()}" if len(sense) >= 14 else f"status {status}"
        raise _failure(f"the command {cdb[0]:#04x} failed at the LUN {lun}: {why}")

    async def _run_once(self, lun: int, cdb: bytes, read: int, write: bytes) -> tuple[int, bytes, bytes]:
        tag, address = self._next(), lun.to_bytes(2, "big") + bytes(6)
        flags = _FINAL | (_READ if read else 0) | (_WRITE if write else 0) | 1
        fields = [(8, address), (16, _word(tag)), (20, _word(read or len(write))), *self._numbers()]
        await self._send(_COMMAND, flags, [*fields, (32, cdb)])
        self._command = (self._command + 1) & _NONE
        data = bytearray()
        while True:
            pdu = await self._receive()
            if pdu.opcode == _READY:
                await self._write(pdu, address, tag, write)
            elif pdu.opcode == _DATA_IN:
                data += pdu.data
                if pdu.flags & 1:
                    return pdu.head[3], bytes(data), b""
            elif pdu.opcode == _RESPONSE:
                if pdu.head[2]:
                    raise _failure(f"the iSCSI target failed at a command: {pdu.head[2]}")
                return pdu.head[3], bytes(data), pdu.data[2:]
            else:
                raise _failure(f"the iSCSI target answers with a PDU of type {pdu.opcode:#x}")

    async def _write(self, ready: _Pdu, address: bytes, tag: int, write: bytes) -> None:
        start, wanted = ready.word(40), ready.word(44)
        part, number, at = write[start : start + wanted], 0, 0
        while at < len(part):
            piece = part[at : at + self._target_takes]
            last = at + len(piece) >= len(part)
            fields = [(8, address), (16, _word(tag)), (20, ready.head[20:24]), (28, _word(self._expected))]
            fields += [(36, _word(number)), (40, _word(start + at))]
            await self._send(_DATA_OUT, _FINAL if last else 0, fields, piece)
            number, at = number + 1, at + len(piece)


def _word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _text(keys: dict[str, str]) -> bytes:
    return b"".join(f"{key}={value}\0".encode() for key, value in keys.items())


def _read_text(data: bytes) -> dict[str, str]:
    pairs = (pair.decode("utf-8", "replace").partition("=") for pair in data.split(b"\0") if pair)
    return {key: value for key, _, value in pairs}


def _operational(kind: str) -> dict[str, str]:
    keys = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": str(_LARGEST)}
    keys |= {"DefaultTime2Wait": "0", "DefaultTime2Retain": "0", "ErrorRecoveryLevel": "0"}
    if kind == NORMAL:
        keys |= {"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": str(_LARGEST), "MaxConnections": "1"}
        keys |= {"FirstBurstLength": "65536", "MaxOutstandingR2T": "1"}
        keys |= {"DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes"}
    return keys


def _chap(asked: dict[str, str], user: str, password: bytes) -> dict[str, str]:
    """The answer to a challenge. Raises InternalError where the target wants another method."""
    try:
        number, challenge = int(asked["CHAP_I"], 0), bytes.fromhex(asked["CHAP_C"].lower().removeprefix("0x"))
        if asked.get("CHAP_A", _CHAP_MD5) != _CHAP_MD5 or not 0 <= number < 256:
            raise ValueError
    except (KeyError, ValueError):
        raise _failure("Failed to login: the iSCSI target asks for another kind of authentication") from None
    digest = hashlib.md5(bytes([number]) + password + challenge).hexdigest()
    return {"CHAP_N": user, "CHAP_R": f"0x{digest}"}
