"""Whether KVM can run guests here: asked of /dev/kvm itself, by running real code through it.

Some hosts have a /dev/kvm that passes every capability check and then emulates each instruction, hundreds of times
slower than the processor: a kernel never gets past its decompressor there. So a short loop of 64-bit guest code is
timed. It runs in a child process that is killed when it takes too long, since KVM_RUN need not return.

Numbers of ioctls and layouts are from linux/kvm.h for x86_64.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import platform
import select
import signal
import struct
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from guesthouse.errors import SystemFailure

_DEVICE = "/dev/kvm"
_API_VERSION = 12
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
_CREATE_VCPU, _RUN = 0xAE41, 0xAE80
_SET_USER_MEMORY_REGION, _SET_TSS_ADDR = 0x4020AE46, 0xAE47
_GET_SREGS, _SET_SREGS, _SET_REGS = 0x8138AE83, 0x4138AE84, 0x4090AE82
_CHECK_EXTENSION, _CAP_NR_VCPUS, _CAP_MAX_VCPUS = 0xAE03, 9, 66
_GET_TSC_KHZ, _CAP_TSC_CONTROL = 0xAEA3, 60
_EXIT_HLT = 5

_MEMORY = 0x10000
_CODE, _PML4, _PDPT, _PD = 0x1000, 0x2000, 0x3000, 0x4000
_ITERATIONS = 1_000_000
#: Iterations a second below which the processor is not running the code itself; hardware does over 10**8.
_SLOWEST = 20_000_000
_TIMEOUT = 0.6

# mov ecx, ITERATIONS; 1: dec ecx; jnz 1b; hlt
_LOOP = b"\xb9" + struct.pack("<I", _ITERATIONS) + b"\xff\xc9\x75\xfc\xf4"


@dataclass(frozen=True)
class KvmStatus:
    """``reason`` says in words what was found, ``remedy`` what to do where it is not ``usable``; ``rate`` is loop
    iterations a second (0: not measured)."""

    usable: bool
    present: bool
    reason: str
    remedy: str = ""
    rate: float = 0


_known: dict[str, KvmStatus] = {}


def usable(cache: Path | None = None) -> KvmStatus:
    """Whether this process may run KVM guests at hardware speed; measured once a boot where ``cache`` is a folder.

    Takes under a second, and never raises.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        device = os.stat(_DEVICE)  # noqa: PTH116
        key = f"{boot} {os.geteuid()} {device.st_mode} {device.st_uid} {device.st_gid}"
    except OSError:
        key = f"{boot} none"
    if key in _known:
        return _known[key]
    file = cache / "kvm.json" if cache is not None else None
    if file is not None:
        try:
            saved = json.loads(file.read_text())
            if saved["key"] == key:
                return _known.setdefault(key, KvmStatus(**saved["status"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
    status = _known[key] = _measure()
    if file is not None:
        try:
            file.write_text(json.dumps({"key": key, "status": asdict(status)}))
        except OSError:
            pass
    return status


def max_vcpus() -> int:
    """How many processors KVM gives one guest. Raises SystemFailure where /dev/kvm cannot be opened."""
    try:
        fd = os.open(_DEVICE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to open {_DEVICE}") from None
    try:
        # older kernels know the recommended number alone, and the oldest allow four
        return next((n for cap in (_CAP_MAX_VCPUS, _CAP_NR_VCPUS) if (n := fcntl.ioctl(fd, _CHECK_EXTENSION, cap))), 4)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to query {_DEVICE}") from None
    finally:
        os.close(fd)


@cache
def tsc() -> tuple[int, bool] | None:
    """Ticks a second of the processor's time stamp counter, and whether guests may have it tick at another rate; None
    where KVM does not say."""
    opened: list[int] = []
    try:
        opened.append(os.open(_DEVICE, os.O_RDONLY | os.O_CLOEXEC))
        opened.append(fcntl.ioctl(opened[0], _CREATE_VM, 0))
        opened.append(fcntl.ioctl(opened[1], _CREATE_VCPU, 0))
        kilohertz = fcntl.ioctl(opened[2], _GET_TSC_KHZ)
        return kilohertz * 1000, bool(fcntl.ioctl(opened[0], _CHECK_EXTENSION, _CAP_TSC_CONTROL))
    except OSError:
        return None
    finally:
        for fd in reversed(opened):
            os.close(fd)


def _measure() -> KvmStatus:
    if not Path(_DEVICE).exists():
        return KvmStatus(
            False,
            False,
            f"{_DEVICE} is missing",
            "switch on virtualization (VT-x or AMD-V) in the firmware and load the module (modprobe kvm_intel or"
            " kvm_amd), or use --virt-type qemu",
        )
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return KvmStatus(
            False,
            True,
            f"you may not open {_DEVICE}",
            "join the group kvm (sudo usermod -aG kvm $USER) and log in again, or use --virt-type qemu",
        )
    except OSError as error:
        return KvmStatus(
            False, True, f"{_DEVICE} cannot be opened: {error.strerror}", "use --virt-type qemu, QEMU's emulator"
        )
    try:
        version = fcntl.ioctl(fd, _GET_API_VERSION)
    except OSError:
        version = -1
    finally:
        os.close(fd)
    if version != _API_VERSION:
        return KvmStatus(False, True, f"{_DEVICE} speaks API version {version}, not 12", "use --virt-type qemu")
    if platform.machine() != "x86_64":
        return KvmStatus(True, True, "KVM answers")
    return _judge(*_timed_child())


def _judge(seconds: float | None, problem: str) -> KvmStatus:
    if seconds is None:
        return KvmStatus(False, True, problem, "use --virt-type qemu (QEMU's emulator), or a host with hardware KVM")
    rate = _ITERATIONS / max(seconds, 1e-9)
    if rate < _SLOWEST:
        return KvmStatus(
            False,
            True,
            f"{_DEVICE} only emulates the processor ({rate:,.0f} loop iterations a second, hardware does over"
            " 100,000,000)",
            "use --virt-type qemu (QEMU's emulator is faster than this), or a host with hardware KVM",
            rate,
        )
    return KvmStatus(True, True, f"KVM runs guest code at hardware speed ({rate:,.0f} iterations a second)", "", rate)


def _timed_child() -> tuple[float | None, str]:
    """Seconds that the loop took, or None and why not."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(write, struct.pack("<d", _run_loop()))
            status = 0
        except BaseException as error:
            os.write(write, f"!{error}".encode()[:200])
        finally:
            os._exit(status)
    os.close(write)
    try:
        if not select.select([read], [], [], _TIMEOUT)[0]:
            return (
                None,
                f"{_DEVICE} only emulates the processor: a loop of {_ITERATIONS:,} rounds took over {_TIMEOUT} s",
            )
        data = os.read(read, 256)
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if len(data) == 8:
        return float(struct.unpack("<d", data)[0]), ""
    return None, f"{_DEVICE} does not run guest code: {data[1:].decode(errors='replace') or 'no answer'}"


def _run_loop() -> float:
    """Run the loop as a guest in long mode; seconds. Raises OSError where KVM refuses."""
    kvm = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    vm = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, _MEMORY)
    memory[_CODE : _CODE + len(_LOOP)] = _LOOP
    # one 2 MiB page, mapped to itself: present, writable (3), and large (0x80) in the directory
    memory[_PML4 : _PML4 + 8] = struct.pack("<Q", _PDPT | 3)
    memory[_PDPT : _PDPT + 8] = struct.pack("<Q", _PD | 3)
    memory[_PD : _PD + 8] = struct.pack("<Q", 0x83)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, _SET_TSS_ADDR, 0x7FFB0000)
    fcntl.ioctl(vm, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, _MEMORY, address))
    vcpu = fcntl.ioctl(vm, _CREATE_VCPU, 0)
    size = fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0)
    run = mmap.mmap(vcpu, size)
    sregs = bytearray(312)
    fcntl.ioctl(vcpu, _GET_SREGS, sregs)
    # base, limit, selector, type, present, dpl, db, s, l, g, avl, unusable, padding
    code = struct.pack("<QIHBBBBBBBBBB", 0, 0xFFFFFFFF, 8, 11, 1, 0, 0, 1, 1, 1, 0, 0, 0)
    data = struct.pack("<QIHBBBBBBBBBB", 0, 0xFFFFFFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0)
    sregs[0:24] = code
    for at in range(24, 144, 24):
        sregs[at : at + 24] = data
    # cr0, cr2, cr3, cr4, cr8, efer follow eight segments (24 bytes each) and two tables (16 each)
    struct.pack_into("<QQQQQQ", sregs, 224, 0x80050033, 0, _PML4, 0x20, 0, 0x500)
    fcntl.ioctl(vcpu, _SET_SREGS, bytes(sregs))
    registers = [0] * 18
    registers[16], registers[17] = _CODE, 2  # rip, rflags
    fcntl.ioctl(vcpu, _SET_REGS, struct.pack("<18Q", *registers))
    start = time.perf_counter()
    fcntl.ioctl(vcpu, _RUN, 0)
    seconds = time.perf_counter() - start
    reason = struct.unpack_from("<I", run, 8)[0]
    if reason != _EXIT_HLT:
        raise OSError(f"the test code ended with exit reason {reason}")
    return seconds
