"""Where the reference documents are: test data that is kept beside the repository, not in it."""

from __future__ import annotations

import os
from pathlib import Path


def reference() -> Path:
    """The folder named by GUESTHOUSE_REFERENCE, else ../shared/reference beside the checkout; it may not exist."""
    named = os.environ.get("GUESTHOUSE_REFERENCE")
    return Path(named) if named else Path(__file__).parents[3] / "shared/reference"
