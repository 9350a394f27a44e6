"""``<storagepoolCapabilities>``: the types of pools, the formats of their sources and volumes; pure."""

from __future__ import annotations

from guesthouse.model.storage import POOL_TYPES
from guesthouse.model.storage_rules import POOL_KINDS


def pool_capabilities(supported: set[str]) -> str:
    """The document, with those types as supported that are in the set."""
    lines = ["<storagepoolCapabilities>"]
    for type_ in POOL_TYPES:
        kind = POOL_KINDS[type_]
        lines.append(f"  <pool type='{type_}' supported='{'yes' if type_ in supported else 'no'}'>")
        if kind.formats:
            lines += _options("poolOptions", kind.default_format, "sourceFormatType", kind.formats)
        if kind.volume_formats:
            names: tuple[str, ...] = () if type_ == "rbd" else kind.volume_formats
            first = kind.volume_formats[0]
            if names and first == "raw":
                names = ("none", *names)
            lines += _options("volOptions", first, "targetFormatType", names)
        lines.append("  </pool>")
    return "\n".join([*lines, "</storagepoolCapabilities>", ""])


def _options(tag: str, default: str, enum: str, names: tuple[str, ...]) -> list[str]:
    values = [f"        <value>{name}</value>" for name in names]
    return [
        f"    <{tag}>",
        f"      <defaultFormat type='{default}'/>",
        f"      <enum name='{enum}'>",
        *values,
        "      </enum>",
        f"    </{tag}>",
    ]
