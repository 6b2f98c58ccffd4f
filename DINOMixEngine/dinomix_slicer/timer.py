"""Timers that do not keep their owners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from .signal import weakly


def timer(milliseconds: int, method: Callable[..., Any], isSingleShot: bool = False) -> Any:
    """A ``QTimer``, not started yet, that calls a bound method as long as its object is there: over and over, or once a start."""
    made = qt.QTimer()
    made.setInterval(milliseconds)
    made.setSingleShot(isSingleShot)
    made.connect("timeout()", weakly(method))
    return made
