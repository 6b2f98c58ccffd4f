"""Advanced: mirror images, the organs around which alone is computed, and which pieces of organs are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dinomix_slicer.window.widgets import signalsBlocked

from .check_list import CheckList
from .request import LARGEST_PIECE, PIECES_OF_SIZE

if TYPE_CHECKING:
    from .parameter_node import DINOMixSegmentParameterNode

CLEAN_UPS = ("", LARGEST_PIECE, PIECES_OF_SIZE)  # in the order of the combo box


class OptionsPanel:
    """Follows the parameter node, and writes there what the user chooses."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._parameterNode: DINOMixSegmentParameterNode | None = None
        self._aboutMirror = ui.mirrorCheckBox.toolTip
        self._inside = CheckList(ui.insideList, ui.insideLabel)
        self._cleaned = CheckList(ui.cleanUpOrgansList, ui.cleanUpOrgansLabel)
        ui.mirrorCheckBox.connect("toggled(bool)", self._onMirror)
        ui.cleanUpComboBox.connect("activated(int)", self._onCleanUp)
        self._inside.changed.connect(self._onInside)
        self._cleaned.changed.connect(self._onCleaned)

    def show(
        self,
        node: DINOMixSegmentParameterNode,
        organs: Sequence[str],
        organsOfFirst: Sequence[str],
        whyNotMirror: str | None,
    ) -> None:
        """Show what is chosen.

        Args:
            organs, organsOfFirst: what all chosen models find, and the first one alone.
            whyNotMirror: a sentence where they cannot be shown mirror images; else None.
        """
        self._parameterNode = node
        box = self._ui.mirrorCheckBox
        box.enabled, box.toolTip = whyNotMirror is None, whyNotMirror or self._aboutMirror
        with signalsBlocked(box):
            box.checked = node.mirror and whyNotMirror is None
        self._inside.show(*_entries(organsOfFirst, node.inside))
        self._ui.cleanUpComboBox.currentIndex = CLEAN_UPS.index(node.cleanUp) if node.cleanUp in CLEAN_UPS else 0
        self._ui.cleanUpSpinBox.visible = node.cleanUp == PIECES_OF_SIZE
        self._cleaned.show(*_entries(organs if node.cleanUp else [], node.cleanUpOrgans if node.cleanUp else []))

    def _onMirror(self, isChecked: bool) -> None:
        if self._parameterNode is not None:
            self._parameterNode.mirror = isChecked

    def _onInside(self, names: list[str]) -> None:
        self._parameterNode.inside = names

    def _onCleanUp(self, row: int) -> None:
        if self._parameterNode is not None:
            self._parameterNode.cleanUp = CLEAN_UPS[row]

    def _onCleaned(self, names: list[str]) -> None:
        self._parameterNode.cleanUpOrgans = names


def _entries(known: Sequence[str], chosen: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The entries of a list of organs, and which are ticked; with those that were chosen for another model."""
    names = list(dict.fromkeys((*known, *chosen)))
    return [(name, name) for name in names], list(chosen)
