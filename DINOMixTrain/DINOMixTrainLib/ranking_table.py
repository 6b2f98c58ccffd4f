"""The table of the ranked cases: the most disputed first, and which of them are open or labeled by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import qt

from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps
from dinomix_slicer.window.tables import fitHeight, selectedRows, setRow, setUpColumns

from .ranked_case import RankedCase

NAME, DISAGREEMENT, DISPUTED, STATE = 0, 1, 2, 3  # columns
COLUMN_WIDTHS = {DISAGREEMENT: 100, STATE: 56}  # pixels
LEAST_NAME, MOST_NAME = 60, 170  # pixels
MOST_DISPUTED = 3


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
        self._ranking: list[RankedCase] = []
        self._steps: Steps | None = None
        setUpColumns(table, stretched=[DISPUTED])
        table.textElideMode = qt.Qt.ElideMiddle  # names often differ at their ends
        # Not by their contents: each row that is added would measure all of them again.
        for column, width in COLUMN_WIDTHS.items():
            table.setColumnWidth(column, width)
        table.connect("itemSelectionChanged()", self.chosenChanged.emit)
        table.connect("cellDoubleClicked(int,int)", lambda row, column: self.wantsOpen.emit())

    def show(self, ranking: list[RankedCase]) -> None:
        """Show these cases in their order; ``filled`` follows where they are other ones."""
        self._table.visible = bool(ranking)
        if ranking is self._ranking:
            return
        self.close()
        self._ranking = ranking
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

    def chosen(self) -> RankedCase | None:
        """The case whose row is selected."""
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
            disputed = [f"{name} {value:.2f}" for name, value in case.classes.items() if value is not None]
            texts = (case.name, f"{case.disagreement:.3f}", ", ".join(disputed[:MOST_DISPUTED]), "")
            setRow(self._table, row, texts, (case.image, *["\n".join(disputed)] * 3))
            yield

    def _onFilled(self, ignored: object) -> None:
        self._steps = None
        self.filled.emit()
