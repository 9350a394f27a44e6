"""What the processor itself says that it can do: CPUID, executed, and the model-specific registers that say more.

The kernel's list of flags leaves out what the kernel has no use for.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import struct
from collections.abc import Callable

from guesthouse.host.x86 import FEATURES, Register, in_registers

# void ask(leaf, subleaf, out[4]): push rbx; mov r8, rdx; mov eax, edi; mov ecx, esi; cpuid; eax, ebx, ecx, edx to [r8];
# pop rbx; ret
_ASK = bytes.fromhex("53 4989d0 89f8 89f1 0fa2 418900 41895804 41894808 4189500c 5b c3")
_NAMES = ("eax", "ebx", "ecx", "edx")
_EXTENDED = 0x80000000
_MSR_DEVICE, _KVM_DEVICE = "/dev/cpu/0/msr", "/dev/kvm"
_KVM_GET_MSRS = 0xC008AE88

#: Leaf and subleaf -> eax, ebx, ecx and edx.
Ask = Callable[[int, int], tuple[int, int, int, int]]
#: The content of a model-specific register by its number; None where it cannot be read.
ReadMsr = Callable[[int], int | None]


def native() -> set[str] | None:
    """The features of this machine's processor; None where it is no x86, or this process may not execute code that it
    wrote."""
    if platform.machine() != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    code[: len(_ASK)] = _ASK
    place = (ctypes.c_char * len(_ASK)).from_buffer(code)
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(ctypes.addressof(place))

    def ask(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        out = (ctypes.c_uint32 * 4)()
        function(leaf, subleaf, ctypes.addressof(out))
        return out[0], out[1], out[2], out[3]

    return features(ask, _read_msr)


def features(ask: Ask, read_msr: ReadMsr) -> set[str]:
    """All that CPUID shows, of the features that libvirt knows; leaves that the processor has not show nothing."""
    most = {0: ask(0, 0)[0], _EXTENDED: ask(_EXTENDED, 0)[0]}
    values: dict[Register, int] = {}
    for leaf, subleaf in {(r.leaf, r.subleaf) for r, _ in FEATURES.values() if isinstance(r.leaf, int)}:
        if leaf <= most[leaf & _EXTENDED] and _is_valid(ask, leaf, subleaf):
            values |= {Register(leaf, subleaf, name): v for name, v in zip(_NAMES, ask(leaf, subleaf), strict=True)}
    found = in_registers(values)
    if "arch-capabilities" in found:
        value = read_msr(0x10A) or 0
        found |= in_registers({Register("msr", 0x10A, "eax"): value & 0xFFFFFFFF})
    return found


def _is_valid(ask: Ask, leaf: int, subleaf: int) -> bool:
    """Whether the processor has a subleaf of a leaf that it has: each leaf says so in a way of its own."""
    eax, _, _, edx = ask(leaf, 0)
    match leaf, subleaf:
        case (0x7, 1):
            return eax >= subleaf
        case (0xF, 1):
            return bool(edx >> 1 & 1)
        case (0x12, _):
            return bool(ask(0x7, 0)[1] >> 2 & 1)
    return True


def _read_msr(number: int) -> int | None:
    for device, read in ((_MSR_DEVICE, _from_cpu), (_KVM_DEVICE, _from_kvm)):
        try:
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            return read(fd, number)
        except (OSError, struct.error):
            continue
        finally:
            os.close(fd)
    return None


def _from_cpu(fd: int, number: int) -> int:
    return int(struct.unpack("<Q", os.pread(fd, 8, number))[0])


def _from_kvm(fd: int, number: int) -> int:
    # how many, padding; then of each its number, padding, content
    asked = bytearray(struct.pack("<IIIIQ", 1, 0, number, 0, 0))
    fcntl.ioctl(fd, _KVM_GET_MSRS, asked)
    return int(struct.unpack_from("<Q", asked, 16)[0])
