"""Tables of texts: their columns, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt


def setUpColumns(table: Any, stretched: Sequence[int] = (), fitted: Sequence[int] = ()) -> None:
    """Which columns of a ``QTableWidget`` share the room that is left, and which are as wide as their texts."""
    header = table.horizontalHeader()
    for column in stretched:
        header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
    for column in fitted:
        header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
    table.verticalHeader().hide()


def setRow(table: Any, row: int, texts: Sequence[str], toolTips: Sequence[str] = ()) -> None:
    """Put texts into a row's first cells, each with its tool tip, if there are such."""
    for column, text in enumerate(texts):
        item = qt.QTableWidgetItem(text)
        if toolTips:
            item.setToolTip(toolTips[column])
        table.setItem(row, column, item)


def stress(table: Any, row: int, column: int) -> None:
    """Make a cell stand out by bold letters."""
    item = table.item(row, column)
    font = item.font()
    font.setBold(True)
    item.setFont(font)


def selectedRows(table: Any) -> list[int]:
    """The rows of which a cell is selected, from above; not those that are hidden."""
    return sorted({item.row() for item in table.selectedItems() if not table.isRowHidden(item.row())})


def fitHeight(table: Any, least: int, most: int) -> None:
    """Make a ``QTableWidget`` as high as its rows, but for at least and at most so many; more are scrolled to."""
    rows = min(max(table.rowCount, least), most)
    # Before it is shown, its header has no height yet.
    header = table.horizontalHeader().sizeHint.height()
    table.setFixedHeight(header + rows * table.verticalHeader().defaultSectionSize + 2 * table.frameWidth)
