"""The entries of a combo box, each a text with what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt


def showChoices(box: Any, entries: Sequence[tuple[str, str]], chosen: str | None) -> None:
    """Show entries (text, data) in a ``QComboBox``, and the one whose data is chosen; where they are the same, it stays open.

    Args:
        chosen: None, or what is no entry, chooses none.
    """
    if [(box.itemText(row), box.itemData(row)) for row in range(box.count)] != list(entries):
        box.clear()
        for text, data in entries:
            box.addItem(text, data)
            box.setItemData(box.count - 1, data or text, qt.Qt.ToolTipRole)
    box.currentIndex = next((row for row, (_text, data) in enumerate(entries) if data == chosen), -1)
