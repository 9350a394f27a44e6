"""The declarations: what one of them reads, writes, refuses, and calls itself in a sub-option."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guesthouse.errors import XMLDetail, XMLError
from guesthouse.model import fields
from guesthouse.model.fields import (
    Attr,
    Bool,
    Child,
    Children,
    Choice,
    Content,
    Element,
    Flag,
    Hex,
    Int,
    Mac,
    OnOff,
    Raw,
    Size,
    Text,
    UInt,
    Uuid,
)


class Wheel(Element, tag="wheel"):
    side: str | None = Attr("side", Choice("left", "right"), required=True)
    spokes: int | None = Attr("spokes", Int(3, 36), alias=("spokes",))


class Bell(Element, tag="bell"):
    loud: bool | None = Attr("loud", OnOff)
    code: str | None = Attr("code", secret=True)
    tune: str | None = Content(alias=("tune",))


class Basket(Element, tag="basket", paired=True):
    lid: bool = Flag("lid")


class Bike(Element, tag="bike"):
    """One of everything."""

    kind: str = Attr("kind", Choice("city", "race"), default="city")
    id: str | None = Attr("id", Uuid)
    mac: str | None = Attr("mac", Mac)
    port: int | None = Attr("port", Hex(2))
    name: str | None = Text("name", required=True)
    weight: int | None = Size("weight")
    load: int | None = Size("load", keep="bytes", unit="KiB")
    light: bool = Flag("light", key="lamp")
    locked: bool | None = Text("locked", Bool)
    bell: Bell | None = Child(Bell)
    basket: Basket | None = Child(Basket)
    wheels: list[Wheel] = Children(Wheel)
    note: object = Raw("note")


WHOLE = """\
<bike kind='race' id='c7a5fdbd-edaf-9455-926a-d65c16db1809' mac='52:54:00:00:00:01' port='0x0a'>
  <name>Rosi</name>
  <weight unit='KiB'>12</weight>
  <load unit='bytes'>2048</load>
  <light/>
  <locked>no</locked>
  <bell loud='on' code='1234'>ring</bell>
  <basket>
  </basket>
  <wheel side='left' spokes='32'/>
  <wheel side='right'/>
  <note by='me'>
    <line/>
  </note>
</bike>
"""


def bike(rest: str = "", attributes: str = "") -> Bike:
    return Bike.from_xml(f"<bike {attributes}><name>x</name>{rest}</bike>")


def test_everything_is_read_and_written() -> None:
    whole = Bike.from_xml(WHOLE)
    assert (whole.kind, whole.port, whole.weight, whole.load, whole.light) == ("race", 10, 12, 2048, True)
    assert whole.locked is False and whole.bell is not None and whole.bell.tune == "ring"
    assert [wheel.spokes for wheel in whole.wheels] == [32, None]
    assert whole.to_xml(secrets=True) == WHOLE


def test_what_is_left_out_is_none_or_its_default() -> None:
    bare = bike()
    assert (bare.kind, bare.light, bare.wheels, bare.bell, bare.note) == ("city", False, [], None, None)
    assert bare.to_xml() == "<bike kind='city'>\n  <name>x</name>\n</bike>\n"


def test_order_is_that_of_the_declarations() -> None:
    mixed = Bike.from_xml("<bike><wheel side='left'/><light/><name>x</name></bike>")
    assert mixed.to_xml() == "<bike kind='city'>\n  <name>x</name>\n  <light/>\n  <wheel side='left'/>\n</bike>\n"


def test_of_several_children_the_first_counts() -> None:
    twice = bike("<bell>a</bell><bell>b</bell><weight>1</weight><weight>2</weight>")
    assert twice.bell is not None and twice.bell.tune == "a" and twice.weight == 1


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<car/>", "car"),
        ("<bike/>", "Missing required element 'name' in element 'bike'|(at bike)"),
        ("<bike kind='boat'/>", "'kind' in element 'bike': 'boat'|(at bike/@kind; expected one of: city, race)"),
        ("<bike id='1'/>", "'1'|(at bike/@id; expected a UUID)"),
        ("<bike mac='x'/>", "(at bike/@mac; expected a MAC address such as 52:54:00:12:34:56)"),
        ("<bike port='-1'/>", "(at bike/@port; expected a number, such as 0x1f)"),
        (
            "<bike><name>x</name><wheel/></bike>",
            "Missing required attribute 'side' in element 'wheel'|(at bike/wheel[1]",
        ),
        (
            "<bike><wheel side='left'/><wheel side='top'/></bike>",
            "'side' in element 'wheel': 'top'|(at bike/wheel[2]/@side; expected one of: left, right)",
        ),
        ("<bike><wheel side='left' spokes='40'/></bike>", "expected an integer from 3 to 36"),
        ("<bike><locked>maybe</locked></bike>", "'locked': 'maybe'|(at bike/locked; expected one of: yes, no)"),
        ("<bike><bell loud='yes'/></bike>", "(at bike/bell/@loud; expected one of: on, off)"),
        ("<bike><weight>heavy</weight></bike>", "'heavy'|(at bike/weight; expected a size in whole numbers)"),
        ("<bike><weight unit='stone'>1</weight></bike>", "unknown suffix 'stone'|(at bike/weight)"),
        ("<bike><weight unit='EiB'>99</weight></bike>", "value too large|(at bike/weight)"),
    ],
)
def test_a_wrong_value_names_its_place_and_what_was_expected(xml: str, words: str) -> None:
    with pytest.raises(XMLError) as caught:
        Bike.from_xml(xml)
    for part in words.split("|"):
        assert part in str(caught.value)


def test_malformed_documents_are_shown() -> None:
    with pytest.raises(XMLDetail) as caught:
        Bike.from_xml("<bike>\n<name>x</nam></bike>")
    text = str(caught.value)
    assert "(bike_definition):2: Opening and ending tag mismatch" in text
    assert "\n<name>x</nam></bike>\n" in text and text.endswith("^")


def test_entities_are_not_expanded() -> None:
    bomb = "<!DOCTYPE bike [<!ENTITY secret SYSTEM 'file:///etc/passwd'>]><bike><name>&secret;</name></bike>"
    assert Bike.from_xml(bomb).name == ""


@pytest.mark.parametrize(
    ("xml", "kept"),
    [
        ("<weight unit='MiB'>1</weight>", 1024),
        ("<weight>7</weight>", 7),
        ("<weight unit='b'>1025</weight>", 2),
        ("<weight unit='KB'>1</weight>", 1),
        ("<weight unit='GB'>1</weight>", 976563),
    ],
)
def test_sizes_are_kept_in_one_unit_and_rounded_up(xml: str, kept: int) -> None:
    assert bike(xml).weight == kept
    assert f"<weight unit='KiB'>{kept}</weight>" in bike(xml).to_xml()


def test_a_size_without_unit_means_its_own() -> None:
    assert bike("<load>2</load>").load == 2048
    assert bike("<load unit='bytes'>2</load>").load == 2


@pytest.mark.parametrize(("text", "value"), [("0x1f", 31), ("31", 31), ("037", 31), ("0", 0), ("0X1F", 31)])
def test_numbers_in_any_base(text: str, value: int) -> None:
    assert bike(attributes=f"port='{text}'").port == value


@pytest.mark.parametrize("text", ["1_0", "", "0x10", "1.0", "36.0"])
def test_decimal_numbers_are_strict(text: str) -> None:
    with pytest.raises(XMLError):
        bike(f"<wheel side='left' spokes='{text}'/>")


def test_what_is_not_declared_survives_in_its_place() -> None:
    strange = (
        "<bike kind='city' colour='red'>\n"
        "  <name>x</name>\n"
        "  <bell tone='c'>\n"
        "    <clapper><!-- inside --><tip/></clapper>\n"
        "  </bell>\n"
        "  <horn size='&lt;3'>a &amp; b</horn>\n"
        "</bike>\n"
    )
    twin = Bike.from_xml(strange)
    assert twin.extra_attributes == {"colour": "red"} and [n.tag for n in twin.extra_nodes] == ["horn"]
    again = Bike.from_xml(twin.to_xml())
    assert again == twin
    for piece in ("colour='red'", "tone='c'", "<tip/>", "<horn size='&lt;3'>a &amp; b</horn>"):
        assert piece in twin.to_xml()


def test_namespaces_survive() -> None:
    xml = bike(
        '<a:note xmlns:a="http://example.org/a" a:by="me"><a:x xmlns:b="http://example.org/b" b:y="1"/></a:note>'
    )
    again = Bike.from_xml(xml.to_xml())
    assert again == xml
    [node] = again.extra_nodes
    assert node.tag == "{http://example.org/a}note" and node.get("{http://example.org/a}by") == "me"
    assert node[0].get("{http://example.org/b}y") == "1"


def test_raw_elements_are_not_touched() -> None:
    note = bike("<note by='me'><line n='1'>text</line></note>").note
    assert isinstance(note, fields.etree._Element) and note[0].text == "text"


def test_secrets_are_written_only_when_asked_for() -> None:
    whole = Bike.from_xml(WHOLE)
    assert "1234" not in whole.to_xml() and "1234" in whole.to_xml(secrets=True)
    assert whole.node().find("bell").get("code") == "1234"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_text_survives(text: str) -> None:
    assert Bike.from_xml(Bike(name=text).to_xml()).name == text


def test_copies_share_nothing() -> None:
    whole = Bike.from_xml(WHOLE)
    whole.extra_attributes["a"] = "1"
    twin = whole.copy()
    assert twin == whole
    twin.wheels[0].spokes = 4
    twin.wheels.append(Wheel(side="left"))
    assert twin.bell is not None
    twin.bell.tune = "other"
    twin.extra_attributes["a"] = "2"
    assert twin != whole
    assert whole.wheels[0].spokes == 32 and len(whole.wheels) == 2
    assert whole.bell is not None and whole.bell.tune == "ring" and whole.extra_attributes == {"a": "1"}


def test_made_by_hand() -> None:
    assert Bike(name="x", wheels=[Wheel(side="left")]).to_xml().count("wheel") == 1
    with pytest.raises(TypeError, match="no field 'sail'"):
        Bike(sail=1)
    assert repr(Wheel(side="left")) == "Wheel(side='left')"


# -- sub-options


def test_options_are_paths_of_tags() -> None:
    keys = list(Bike.options())
    assert keys == [
        *("kind", "id", "mac", "port", "name", "weight", "load", "lamp", "locked", "bell.loud", "bell.code", "bell"),
        *("tune", "basket.lid", "wheel[0-9]*.side", "wheel[0-9]*.spokes", "spokes"),
    ]
    assert Bike.options()["bell"].path == ("bell", "tune") == Bike.options()["tune"].path


@pytest.mark.parametrize(
    ("key", "text", "read"),
    [
        ("kind", "race", lambda b: b.kind == "race"),
        ("lamp", "on", lambda b: b.light is True),
        ("lamp", "0", lambda b: b.light is False),
        ("locked", "true", lambda b: b.locked is True),
        ("load", "3", lambda b: b.load == 3072),
        ("weight", "3", lambda b: b.weight == 3),
        ("bell.loud", "no", lambda b: b.bell.loud is False),
        ("tune", "la", lambda b: b.bell.tune == "la"),
        ("wheel1.spokes", "12", lambda b: [w.spokes for w in b.wheels] == [None, 12]),
        ("wheel.side", "left", lambda b: [w.side for w in b.wheels] == ["left"]),
        ("spokes", "5", lambda b: [w.spokes for w in b.wheels] == [5]),
    ],
)
def test_set_option(key: str, text: str, read: Any) -> None:
    made = Bike(name="x")
    made.set_option(key, text)
    assert read(made), made


def test_options_that_are_wrong() -> None:
    made = Bike(name="x")
    with pytest.raises(KeyError):
        made.set_option("sail", "1")
    with pytest.raises(KeyError):
        made.set_option("wheelx.side", "left")
    with pytest.raises(XMLError, match="Invalid value for 'kind': 'boat'; expected one of: city, race"):
        made.set_option("kind", "boat")
    with pytest.raises(XMLError, match="Invalid value for 'lamp': 'dim'"):
        made.set_option("lamp", "dim")
    with pytest.raises(XMLError, match=r"Invalid value for 'wheel0\.spokes': '99'; expected an integer from 3 to 36"):
        made.set_option("wheel0.spokes", "99")
    assert UInt.parse("7") == 7
