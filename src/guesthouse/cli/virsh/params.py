"""Typed parameters, as commands print them."""

from __future__ import annotations

from guesthouse.cli.virsh.domain_stats import param_text
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def show(shell: Shell, params: Iterable[Any], width: int) -> None:
    """One a line, the names padded to ``width``."""
    for param in params:
        shell.out(f"{param.field:<{width}}: {param_text(param)}\n")
