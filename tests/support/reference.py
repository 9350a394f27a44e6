"""Where the reference facts are: beside the checkout, or where GUESTHOUSE_REFERENCE says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REFERENCE = Path(os.environ.get("GUESTHOUSE_REFERENCE", Path(__file__).parents[3] / "shared" / "reference")).resolve()

needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="no reference data beside the checkout")
