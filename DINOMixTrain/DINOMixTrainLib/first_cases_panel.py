"""Which unlabeled cases to draw first, on the page "Cases": a button, and a table of the cases that are proposed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix_slicer.signal import Listener, Signal
from dinomix_slicer.window.appearance import setWrappedText
from dinomix_slicer.window.duration import withTimeLeft

from .cohort_report import CheckedCase, CohortReport
from .first_cases_logic import CANCELLING, IDLE, FirstCasesLogic, titles
from .ranking_table import RankingTable

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode


class FirstCasesPanel(Listener):
    """
    Signals:
        wantsCase(case): the user wants to see a case.
    """

    def __init__(self, ui: Any, logic: FirstCasesLogic) -> None:
        super().__init__()
        self.wantsCase = Signal()
        self._ui, self._logic = ui, logic
        self._node: DINOMixTrainParameterNode | None = None
        self._report: CohortReport | None = None
        self._whyNot: str | None = None
        self.table = RankingTable(ui.firstCasesTable)
        ui.findFirstCasesButton.connect("clicked()", self._onButton)
        self.hear(self.table.wantsOpen, self._onOpen)
        self.hear(self.table.filled, self._showStates)
        self.hear(logic.changed, self._showAgain)
        self.hear(logic.progress, self._onProgress)

    def show(self, node: DINOMixTrainParameterNode, report: CohortReport | None, whyNot: str | None) -> None:
        """Show what is so now.

        Args:
            report: of the last check, if it is of the cases as they are chosen now.
            whyNot: why nothing can be computed at all.
        """
        self._node, self._report, self._whyNot = node, report, whyNot
        self._logic.openStudy(node.studyFolder)
        ui, logic = self._ui, self._logic
        ui.firstCasesCollapsibleButton.visible = bool(node.unlabeledFolders) or len(self._unlabeled()) > 1
        ui.findFirstCasesButton.text = _("Propose cases") if logic.state == IDLE else _("Cancel")
        reason = self._whyNotFind()
        ui.findFirstCasesButton.enabled = logic.state != CANCELLING and (logic.state != IDLE or not reason)
        ui.findFirstCasesButton.toolTip = reason or _(
            "Look at every image once, and choose the cases that represent all best."
        )
        if logic.state == IDLE:
            setWrappedText(ui.firstCasesLabel, self._text())
        self.table.show(logic.cases, *titles())
        self._showStates()

    def close(self) -> None:
        """Fill the table no further."""
        self.table.close()
        self.stopHearing()

    def release(self) -> None:
        """The scene is about to be emptied."""
        self._node = None

    def _showAgain(self) -> None:
        if self._node is not None:
            self.show(self._node, self._report, self._whyNot)

    def _unlabeled(self) -> list[CheckedCase]:
        cases = self._report.cases.values() if self._report is not None else ()
        return [case for case in cases if case.role == "unlabeled" and not case.problems and not case.isExcluded]

    def _labeled(self) -> list[CheckedCase]:
        cases = self._report.cases.values() if self._report is not None else ()
        return [case for case in cases if case.role == "labeled" and not case.problems and not case.isExcluded]

    def _whyNotFind(self) -> str | None:
        if self._whyNot or self._node is None:
            return self._whyNot
        if not self._node.studyFolder:
            return _("Choose a study folder first.")
        if not self._unlabeled() and self._node.channels:
            return _("Check the cases first: each has several images.")
        return None

    def _text(self) -> str:
        if not self._logic.cases:
            return _(
                "Before there is a model, any case could be drawn first. Let those be proposed that represent the others best, "
                "by how their images look."
            )
        return _(
            "Draw the first ones, as many as you have time for: each stands for the cases that look like it. "
            "A double click shows a case."
        )

    def _onProgress(self, step: int, total: int, eta: float | None) -> None:
        text = _("Looking at image {step} of {total}").format(step=step, total=total)
        setWrappedText(self._ui.firstCasesLabel, withTimeLeft(text, eta if step < total else None) + ".")

    def _onButton(self) -> None:
        if self._logic.state != IDLE:
            self._logic.cancel()
        elif self._node is not None:
            unlabeled = self._unlabeled()
            cases = [*self._labeled(), *unlabeled] if unlabeled else []
            self._logic.find(self._node.studyFolder, cases, list(self._node.unlabeledFolders))

    def _showStates(self) -> None:
        """Which of them are labeled by now."""
        labeled = {case.image for case in self._labeled()}
        self.table.showStates({case.name: _("labeled") for case in self._logic.cases if case.image in labeled})

    def _onOpen(self) -> None:
        chosen = self.table.chosen()
        if chosen is not None:
            known = {case.image: case for case in (*self._unlabeled(), *self._labeled())}
            self.wantsCase.emit(known.get(chosen.image) or CheckedCase(chosen.name, "unlabeled", chosen.image))
