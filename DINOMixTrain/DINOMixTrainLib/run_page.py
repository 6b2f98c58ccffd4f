"""Page 3: a run as it trains. It is followed, not owned: it goes on when the window goes."""

from __future__ import annotations

import html
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.run.curves import LOSS_COLORS, CurvePlot, groups
from dinomix_slicer.run.registry import knownRuns
from dinomix_slicer.run.state import FAILED, FINISHED, LOST, NEW, PAUSED, RUNNING, RunState, quickState
from dinomix_slicer.timer import timer
from dinomix_slicer.window.appearance import ERROR, INFO, WARNING, legendAsHtml, setWrappedText, showLevel
from dinomix_slicer.window.choices import showChoices
from dinomix_slicer.window.duration import withTimeLeft
from dinomix_slicer.window.progress_bar import showPart

from .page import Page
from .snapshot_view import SnapshotView
from .study import cohortOf

if TYPE_CHECKING:
    from .logic import DINOMixTrainLogic

REFRESH_MILLISECONDS = 1000
IMPATIENCE = 20.0
"""Seconds without an answer after which the process may be ended."""
SHOW_SETTING = "DINOMix/ShowValidationCase"
LEVELS = {NEW: INFO, RUNNING: INFO, FINISHED: INFO, PAUSED: WARNING, LOST: WARNING, FAILED: ERROR}


class RunPage(Page):
    """Shows the run of the parameter node's ``runPath``."""

    def __init__(self, ui: Any, logic: DINOMixTrainLogic) -> None:
        super().__init__(ui)
        self._runs = logic.runs
        self._groups = groups()
        self._plot = CurvePlot(ui.curvesPlotWidget)
        self._snapshots = SnapshotView()
        self._listed: list[tuple[Path, RunState | None]] = []
        self._listedFor: tuple[str, Path | None] | None = None
        self._staleCurves = True
        self._log: list[str] = []
        for group in self._groups:
            ui.curvesComboBox.addItem(group.title, group.name)
        ui.snapshotCheckBox.checked = str(qt.QSettings().value(SHOW_SETTING) or "") == "true"
        self._timer = timer(REFRESH_MILLISECONDS, self._onTimer)
        self._connect()
        self._showRun()

    def _connect(self) -> None:
        ui, runs = self.ui, self._runs
        self.offer(ui.runComboBox, "runPath")
        ui.openRunButton.connect("clicked()", self._onOpen)
        ui.pauseButton.connect("clicked()", runs.pause)
        ui.stopButton.connect("clicked()", self._onStop)
        ui.resumeButton.connect("clicked()", runs.resume)
        ui.endButton.connect("clicked()", runs.end)
        ui.curvesComboBox.connect("currentIndexChanged(int)", lambda row: self._showCurves())
        ui.snapshotCheckBox.connect("toggled(bool)", self._onShowSnapshot)
        ui.logCollapsibleButton.connect("contentsCollapsed(bool)", lambda isCollapsed: self._showLog())
        ui.openFolderButton.connect("clicked()", self._onOpenFolder)
        self.hear(runs.changed, self._showRun)
        self.hear(runs.curvesChanged, self._onCurvesChanged)
        self.hear(runs.snapshotChanged, self._onSnapshot)
        self.hear(runs.ended, self._onEnded)
        self.hear(runs.failed, self.failed.emit)
        self.hear(self._snapshots.shown, self._onShown)
        self.hear(self._snapshots.failed, self._onNotShown)

    # -- The window's life

    def enter(self) -> None:
        self._listedFor = None
        self._listRuns()
        self._chooseObvious()
        self._timer.start()

    def show(self) -> None:
        path = Path(self.node.runPath) if self.node.runPath else None
        if path != self._runs.path:
            self._runs.follow(path)
            self._snapshots.stop()
            setWrappedText(self.ui.snapshotLabel, "")
        self._listRuns()
        if self._staleCurves:
            self._showCurves()
        self._showRun()

    def release(self) -> None:
        """The scene is about to be emptied."""
        self._snapshots.release()
        self._plot.release()
        self._staleCurves = True

    def close(self) -> None:
        self._timer.stop()
        self._snapshots.stop()
        self._plot.release()
        super().close()

    # -- Which run

    def _listRuns(self) -> None:
        """List them again where others may be there; each look at a run reads some of its files."""
        if not self.isEntered or self.node is None:
            return
        isFor = (self.node.studyFolder, self._runs.path)
        if isFor == self._listedFor:
            return
        self._listedFor = isFor
        current = self._runs.path
        runs = knownRuns(self.node.studyFolder)
        if current is not None and current not in runs:
            runs.insert(0, current)
        self._listed = [(run, self._runs.state if run == current else quickState(run)) for run in runs]
        entries = [(entryText(run, state), str(run)) for run, state in self._listed]
        showChoices(self.ui.runComboBox, entries, str(current))
        self.ui.runComboBox.enabled = bool(entries)

    def _chooseObvious(self) -> None:
        """A run that trains, else the newest, unless the user has chosen another."""
        node = self.node
        if node is None or node.runPath or not self._listed:
            return
        running = [run for run, state in self._listed if state is not None and state.name in (NEW, RUNNING)]
        node.runPath = str(running[0] if running else self._listed[0][0])

    def _onOpen(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Choose the folder of a run"), self.node.studyFolder
        )
        if folder and self._runs.open(Path(folder)):
            self.node.runPath = folder

    # -- What it does

    def _onTimer(self) -> None:
        if not self.isEntered:
            self._timer.stop()
            return
        if self._staleCurves:
            self._showCurves()
        self._showRun()
        self._showLog()

    def _showRun(self) -> None:
        ui, state = self.ui, self._runs.state
        level = LEVELS[state.name] if state is not None else INFO
        if state is not None and state.name == RUNNING and state.reason:
            level = WARNING
        showLevel(ui.stateFrame, ui.stateIconLabel, level)
        setWrappedText(ui.stateLabel, self._sentences(state))
        self._showBar(state)
        self._showEntry(state)
        isActive = state is not None and state.name == RUNNING
        isAsked = bool(self._runs.request)
        ui.pauseButton.enabled = isActive and not isAsked
        ui.stopButton.enabled = self._runs.canStop
        ui.resumeButton.enabled = state is not None and state.canResume
        stands = isActive and bool(state.reason)
        ui.endButton.visible = isActive and state.isHere and (self._runs.waitingSeconds > IMPATIENCE or stands)
        ui.openFolderButton.enabled = state is not None

    def _showEntry(self, state: RunState | None) -> None:
        """The state in the list of runs."""
        box, run = self.ui.runComboBox, self._runs.path
        row = box.findData(str(run)) if run is not None else -1
        if row >= 0 and box.itemText(row) != entryText(run, state):
            box.setItemText(row, entryText(run, state))

    def _showBar(self, state: RunState | None) -> None:
        follower = self._runs.follower
        done, total = 0, 1  # of 0 in all, it is not known how far it is
        if state is not None and follower is not None:
            progress = follower.progress or {}
            if state.name == FINISHED:
                done = 1
            elif state.name == NEW or (state.name == RUNNING and not progress.get("total")):
                total = 0
            elif state.name == RUNNING and progress.get("stage") != "train":
                done, total = progress.get("step", 0), progress["total"]
            elif follower.steps:
                done, total = follower.step, follower.steps
        showPart(self.ui.runProgressBar, done, total)

    def _sentences(self, state: RunState | None) -> str:
        if state is None:
            return _("No run is shown. Start one on the page Training, or open one.")
        lines = [f"<b>{html.escape(self._headline(state))}</b>"]
        if state.reason:
            lines.append(html.escape(f"{state.reason} {state.remedy}".strip()))
        if self._runs.request == "pause" and state.name == RUNNING:
            lines.append(html.escape(_("It is asked to pause and does so after this step.")))
        elif self._runs.request == "stop" and state.name == RUNNING:
            lines.append(html.escape(_("It is asked to stop and writes its best model after this step.")))
        facts = self._facts(state)
        if facts:
            lines.append(html.escape(facts))
        return "<br>".join(lines)

    def _headline(self, state: RunState) -> str:
        follower = self._runs.follower
        step, steps = f"{follower.step:,}", f"{follower.steps:,}"
        if state.name == NEW:
            return _("Starting. This takes half a minute.")
        if state.name == RUNNING:
            return self._progressText()
        if state.name == FINISHED:
            return _("Finished at step {step}.").format(step=step)
        texts = {
            PAUSED: _("Paused at step {step} of {steps}."),
            FAILED: _("Failed at step {step} of {steps}."),
            LOST: _("Interrupted at step {step} of {steps}."),
        }
        return texts[state.name].format(step=step, steps=steps) if follower.steps else stateName(state)

    def _progressText(self) -> str:
        follower = self._runs.follower
        progress = follower.progress
        if progress is None:
            return _("Running.")
        if progress.get("stage") == "train":
            text = _("Training: step {step} of {steps}").format(step=f"{follower.step:,}", steps=f"{follower.steps:,}")
        else:
            stage = str(progress.get("stage", ""))
            text = _("{stage}: {step} of {total}").format(
                stage=stage[:1].upper() + stage[1:], step=progress.get("step", 0), total=progress.get("total", 0)
            )
        return f"{withTimeLeft(text, left(progress))}."

    def _facts(self, state: RunState) -> str:
        """The best validation, where it trains, and what it takes of the disk while cases are prepared."""
        parts = []
        if self._runs.best is not None:
            step, dice = self._runs.best
            parts.append(_("Best validation Dice {dice:.3f} at step {step}.").format(dice=dice, step=f"{step:,}"))
        started, disk = self._runs.started, self._runs.disk
        if started is not None and state.name == RUNNING:
            parts.append(
                _("It trains on {device} of {host}.").format(device=started.get("device"), host=started.get("host"))
            )
        if disk is not None and state.name == RUNNING:
            parts.append(
                _("The prepared cases will take {size:.1f} GB of the disk of {path}; {free:.1f} GB are free.").format(
                    size=(disk["cases"] + disk["features"]) / 1e9, path=disk["path"], free=disk["free"] / 1e9
                )
            )
        return " ".join(parts)

    def _onStop(self) -> None:
        question = _(
            "Stop this run for good?\n\nIts best model by now becomes the result. To go on later, pause it instead."
        )
        if slicer.util.confirmYesNoDisplay(question):
            self._runs.stop()

    def _onEnded(self, state: RunState) -> None:
        """A message, since the user may be at another page or module by now."""
        name = self._runs.path.name
        if state.name == FINISHED:
            text = _("The run {name} has finished: see its result on page 4.").format(name=name)
            if self._runs.best is not None:
                text = _(
                    "The run {name} has finished with a validation Dice of {dice:.3f}: see its result on page 4."
                ).format(name=name, dice=self._runs.best[1])
            self.notice.emit(text)
        elif state.name == PAUSED:
            text = _("The run {name} is paused. {reason}").format(name=name, reason=state.reason)
            self.notice.emit(text)
        else:
            text = _("The run {name} has ended. {reason}").format(name=name, reason=state.reason)
            self.failed.emit(text, state.remedy)
        slicer.util.showStatusMessage(text, 10000)
        self.changed.emit()

    # -- Curves

    def _onCurvesChanged(self, names: set[str]) -> None:
        if self.ui.curvesComboBox.itemData(self.ui.curvesComboBox.currentIndex) in names:
            self._staleCurves = True

    def _showCurves(self) -> None:
        self._staleCurves = False
        if self.node is None:
            return
        group = self._groups[max(self.ui.curvesComboBox.currentIndex, 0)]
        cohort = cohortOf(self._runs.path) if self._runs.path is not None else None
        colors = {
            name: tuple(part / 255 for part in color) for name, color in (cohort.colors if cohort else {}).items()
        }
        colors.update({**LOSS_COLORS, _("mean"): LOSS_COLORS["total"]})
        self._plot.show(group, self._runs.curves.curves[group.name], colors)
        setWrappedText(self.ui.legendLabel, legendAsHtml(self._plot.legend))

    # -- The validation case

    def _onShowSnapshot(self, isOn: bool) -> None:
        qt.QSettings().setValue(SHOW_SETTING, "true" if isOn else "false")
        if not isOn:
            self._snapshots.stop()
        elif self._runs.snapshot is not None:
            self._onSnapshot(self._runs.snapshot)
        else:
            setWrappedText(self.ui.snapshotLabel, _("The first segmentation comes with the first validation."))

    def _onSnapshot(self, event: dict[str, Any]) -> None:
        if self.ui.snapshotCheckBox.checked and self.isEntered and self._runs.path is not None:
            self._snapshots.show(self._runs.path, event)

    def _onShown(self, case: str, step: int) -> None:
        mean = (self._runs.snapshot or {}).get("mean")
        text = _("{case} at step {step}").format(case=case, step=f"{step:,}")
        if mean is not None:
            text = _("{what}: Dice {dice:.3f}").format(what=text, dice=mean)
        setWrappedText(self.ui.snapshotLabel, text)

    def _onNotShown(self, problem: str, remedy: str) -> None:
        setWrappedText(self.ui.snapshotLabel, f"{problem} {remedy}".strip())

    # -- The log

    def _showLog(self) -> None:
        if self.ui.logCollapsibleButton.collapsed:
            return
        lines = self._runs.logLines()
        if lines != self._log:
            self._log = lines
            self.ui.runLogText.setPlainText("\n".join(lines))
            bar = self.ui.runLogText.verticalScrollBar()
            bar.setValue(bar.maximum)

    def _onOpenFolder(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._runs.path)))


def entryText(run: Path, state: RunState | None) -> str:
    """A run in the list of runs."""
    return _("{name}: {state}").format(name=run.name, state=stateName(state))


def stateName(state: RunState | None) -> str:
    """A state in one or two words, for the list of runs."""
    names = {
        NEW: _("starting"), RUNNING: _("running"), PAUSED: _("paused"), FAILED: _("failed"), FINISHED: _("finished"),
        LOST: _("interrupted"),
    }  # fmt: skip
    return names[state.name] if state is not None else _("not found")


def left(progress: dict[str, Any]) -> float | None:
    """Seconds that a ``progress`` event leaves; None while unknown."""
    eta = progress.get("eta")
    if not isinstance(eta, float | int):
        return None
    since = time.time() - float(progress.get("time", 0))
    # Another computer's clock may be anywhere.
    return max(eta - since, 0.0) if 0 <= since < 600 else float(eta)
