"""The checked cases: a table of them, what is wrong with the chosen one, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps
from dinomix_slicer.window.appearance import setWrappedText
from dinomix_slicer.window.tables import fitHeight, selectedRows, setRow, setUpColumns, stress

from .cohort_report import ROLES, CheckedCase, CohortReport
from .decisions import ABSENT, NOT_DRAWN

CASE, PART, STATE, IMAGE = 0, 1, 2, 3  # columns
NAME_WIDTH = 150  # pixels
MOST_NOTICES = 6


class CaseTable:
    """
    Signals:
        wantsCase(case): the user wants to see a case.
        wantsExcluded(names, isExcluded): the user wants cases left out, or taken in again.
        wantsDecided(cases, what): the user says of their undecided structures that they are ABSENT or NOT_DRAWN, or, by an
            empty text, takes back what was said of the cases.
        chosenChanged(): other cases are chosen.
    """

    def __init__(self, ui: Any) -> None:
        self.wantsCase, self.wantsExcluded = Signal(), Signal()
        self.wantsDecided, self.chosenChanged = Signal(), Signal()
        self._ui = ui
        self._report: CohortReport | None = None
        self._cases: list[CheckedCase] = []  # of the rows
        self._excluded: list[str] = []
        self._decidedAnew: frozenset[str] = frozenset()
        self._steps: Steps | None = None
        self._isEnabled = True
        table = ui.casesTable
        table.connect("itemSelectionChanged()", self._onSelection)
        table.connect("cellDoubleClicked(int,int)", lambda row, column: self._onShow())
        table.connect("customContextMenuRequested(QPoint)", self._onMenu)
        ui.loadCaseButton.connect("clicked()", self._onShow)
        ui.excludeCaseButton.connect("clicked()", self._onExclude)
        ui.excludeProblemsButton.connect("clicked()", self._onExcludeProblems)
        ui.checkedFilterComboBox.addItems([title for title, _isShown in filters()])
        ui.checkedFilterComboBox.connect("currentIndexChanged(int)", lambda index: self._filter())
        table.horizontalHeader().setResizeContentsPrecision(100)  # rows that columns are fitted to
        setUpColumns(table, stretched=[STATE])
        table.setColumnWidth(CASE, NAME_WIDTH)

    def show(
        self, report: CohortReport | None, excluded: list[str], isEnabled: bool, decidedAnew: frozenset[str]
    ) -> None:
        """Show what a check has found.

        Args:
            excluded: cases that the user wants left out from the next check on.
            decidedAnew: cases of whose labels the user has said something since the check.
        """
        self._isEnabled = isEnabled
        changed, self._decidedAnew = decidedAnew ^ self._decidedAnew, decidedAnew
        if report is not self._report or excluded != self._excluded:
            self._report, self._excluded = report, excluded
            self._fill()
        for row, case in enumerate(self._cases) if changed and not self.isFilling() else ():
            if case.name in changed:
                self._fillRow(row, case)
        self._showChosen()

    def close(self) -> None:
        """Fill the table no further."""
        if self._steps is not None:
            self._steps.cancel()

    @property
    def chosen(self) -> list[CheckedCase]:
        """The cases that are chosen."""
        return [self._cases[row] for row in selectedRows(self._ui.casesTable)]

    def isFilling(self) -> bool:
        """Whether rows are still being added."""
        return self._steps is not None

    # -- The table

    def _fill(self) -> None:
        self.close()
        table, chosen = self._ui.casesTable, {case.name for case in self.chosen}
        self._cases = sorted(self._report.cases.values(), key=self._order) if self._report is not None else []
        table.clearSpans()
        table.clearSelection()
        table.rowCount = len(self._cases)
        fitHeight(table, 3, 9)
        setWrappedText(self._ui.noticesLabel, listOf(self._report.notices) if self._report is not None else "")
        self._steps = Steps(self._stepsOfFilling(chosen))
        self._steps.finished.connect(self._onFilled)

    def _order(self, case: CheckedCase) -> tuple[bool, int, str]:
        """Those with problems first, then by their parts and names."""
        role = ROLES.index(case.role) if case.role in ROLES else len(ROLES)
        return (not case.problems or self._isExcluded(case), role, case.name)

    def _stepsOfFilling(self, chosen: set[str]) -> Iterator[None]:
        """A row a step, so that thousands of cases do not hold up the window."""
        header = self._ui.casesTable.horizontalHeader()
        # Fitted to their contents, columns would be measured anew for each cell.
        for column in (PART, IMAGE):
            header.setSectionResizeMode(column, qt.QHeaderView.Interactive)
        for row, case in enumerate(self._cases):
            self._fillRow(row, case)
            if case.name in chosen:
                cells = qt.QTableWidgetSelectionRange(row, CASE, row, IMAGE)
                self._ui.casesTable.setRangeSelected(cells, True)
            self._filterRow(row, case)
            yield
        for column in (PART, IMAGE):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        self._showCount()

    def _onFilled(self, ignored: object) -> None:
        self._steps = None
        if not self.chosen and self._withProblems():
            self._ui.casesTable.selectRow(0)
        self._onSelection()

    def _fillRow(self, row: int, case: CheckedCase) -> None:
        state = self._stateOf(case)
        texts = (case.name, roleTitle(case.role), state, imageText(case))
        where = "\n".join(filter(None, (case.image, *case.moreImages, case.label)))
        why = [*map(str, case.problems), *case.open.lines(case.size)]
        tips = (where, "", "\n".join([*why, imageText(case)]) if why else state, orientationText(case))
        table = self._ui.casesTable
        setRow(table, row, texts, tips)
        if self._isExcluded(case):
            for column in range(len(texts)):
                table.item(row, column).setForeground(table.palette.brush(qt.QPalette.Disabled, qt.QPalette.Text))
        if not case.size or case.open.summary(case.size):
            # What is wrong, or open, may take the place of what is not known, or said by the tool tip.
            table.setSpan(row, STATE, 1, 2)
        if self._isUndecided(case):
            stress(table, row, STATE)
        table.item(row, CASE).setIcon(self._icon(case))

    def _stateOf(self, case: CheckedCase) -> str:
        if self._isExcluded(case):
            return _("Left out")
        if case.isExcluded:
            return _("Taken in again; check to see its state")
        if case.problems:
            return shortened(case)
        if case.name in self._decidedAnew:
            return _("Decided; check to see its state")
        text = case.open.summary(case.size)
        if case.open.isUndecided or case.open.isHealthy:
            return text[:1].upper() + text[1:]
        return "; ".join(filter(None, (_("Good"), text)))

    def _icon(self, case: CheckedCase) -> Any:
        style = self._ui.casesTable.style()
        if self._isExcluded(case) or case.isExcluded:
            return qt.QIcon()
        if self._isUndecided(case):
            return style.standardIcon(qt.QStyle.SP_MessageBoxQuestion)
        return style.standardIcon(qt.QStyle.SP_MessageBoxWarning if case.problems else qt.QStyle.SP_DialogApplyButton)

    def _isUndecided(self, case: CheckedCase) -> bool:
        """Whether the user has to say what of its label was drawn; a problem comes before that."""
        isDecided = case.problems or case.name in self._decidedAnew or self._isExcluded(case)
        return case.open.isUndecided and not isDecided

    def _isExcluded(self, case: CheckedCase) -> bool:
        return case.name in self._excluded

    # -- Which rows are shown

    def _filter(self) -> None:
        for row, case in enumerate(self._cases):
            self._filterRow(row, case)
        self._showCount()

    def _filterRow(self, row: int, case: CheckedCase) -> None:
        _title, isShown = filters()[self._ui.checkedFilterComboBox.currentIndex]
        self._ui.casesTable.setRowHidden(row, not isShown(case, self._isExcluded(case)))

    def _showCount(self) -> None:
        table = self._ui.casesTable
        shown = sum(not table.isRowHidden(row) for row in range(table.rowCount))
        text = _("{shown} of {all}").format(shown=shown, all=table.rowCount)
        self._ui.checkedCountLabel.text = text if shown < table.rowCount else str(shown) if shown else ""

    # -- What is chosen

    def _showChosen(self) -> None:
        ui, chosen = self._ui, self.chosen
        setWrappedText(ui.caseDetailLabel, detailOf(chosen[0]) if len(chosen) == 1 else "")
        ui.loadCaseButton.enabled = len(chosen) == 1 and bool(chosen[0].image)
        areOut = bool(chosen) and all(map(self._isExcluded, chosen))
        ui.excludeCaseButton.text = _("Take in again") if areOut else _("Leave out")
        ui.excludeCaseButton.enabled = bool(chosen) and self._isEnabled
        problems = self._withProblems()
        ui.excludeProblemsButton.visible = len(problems) > 1
        ui.excludeProblemsButton.enabled = self._isEnabled

    def _withProblems(self) -> list[str]:
        cases = self._report.casesWithProblems() if self._report is not None else []
        return [case.name for case in cases if not self._isExcluded(case)]

    # -- What the user does

    def _onSelection(self) -> None:
        self._showChosen()
        if not self.isFilling():
            self.chosenChanged.emit()

    def _onShow(self) -> None:
        chosen = self.chosen
        if len(chosen) == 1 and chosen[0].image:
            self.wantsCase.emit(chosen[0])

    def _onExclude(self) -> None:
        chosen = self.chosen
        if chosen and self._isEnabled:
            self.wantsExcluded.emit([case.name for case in chosen], not all(map(self._isExcluded, chosen)))

    def _onExcludeProblems(self) -> None:
        self.wantsExcluded.emit(self._withProblems(), True)

    def _onMenu(self, position: Any) -> None:
        ui = self._ui
        menu = qt.QMenu(ui.casesTable)
        for button, slot in ((ui.loadCaseButton, self._onShow), (ui.excludeCaseButton, self._onExclude)):
            action = menu.addAction(button.text)
            action.enabled = button.enabled
            action.connect("triggered()", slot)
        chosen = self.chosen
        menu.addSeparator()
        for text, what, isPossible in (
            (_("Undecided structures are absent"), ABSENT, any(map(self._isUndecided, chosen))),
            (_("Undecided structures were not drawn"), NOT_DRAWN, any(map(self._isUndecided, chosen))),
            (_("Take back what was said of its label"), "", bool(chosen)),
        ):
            action = menu.addAction(text)
            action.enabled = isPossible
            action.connect("triggered()", lambda what=what: self.wantsDecided.emit(chosen, what))
        menu.connect("aboutToHide()", menu.deleteLater)
        menu.popup(ui.casesTable.viewport().mapToGlobal(position))


def filters() -> list[tuple[str, Any]]:
    """What can be shown of the cases: a title, and a function of a case and whether it is left out."""
    return [
        (_("All cases"), lambda case, isOut: True),
        (_("With problems"), lambda case, isOut: bool(case.problems) and not isOut),
        (_("Undecided"), lambda case, isOut: case.open.isUndecided and not isOut),
        *((roleTitle(role), lambda case, isOut, role=role: case.role == role and not isOut) for role in ROLES),
        (_("Left out"), lambda case, isOut: isOut),
    ]


def roleTitle(role: str) -> str:
    """A case's part in the user's language."""
    titles = {
        "labeled": _("Labeled"),
        "validation": _("Validation"),
        "unlabeled": _("Unlabeled"),
        "test": _("Test"),
    }
    return titles.get(role, "")


def imageText(case: CheckedCase) -> str:
    """Size and spacing: "35 x 51 x 35, 1 mm"."""
    if not case.size:
        return ""
    spacing = [f"{value:.3g}" for value in case.spacing]
    times = "\N{MULTIPLICATION SIGN}"
    millimeters = spacing[0] if len(set(spacing)) == 1 else times.join(spacing)
    return _("{size}, {spacing} mm").format(size=times.join(map(str, case.size)), spacing=millimeters)


def orientationText(case: CheckedCase) -> str:
    """Voxels and mm along the file's axes, and where these lead."""
    if not case.size:
        return ""
    return _("Voxels and millimeters along the file's axes ({orientation}). Patient: {patient}.").format(
        orientation=case.orientation, patient=case.patient
    )


def shortened(case: CheckedCase) -> str:
    """What is wrong with a case in the width of a column: without the path of its file, which the sentence begins with."""
    message = case.problems[0].message
    for file in (case.label, case.image):
        if file and message.startswith(file):
            message = message.removeprefix(file).strip()
    return message[:1].upper() + message[1:]


def detailOf(case: CheckedCase) -> str:
    """What is wrong with a case and how to mend it; without problems, what it shows and where it lies."""
    if case.problems:
        return "\n".join(map(str, case.problems))
    voxels = [_("{name} {n} voxels").format(name=name, n=f"{n:,}") for name, n in case.voxels.items()]
    return "\n".join(
        filter(None, (*case.open.lines(case.size), ", ".join(voxels), case.image, *case.moreImages, case.label))
    )


def listOf(sentences: list[str]) -> str:
    """Sentences as a list; only the first few of many."""
    shown = [f"• {sentence}" for sentence in sentences[:MOST_NOTICES]]
    if len(sentences) > MOST_NOTICES:
        shown.append(_("• and {n} more.").format(n=len(sentences) - MOST_NOTICES))
    return "\n".join(shown)
