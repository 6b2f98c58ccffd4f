"""A table of cases in the order in which to label them, and which of them are open or labeled by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps
from dinomix_slicer.window.tables import fitHeight, selectedRows, setRow, setUpColumns

NAME, SCORE, DETAILS, STATE = 0, 1, 2, 3  # columns
COLUMN_WIDTHS = {SCORE: 100, STATE: 56}  # pixels
LEAST_NAME, MOST_NAME = 60, 170  # pixels
MOST_DETAILS = 3


class Row(Protocol):
    """What a row shows: ``scoreText`` is a figure, ``details`` are texts of which the first few are shown."""

    @property
    def name(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def scoreText(self) -> str: ...
    @property
    def details(self) -> list[str]: ...


class RankingTable:
    """
    Signals:
        chosenChanged(): another case is chosen, or none.
        wantsOpen(): the user wants to open the chosen case.
        filled(): all rows are there.
    """

    def __init__(self, table: Any) -> None:
        self.chosenChanged, self.wantsOpen, self.filled = Signal(), Signal(), Signal()
        self._table = table
        self._ranking: Sequence[Row] = []
        self._steps: Steps | None = None
        setUpColumns(table, stretched=[DETAILS])
        table.textElideMode = qt.Qt.ElideMiddle  # names often differ at their ends
        # Not by their contents: each row that is added would measure all of them again.
        for column, width in COLUMN_WIDTHS.items():
            table.setColumnWidth(column, width)
        table.connect("itemSelectionChanged()", self.chosenChanged.emit)
        table.connect("cellDoubleClicked(int,int)", lambda row, column: self.wantsOpen.emit())

    def show(self, ranking: Sequence[Row], score: str, details: str) -> None:
        """Show these cases in their order, and titles above their figures and details; ``filled`` follows where they are other
        ones."""
        self._table.visible = bool(ranking)
        if ranking is self._ranking:
            return
        self.close()
        self._ranking = ranking
        self._table.setHorizontalHeaderLabels([_("Case"), score, details, _("State")])
        self._table.setColumnHidden(SCORE, not score)
        self._table.rowCount = len(ranking)
        fitHeight(self._table, 3, 9)
        self._fitNames()
        self._steps = Steps(self._stepsOfFilling())
        self._steps.finished.connect(self._onFilled)

    def showStates(self, states: Mapping[str, str]) -> None:
        """Show a case's state beside its name; those that are not named have none."""
        if self._steps is not None:
            return  # ``filled`` comes yet
        for row, case in enumerate(self._ranking):
            item, state = self._table.item(row, STATE), states.get(case.name, "")
            if item.text() != state:
                item.setText(state)

    def chosen(self) -> Any:
        """The case whose row is selected; None without one."""
        rows = selectedRows(self._table)
        return self._ranking[rows[0]] if rows and rows[0] < len(self._ranking) else None

    def close(self) -> None:
        """Fill the table no further."""
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None

    def _fitNames(self) -> None:
        """Make the column as wide as the longest name, as far as the panel has room for it."""
        longest = max((case.name for case in self._ranking), key=len, default="")
        width = self._table.fontMetrics().horizontalAdvance(longest) + 16
        self._table.setColumnWidth(NAME, min(max(width, LEAST_NAME), MOST_NAME))

    def _stepsOfFilling(self) -> Iterator[None]:
        """A row a step, so that thousands of cases do not hold up the window."""
        for row, case in enumerate(self._ranking):
            details = case.details
            texts = (case.name, case.scoreText, ", ".join(details[:MOST_DETAILS]), "")
            setRow(self._table, row, texts, (case.image, *["\n".join(details)] * 3))
            yield

    def _onFilled(self, ignored: object) -> None:
        self._steps = None
        self.filled.emit()
