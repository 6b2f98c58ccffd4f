"""Further models to tick, whose organs come into the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt

from dinomix_slicer.signal import Signal
from dinomix_slicer.window.widgets import signalsBlocked

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic


class FurtherModels:
    """
    Signals:
        changed(paths): the folders of the models that are ticked, in the order of the list.
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self.changed = Signal()
        self._list, self._label, self._logic = ui.furtherModelsList, ui.furtherModelsLabel, logic
        self._entries: list[tuple[str, str]] = []
        self._list.connect("itemChanged(QListWidgetItem*)", self._onItemChanged)

    def show(self, first: str, ticked: list[str]) -> None:
        """List the models that see the same images as the one in this folder, and those that are ticked."""
        channels = self._logic.channels(first)
        entries = [
            (model["title"], model["path"])
            for model in self._logic.models()
            if model["path"] != first
            and (
                model["path"] in ticked
                or (not model.get("problem") and self._logic.channels(model["path"]) == channels)
            )
        ]
        paths = [path for _title, path in entries]
        entries += [(path, path) for path in ticked if path not in paths and path != first]
        self._list.visible = self._label.visible = bool(entries)
        with signalsBlocked(self._list):
            if entries != self._entries:
                self._entries = entries
                self._fill()
            for row, (_title, path) in enumerate(entries):
                self._list.item(row).setCheckState(qt.Qt.Checked if path in ticked else qt.Qt.Unchecked)

    def _fill(self) -> None:
        self._list.clear()
        for title, path in self._entries:
            item = qt.QListWidgetItem(title)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setToolTip(path)
            self._list.addItem(item)

    def _onItemChanged(self, item: Any) -> None:
        rows = enumerate(self._entries)
        self.changed.emit([path for row, (_, path) in rows if self._list.item(row).checkState() == qt.Qt.Checked])
