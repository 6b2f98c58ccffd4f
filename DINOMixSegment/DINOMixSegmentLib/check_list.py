"""A list whose entries are ticked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import qt

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.widgets import signalsBlocked


class CheckList:
    """
    Signals:
        changed(values): what the ticked entries stand for, in the order of the list.
    """

    def __init__(self, widget: Any, label: Any) -> None:
        """``widget`` is a ``QListWidget``, of which ``label`` says what it is."""
        self.changed = Signal()
        self._widget, self._label = widget, label
        self._entries: list[tuple[str, str]] = []
        widget.connect("itemChanged(QListWidgetItem*)", self._onItemChanged)

    def show(self, entries: Sequence[tuple[str, str]], ticked: Collection[str]) -> None:
        """List entries, each a text with what it stands for, and tick some; without any, the list is hidden."""
        self._widget.visible = self._label.visible = bool(entries)
        with signalsBlocked(self._widget):
            if list(entries) != self._entries:
                self._entries = list(entries)
                self._fill()
            for row, (_text, value) in enumerate(self._entries):
                self._widget.item(row).setCheckState(qt.Qt.Checked if value in ticked else qt.Qt.Unchecked)

    def _fill(self) -> None:
        self._widget.clear()
        for text, value in self._entries:
            item = qt.QListWidgetItem(text)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            if value != text:
                item.setToolTip(value)
            self._widget.addItem(item)

    def _onItemChanged(self, item: Any) -> None:
        rows = enumerate(self._entries)
        self.changed.emit([value for row, (_, value) in rows if self._widget.item(row).checkState() == qt.Qt.Checked])
