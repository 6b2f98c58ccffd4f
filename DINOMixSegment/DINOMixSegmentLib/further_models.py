"""Further models to tick, whose organs come into the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .check_list import CheckList

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic


class FurtherModels:
    """
    Signals:
        changed(paths): the folders of the models that are ticked, in the order of the list.
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self._list, self._logic = CheckList(ui.furtherModelsList, ui.furtherModelsLabel), logic
        self.changed = self._list.changed

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
        self._list.show(entries, ticked)
