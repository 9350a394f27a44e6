"""<virtualport>: what a switch is told of a card; of networks, their port groups, and interfaces."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Child, Choice, Element


class VirtualPortParameters(Element, tag="parameters"):
    managerid: str | None = Attr("managerid")
    typeid: str | None = Attr("typeid")
    typeidversion: str | None = Attr("typeidversion")
    instanceid: str | None = Attr("instanceid")
    interfaceid: str | None = Attr("interfaceid")
    profileid: str | None = Attr("profileid")


class VirtualPort(Element, tag="virtualport"):
    type: str | None = Attr("type", Choice("802.1Qbg", "802.1Qbh", "openvswitch", "midonet"))
    parameters: VirtualPortParameters | None = Child(VirtualPortParameters)
