"""Documents changed at random, but as documents: bytes changed at random are hardly ever one."""

from __future__ import annotations

import random
from pathlib import Path

from lxml import etree

DATA = Path(__file__).parents[1] / "data"

_VALUES = ["", "0", "-1", "1", "4294967296", "18446744073709551616", "yes", "no", "on", "é", " ", "a/b", "0x10", "1e9"]
_VALUES += ["../x", "52:54:00:12:34:56", "10.0.0.1", "fe80::1", "%d", "a,b=c", "KiB", "none", "default", "\u2028"]


def _documents() -> list[bytes]:
    return [file.read_bytes() for file in sorted(DATA.glob("**/*.xml")) if file.stat().st_size < 20000]


SEEDS = _documents()


def change_document(data: bytes, seed: int) -> bytes:
    """``data`` with a few of its elements and attributes changed, moved, doubled or gone."""
    rng = random.Random(seed)
    try:
        root = etree.fromstring(data)
    except (etree.XMLSyntaxError, ValueError):
        root = etree.fromstring(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 4)):
        nodes = [node for node in root.iter() if isinstance(node.tag, str)]
        node, other = rng.choice(nodes), rng.choice(nodes)
        values = [*_VALUES, *(v for each in nodes[:40] for v in each.attrib.values())]
        act = rng.randrange(7)
        if act == 0 and node.attrib:
            node.set(rng.choice(list(node.attrib)), rng.choice(values))
        elif act == 1 and node.attrib:
            del node.attrib[rng.choice(list(node.attrib))]
        elif act == 2 and other.attrib:
            name = rng.choice(list(other.attrib))
            node.set(name, rng.choice([other.get(name), rng.choice(values)]))
        elif act == 3:
            node.text = rng.choice(values)
        elif act == 4 and node is not root:
            node.getparent().remove(node)
        elif act == 5 and other is not root and node not in other.iter():
            node.append(etree.fromstring(etree.tostring(other, with_tail=False)))
        elif act == 6:
            donor = etree.fromstring(rng.choice(SEEDS))
            node.append(rng.choice([each for each in donor.iter() if isinstance(each.tag, str)]))
    return etree.tostring(root)
