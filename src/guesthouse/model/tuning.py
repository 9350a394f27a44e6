"""What share of the host a guest gets: <cputune>, <memtune>, <blkiotune>."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Children, Choice, Element, Int, Size, Text, UInt


class VcpuPin(Element, tag="vcpupin"):
    vcpu: int | None = Attr("vcpu", UInt, required=True)
    cpuset: str | None = Attr("cpuset", required=True)


class EmulatorPin(Element, tag="emulatorpin"):
    cpuset: str | None = Attr("cpuset", required=True)


class IoThreadPin(Element, tag="iothreadpin"):
    iothread: int | None = Attr("iothread", UInt, required=True)
    cpuset: str | None = Attr("cpuset", required=True)


class Sched(Element):
    """How the host's kernel schedules threads; ``priority`` is that of "fifo" and "rr" alone."""

    scheduler: str | None = Attr("scheduler", Choice("batch", "idle", "fifo", "rr"), required=True)
    priority: int | None = Attr("priority", Int())


class EmulatorSched(Sched, tag="emulatorsched"):
    pass


class VcpuSched(Element, tag="vcpusched"):
    """Of some processors; of one alone once the document is prepared."""

    vcpus: str | None = Attr("vcpus")
    scheduler: str | None = Attr("scheduler", Choice("batch", "idle", "fifo", "rr"), required=True)
    priority: int | None = Attr("priority", Int())


class IoThreadSched(Element, tag="iothreadsched"):
    """Likewise, of threads for disks."""

    iothreads: str | None = Attr("iothreads")
    scheduler: str | None = Attr("scheduler", Choice("batch", "idle", "fifo", "rr"), required=True)
    priority: int | None = Attr("priority", Int())


class CpuTune(Element, tag="cputune"):
    """Periods and quotas are microseconds. They hold for each processor, for the whole guest (``global_``), for what is
    no processor (``emulator_``), and for each thread for disks."""

    shares: int | None = Text("shares", UInt)
    period: int | None = Text("period", UInt)
    quota: int | None = Text("quota", Int())
    global_period: int | None = Text("global_period", UInt)
    global_quota: int | None = Text("global_quota", Int())
    emulator_period: int | None = Text("emulator_period", UInt)
    emulator_quota: int | None = Text("emulator_quota", Int())
    iothread_period: int | None = Text("iothread_period", UInt)
    iothread_quota: int | None = Text("iothread_quota", Int())
    vcpupins: list[VcpuPin] = Children(VcpuPin)
    emulatorpins: list[EmulatorPin] = Children(EmulatorPin)
    iothreadpins: list[IoThreadPin] = Children(IoThreadPin)
    emulatorscheds: list[EmulatorSched] = Children(EmulatorSched)
    vcpuscheds: list[VcpuSched] = Children(VcpuSched)
    iothreadscheds: list[IoThreadSched] = Children(IoThreadSched)


class MemTune(Element, tag="memtune"):
    """KiB; what is not there is unlimited."""

    hard_limit: int | None = Size("hard_limit")
    soft_limit: int | None = Size("soft_limit")
    min_guarantee: int | None = Size("min_guarantee")
    swap_hard_limit: int | None = Size("swap_hard_limit")


class BlkioDevice(Element, tag="device"):
    """A block device of the host."""

    path: str | None = Text("path")
    weight: int | None = Text("weight", UInt)
    read_iops_sec: int | None = Text("read_iops_sec", UInt)
    write_iops_sec: int | None = Text("write_iops_sec", UInt)
    read_bytes_sec: int | None = Text("read_bytes_sec", UInt)
    write_bytes_sec: int | None = Text("write_bytes_sec", UInt)


class BlkioTune(Element, tag="blkiotune"):
    weight: int | None = Text("weight", UInt)
    devices: list[BlkioDevice] = Children(BlkioDevice)
