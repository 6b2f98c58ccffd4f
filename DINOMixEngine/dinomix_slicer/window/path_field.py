"""Hearing of the path that is in a ``ctkPathLineEdit``, and showing another there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def onPathChanged(field: Any, slot: Callable[[str], None]) -> None:
    """Call ``slot`` with the path whenever it has changed, with "" when the field was emptied.

    The field sends ``currentPathChanged`` for acceptable paths only, which an empty one is not; that it was emptied is told by
    ``validInputChanged`` alone. A field that was empty sends both, so a slot may be called twice with the same path.
    """
    field.connect("currentPathChanged(QString)", slot)
    field.connect("validInputChanged(bool)", lambda isValid: slot(field.currentPath))


def showPath(field: Any, path: str) -> None:
    """Show ``path``. One that is shown already is not set: that would move the cursor to the end while the user types."""
    if field.currentPath != path:
        field.currentPath = path
