"""A guest's threads one by one: <vcpus>, <iothreadids>, <defaultiothread>."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Bool, Children, Element, Int, UInt


class OneVcpu(Element, tag="vcpu"):
    """``order`` is when it is plugged in; one that is not hotpluggable is there from the start."""

    id: int | None = Attr("id", UInt, required=True)
    enabled: bool | None = Attr("enabled", Bool, required=True)
    hotpluggable: bool | None = Attr("hotpluggable", Bool)
    order: int | None = Attr("order", UInt)


class Vcpus(Element, tag="vcpus", hollow=True):
    vcpus: list[OneVcpu] = Children(OneVcpu)


class IoThread(Element, tag="iothread"):
    id: int | None = Attr("id", UInt, required=True)
    pool_min: int | None = Attr("thread_pool_min", Int(-1))
    pool_max: int | None = Attr("thread_pool_max", Int(-1))


class IoThreadIds(Element, tag="iothreadids", hollow=True):
    threads: list[IoThread] = Children(IoThread)


class DefaultIoThread(Element, tag="defaultiothread", hollow=True):
    pool_min: int | None = Attr("thread_pool_min", Int(-1))
    pool_max: int | None = Attr("thread_pool_max", Int(-1))
