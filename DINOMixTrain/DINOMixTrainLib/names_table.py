"""The structures that label files name, and what each is called in the training: a small table to map them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dinomix.names import normalized_name
from dinomix_slicer.window.appearance import colorIcon
from dinomix_slicer.window.tables import fitHeight, setRow, setUpColumns

from .cohort_report import CohortReport, FoundName
from .cohort_request import renamesOf
from .study import Color

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode

FOUND, CASES, TRAINED = 0, 1, 2  # columns


class NamesTable:
    """What is mapped is in the parameter node."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._node: DINOMixTrainParameterNode | None = None
        self._shown: object = None
        setUpColumns(ui.namesTable, stretched=[FOUND, TRAINED], fitted=[CASES])

    def show(
        self,
        node: DINOMixTrainParameterNode,
        found: list[FoundName],
        wanted: list[str],
        colors: Mapping[str, Color],
        isEnabled: bool,
    ) -> None:
        """Show the names that were found.

        Args:
            found: see ``namesOf``.
            wanted: names of the structures of the model to start from; empty without one.
            colors: of structures of the cohort, 0 to 255.
        """
        self._node = node
        renames = renamesOf(node)
        targets = list(dict.fromkeys([*wanted, *(name.name for name in found), *filter(None, renames.values())]))
        shown = (found, targets, dict(renames), dict(colors), wanted)
        if shown != self._shown:
            self._shown = shown
            self._fill(found, targets, wanted, colors)
        self._ui.namesTable.enabled = isEnabled
        self._ui.namesTable.visible = bool(found)

    def _fill(self, found: list[FoundName], targets: list[str], wanted: list[str], colors: Mapping[str, Color]) -> None:
        table = self._ui.namesTable
        table.rowCount = 0
        table.rowCount = len(found)
        fitHeight(table, 1, 8)
        new = {normalized_name(name): target for name, target in renamesOf(self._node).items()}
        for row, name in enumerate(found):
            target = new.get(normalized_name(name.name), defaultTarget(name.name, wanted))
            setRow(table, row, (name.name, str(name.cases or "")))
            if target in colors:
                table.item(row, FOUND).setIcon(colorIcon(colors[target]))
            table.setCellWidget(row, TRAINED, self._comboBox(name.name, target, targets, wanted))

    def _comboBox(self, name: str, target: str | None, targets: list[str], wanted: list[str]) -> Any:
        left = _("(left out)")
        box = qt.QComboBox()
        box.setFrame(False)
        box.editable = True
        box.addItems([*targets, left])
        box.setInsertPolicy(qt.QComboBox.NoInsert)
        box.currentIndex = len(targets) if target is None else targets.index(target)
        box.toolTip = explanation(target, wanted)

        def onChosen(text: str) -> None:
            self._rename(name, None if text == left else text.strip())

        box.connect("activated(int)", lambda row: onChosen(box.itemText(row)))
        box.lineEdit().connect("editingFinished()", lambda: onChosen(box.currentText))
        return box

    def _rename(self, name: str, target: str | None) -> None:
        renames = {n: t for n, t in renamesOf(self._node).items() if normalized_name(n) != normalized_name(name)}
        if target is None or (target and normalized_name(target) != normalized_name(name)):
            renames[name] = target
        if renames != renamesOf(self._node):
            self._node.renames = json.dumps(renames, ensure_ascii=False) if renames else ""


def namesOf(
    report: CohortReport | None, inScene: Mapping[str, int], renames: Mapping[str, str | None]
) -> list[FoundName]:
    """The names that a check has found, then those of segmentations of the scene that was not checked yet, and those that are
    mapped though no file has them."""
    found = list(report.names) if report is not None else []
    known = {normalized_name(name.name) for name in found}
    for name, cases in (*inScene.items(), *((name, 0) for name in renames)):
        if normalized_name(name) not in known:
            known.add(normalized_name(name))
            found.append(FoundName(name, cases, None))
    return found


def defaultTarget(name: str, wanted: list[str]) -> str:
    """What a structure is called that the user has not mapped: as the model spells it, else as it is."""
    return next((other for other in wanted if normalized_name(other) == normalized_name(name)), name)


def explanation(target: str | None, wanted: list[str]) -> str:
    """What becomes of a structure."""
    if target is None:
        return _("Its voxels become background.")
    if normalized_name(target) in map(normalized_name, wanted):
        return _("The model to start from knows this structure.")
    if wanted:
        return _("The model to start from does not know this structure; it is learned from the beginning.")
    return _("Choose another name to train several names as one structure, or type a new one.")
