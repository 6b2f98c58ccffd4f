"""The page "Result": what the training has gained, the model to use or pass on, and the case to label next."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.training.next_case import DEFAULT
from dinomix_slicer.paths import isFolder
from dinomix_slicer.remedies import textOf
from dinomix_slicer.run.state import FINISHED
from dinomix_slicer.signal import telling
from dinomix_slicer.window.appearance import INFO, WARNING, colorIcon, setWrappedText, showLevel
from dinomix_slicer.window.choices import showChoices
from dinomix_slicer.window.duration import withTimeLeft
from dinomix_slicer.window.progress_bar import showPart
from dinomix_slicer.window.tables import fitHeight, setRow, setUpColumns

from .page import Page
from .ranked_case import RankedCase, correctedImages, nodeOfCase, openFiles
from .ranking_table import RankingTable
from .ranking_words import allWords, wordsOf
from .result_logic import ADDING, CANCELLING, COMPARING, EXPORTING, IDLE, OPENING, RANKING
from .study import cohortOf

if TYPE_CHECKING:
    from .logic import DINOMixTrainLogic

PICTURE_WIDTH = 420  # pixels, at least


class ResultPage(Page):
    """Shows the result of the run of the parameter node's ``runPath``."""

    def __init__(self, ui: Any, logic: DINOMixTrainLogic) -> None:
        super().__init__(ui)
        self._logic, self._results, self._runs = logic, logic.results, logic.runs
        self._compared: object = None  # what the comparison shows
        self.ranking = RankingTable(ui.rankingTable)
        setUpColumns(ui.comparisonTable, stretched=[0], fitted=range(1, ui.comparisonTable.columnCount))
        ui.comparisonTable.textElideMode = qt.Qt.ElideMiddle
        self._connect()
        self._showWork()

    def _connect(self) -> None:
        ui, results = self.ui, self._results
        ui.useModelButton.connect("clicked()", self._onUse)
        ui.exportModelButton.connect("clicked()", self._onExport)
        ui.trainOnButton.connect("clicked()", self._onTrainOn)
        ui.cancelResultButton.connect("clicked()", results.cancel)
        ui.compareButton.connect("clicked()", lambda: results.compare(self.node.device))
        ui.comparisonCaseComboBox.connect("currentIndexChanged(int)", lambda row: self._showPicture())
        ui.openPictureButton.connect("clicked()", self._onEnlarge)
        ui.rankButton.connect("clicked()", lambda: results.rank(self.node.device, self.node.rankBy or DEFAULT))
        self.offer(ui.rankByComboBox, "rankBy")
        ui.openCaseButton.connect("clicked()", self._onOpen)
        ui.addCaseButton.connect("clicked()", self._onAdd)
        self.hear(self.ranking.chosenChanged, self._showWork)
        self.hear(self.ranking.wantsOpen, self._onOpen)
        self.hear(self.ranking.filled, self._showStates)
        self.hear(results.changed, self._showResult)
        self.hear(results.progress, self._showProgress)
        self.hear(results.opened, self._onOpened)
        self.hear(results.added, self._onAdded)
        self.hear(results.exported, self._onExported)
        self.hear(results.failed, self.failed.emit)
        self.hear(self._runs.ended, lambda state: self._showResult())

    # -- The window's life

    def show(self) -> None:
        self._results.look(Path(self.node.runPath) if self.node.runPath else None)
        self._showResult()

    def close(self) -> None:
        self.ranking.close()
        super().close()

    # -- What there is

    def _showResult(self) -> None:
        if self.node is None:
            return
        level, text = self._headline()
        showLevel(self.ui.resultFrame, self.ui.resultIconLabel, level)
        setWrappedText(self.ui.resultLabel, text)
        self._showComparison()
        self._showRanking()

    def _headline(self) -> tuple[str, str]:
        """How serious, and in words, what is there of a result."""
        results, state = self._results, self._runs.state
        if results.run is None:
            return INFO, _("No run is shown. Choose one on page 3, or start one on page 2.")
        name = html.escape(results.run.name)
        if not isFolder(results.run):
            return WARNING, _("The folder of the run {name} is gone. Choose another run on page 3.").format(name=name)
        if results.model is None:
            return INFO, _(
                "The run {name} has no model yet. Let it finish, or stop it on page 3: its best model is kept."
            ).format(name=name)
        text = _("<b>The model of the run {name}</b>").format(name=name)
        if state is not None and state.name != FINISHED and self._runs.path == results.run:
            text += "<br>" + _("It is of an earlier end of this run, which goes on; see page 3.")
        elif self._runs.best is not None and self._runs.path == results.run:
            step, dice = self._runs.best
            text += "<br>" + _("Best validation Dice {dice:.3f}, at step {step}.").format(dice=dice, step=f"{step:,}")
        verdict = self._runs.verdict if self._runs.path == results.run else None
        if verdict is None:
            return INFO, text
        text += "<br>" + html.escape(textOf(verdict))
        return WARNING if verdict.get("remedy") else INFO, text

    def _showWork(self) -> None:
        """What runs, and what can be done now."""
        ui, results = self.ui, self._results
        isIdle = results.state == IDLE and self.node is not None
        hasModel = isIdle and results.model is not None
        ui.useModelButton.enabled = results.model is not None
        ui.exportModelButton.enabled = ui.compareButton.enabled = hasModel
        ui.trainOnButton.enabled = results.model is not None
        ui.rankButton.enabled = ui.rankByComboBox.enabled = isIdle and results.canRank
        ui.resultProgressBar.visible = ui.cancelResultButton.visible = results.state != IDLE
        ui.cancelResultButton.enabled = results.state not in (IDLE, CANCELLING)
        if results.state == IDLE:
            showPart(ui.resultProgressBar, 0, 1)
        elif results.state in (OPENING, ADDING, CANCELLING):
            showPart(ui.resultProgressBar, 0, 0)
        ui.resultProgressBar.setFormat(stateTitle(results.state))
        case = self.ranking.chosen()
        isOpen = case is not None and nodeOfCase(case) is not None
        ui.openCaseButton.enabled = isIdle and case is not None
        ui.addCaseButton.enabled = isIdle and isOpen and bool(self.node.studyFolder)
        ui.addCaseButton.toolTip = self._whyNotAdd(case, isOpen)

    def _whyNotAdd(self, case: RankedCase | None, isOpen: bool) -> str:
        if case is None:
            return _("Choose a case in the table first.")
        if not isOpen:
            return _("Open the case first, and correct its labels in the Segment Editor.")
        if self.node is not None and not self.node.studyFolder:
            return _("Choose a study folder on page 1 first.")
        return _("Put the corrected labels into the study folder; the next check counts the case as labeled.")

    def _showProgress(self, step: int, total: int, eta: float | None) -> None:
        showPart(self.ui.resultProgressBar, step, total or 1)
        self.ui.resultProgressBar.setFormat(withTimeLeft(stateTitle(self._results.state), eta))

    # -- Before and after

    def _showComparison(self) -> None:
        ui, results = self.ui, self._results
        comparison = results.comparison
        setWrappedText(ui.comparisonLabel, self._comparisonText())
        parts = (ui.comparisonTable, ui.comparisonCaseLabel, ui.comparisonCaseComboBox, ui.openPictureButton)
        for part in (*parts, ui.comparisonPictureLabel):
            part.visible = comparison is not None
        if comparison is self._compared:
            return
        self._compared = comparison
        cases = comparison["cases"] if comparison is not None else []
        self._fillComparison(comparison)
        box = ui.comparisonCaseComboBox
        box.clear()
        for case in cases:
            box.addItem(case["name"], str(results.run / case["picture"]))
        self._showPicture()

    def _comparisonText(self) -> str:
        results = self._results
        comparison = results.comparison
        if comparison is None:
            return _("Compare to see, on the validation cases, what the training has gained for each structure.")
        if results.isComparisonOld:
            return _("This is of an earlier model of the run. Compare again to see how it is now.")
        count = len(comparison["cases"])
        before = comparison["before"]
        if before is None:
            return _(
                "Dice on {n} validation cases. There is nothing to set beside it: the run started from random weights, or "
                "the model that it started from is not there any more."
            ).format(n=count)
        return _(
            "Dice on {n} validation cases; before: {title}. These cases chose the best weights, so test cases may show a "
            "little less."
        ).format(n=count, title=before.get("title", ""))

    def _fillComparison(self, comparison: dict[str, Any] | None) -> None:
        table = self.ui.comparisonTable
        rows = comparisonRows(comparison) if comparison is not None else []
        cohort = cohortOf(self._results.run) if self._results.run is not None else None
        table.rowCount = len(rows)
        for row, texts in enumerate(rows):
            setRow(table, row, texts)
            for column in range(1, len(texts)):
                table.item(row, column).setTextAlignment(int(qt.Qt.AlignRight | qt.Qt.AlignVCenter))
            if cohort is not None and texts[0] in cohort.colors:
                table.item(row, 0).setIcon(colorIcon(cohort.colors[texts[0]]))
        fitHeight(table, 2, 12)

    def _picture(self) -> str:
        box = self.ui.comparisonCaseComboBox
        return str(box.itemData(box.currentIndex) or "") if box.currentIndex >= 0 else ""

    def _showPicture(self) -> None:
        label, path = self.ui.comparisonPictureLabel, self._picture()
        pixmap = qt.QPixmap(path) if path else qt.QPixmap()
        self.ui.openPictureButton.enabled = not pixmap.isNull()
        if pixmap.isNull():
            label.text = _("The picture is not there. Compare again.") if path else ""
            return
        width = max(self.ui.comparisonTable.width, PICTURE_WIDTH)
        label.setPixmap(pixmap.scaledToWidth(width, qt.Qt.SmoothTransformation))

    def _onEnlarge(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self._picture()))

    # -- Which case to label next

    def _showRanking(self) -> None:
        ui, ranking = self.ui, self._results.ranking
        words = wordsOf(self._results.rankedBy)
        orders = [(each.title, by) for by, each in allWords().items()]
        showChoices(ui.rankByComboBox, orders, self.node.rankBy or DEFAULT)
        ui.openCaseButton.visible = ui.addCaseButton.visible = bool(ranking)
        if ranking:
            how = _("Open one, correct it in the Segment Editor, and add it to the labeled cases.")
            text = f"{words.meaning} {how}"
        elif self._results.canRank:
            text = _("Rank the unlabeled cases to see which to label next.")
        else:
            text = _("Unlabeled cases can be ranked once the run has come to its first checkpoint.")
        setWrappedText(ui.rankingLabel, text)
        self.ranking.show(ranking, words.score, words.details)
        self._showStates()

    def _showStates(self) -> None:
        """Which cases are open, and which are among the labeled ones by now; few are."""
        if self.node is None:
            return
        study, opened = self.node.studyFolder, openFiles()
        added = correctedImages(Path(study)) if study else set()
        states = {}
        for case in self._results.ranking:
            # Mostly none is open, and joining thousands of paths takes long.
            if case.image in added:
                states[case.name] = _("added")
            elif opened and str(case.pseudoLabel) in opened:
                states[case.name] = _("open")
        self.ranking.showStates(states)
        self._showWork()

    def _onOpen(self) -> None:
        case = self.ranking.chosen()
        if case is not None:
            self._results.open(case)

    def _onOpened(self, case: RankedCase) -> None:
        self._showStates()
        self.notice.emit(
            _("Correct the labels of {name} in the Segment Editor; then choose Add to labeled.").format(name=case.name)
        )

    def _onAdd(self) -> None:
        case = self.ranking.chosen()
        if case is not None:
            self._results.add(case, self.node.studyFolder)

    def _onAdded(self, case: RankedCase) -> None:
        self._showStates()
        self.notice.emit(
            _("{name} is among the labeled cases now. Check the cases again on page 1, then train on.").format(
                name=case.name
            )
        )
        self.changed.emit()

    # -- The model

    def _onUse(self) -> None:
        with telling(self.failed):
            self._results.useModel()
            self._logic.offers.refresh()
            if slicer.util.mainWindow() is not None:
                slicer.util.selectModule("DINOMixSegment")
            text = _("DINOMix Segment has chosen the model of the run {name}; segment a volume there.")
            self.notice.emit(text.format(name=self._results.run.name))

    def _onExport(self) -> None:
        name = f"{self._results.run.name}.zip"
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Write the model into this file"), name, _("Zip archives (*.zip)")
        )
        if path:
            self._results.export(Path(path))

    def _onExported(self, path: Path) -> None:
        self.notice.emit(_("The model is in {path}.").format(path=path))

    def _onTrainOn(self) -> None:
        self.node.startModel = str(self._results.model.resolve())
        self.node.runName = ""
        self.wantsPage.emit("training")


def stateTitle(state: str) -> str:
    """What runs, in words."""
    titles = {
        COMPARING: _("Comparing"), RANKING: _("Ranking"), EXPORTING: _("Exporting"), OPENING: _("Opening"),
        ADDING: _("Adding"), CANCELLING: _("Cancelling"),
    }  # fmt: skip
    return titles.get(state, "")


def comparisonRows(comparison: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Structure, Dice before, Dice after and gain as texts, and the means in a last row where there are several."""
    classes = comparison["classes"]
    rows = [(name, dice["before"], dice["after"]) for name, dice in classes.items()]
    # Of those that both models know, where there are two: else a structure that is new would look like a loss.
    compared = [row for row in rows if None not in row[1:]] or rows
    if len(rows) > 1:
        rows.append((_("Mean"), _mean([row[1] for row in compared]), _mean([row[2] for row in compared])))
    return [(name, _dice(before), _dice(after), _gain(before, after)) for name, before, after in rows]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _dice(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _gain(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{after - before:+.3f}"
