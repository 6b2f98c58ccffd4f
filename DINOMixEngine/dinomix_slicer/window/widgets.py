"""Small things that several windows do with widgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer


@contextmanager
def signalsBlocked(widget: Any) -> Iterator[None]:
    """While a program changes a widget, it does not announce what the user does."""
    before = widget.blockSignals(True)
    try:
        yield
    finally:
        widget.blockSignals(before)


def isBeingTyped(lineEdit: Any) -> bool:
    """Whether the user is writing there and not done yet, so that what is written must not be replaced."""
    return bool(lineEdit.hasFocus() and lineEdit.modified)


def loadDialog(file: str) -> Any:
    """A window of a ``.ui`` file, above Slicer's main window where there is one."""
    dialog = slicer.util.loadUI(file)
    if slicer.util.mainWindow() is not None:
        dialog.setParent(slicer.util.mainWindow(), qt.Qt.Dialog)
    return dialog
