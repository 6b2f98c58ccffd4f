"""A ``QProgressBar`` for steps, voxels and bytes."""

from __future__ import annotations

from typing import Any

STEPS = 1000
"""Of the bar: bytes of large files are more than its own numbers can hold."""


def showPart(bar: Any, done: float, total: float) -> None:
    """Fill the bar so far; of 0 in all, it is not known how far it is, and the bar only moves."""
    bar.maximum = STEPS if total else 0
    bar.value = min(round(STEPS * done / total), STEPS) if total else 0
