"""What a run has brought: its model beside the one it started from, which case to label next, and the model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.models.folders import FOLDERS_SETTING, LAST_MODEL_SETTING, modelFolders
from dinomix_slicer.paths import isFile
from dinomix_slicer.run.process import hasCheckpoint
from dinomix_slicer.run.state import readJson
from dinomix_slicer.signal import Signal, telling
from dinomix_slicer.task import Steps, Task
from dinomix_slicer.worker.command import engineCommand

from .ranked_case import RankedCase, rankedBy, rankedCases, stepsOfAdding, stepsOfOpening
from .study import stamp

IDLE, COMPARING, RANKING, EXPORTING = "idle", "comparing", "ranking", "exporting"
OPENING, ADDING, CANCELLING = "opening", "adding", "cancelling"


class ResultLogic:
    """Does one thing at a time; all of it in the background.

    Attributes:
        state: "idle", "comparing", "ranking", "exporting", "opening", "adding" or "cancelling".
        run: the run directory that is shown; None without one.
        comparison: what ``dinomix compare`` found last, see docs/training_runs.md; None before it.
        ranking: the unlabeled cases, the one to label first at the beginning; empty before ``dinomix rank``.
        rankedBy: the strategy of that order.

    Signals:
        changed(): something of the above is new.
        progress(step, total, eta): of what runs; eta in seconds, or None while unknown.
        opened(case): a ``RankedCase`` is shown, with labels to correct.
        added(case): its corrected labels are in the study folder.
        exported(path): the model is in that file.
        failed(problem, remedy): what was asked for could not be done.
    """

    def __init__(self, makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess) -> None:
        self.changed, self.progress, self.failed = Signal(), Signal(), Signal()
        self.opened, self.added, self.exported = Signal(), Signal(), Signal()
        self.state = IDLE
        self.run: Path | None = None
        self.comparison: dict[str, Any] | None = None
        self.ranking: list[RankedCase] = []
        self.rankedBy = ""
        self._makeProcess = makeProcess
        self._task: Task | None = None  # what runs
        self._read: object = None  # what the files were when they were read
        self._told: list[str] = []  # what failed of single cases

    def close(self) -> None:
        """End what runs, and wait for that."""
        if isinstance(self._task, EngineProcess):
            self._task.end()
        elif self._task is not None:
            self._task.cancel()
        self._task, self.state = None, IDLE

    # -- What there is

    def look(self, run: Path | None) -> None:
        """Read what this run has brought, as far as it is new."""
        if run != self.run and self.state not in (IDLE, CANCELLING):
            self.cancel()
        self.run = run
        files = [run / "comparison" / "comparison.json", run / "ranking" / "ranking.json"] if run is not None else []
        now = (run, [stamp(file) for file in files])
        if now == self._read:
            return
        self._read = now
        comparison, ranking = map(readJson, files) if files else (None, None)
        self.comparison = comparison if comparison is not None and isComparison(comparison) else None
        self.ranking = rankedCases(run, ranking) if run is not None else []
        self.rankedBy = rankedBy(ranking)

    @property
    def model(self) -> Path | None:
        """The run's model folder; None before the run has one."""
        if self.run is None or not isFile(self.run / "model" / "manifest.json"):
            return None
        return self.run / "model"

    @property
    def canRank(self) -> bool:
        """Whether the run has come as far as its first checkpoint."""
        return self.run is not None and hasCheckpoint(self.run)

    @property
    def isComparisonOld(self) -> bool:
        """Whether the model has changed since it was compared."""
        if self.comparison is None or self.model is None:
            return False
        try:
            return bool(self.comparison["after"].get("fingerprint") != sha256(self.model / "manifest.json"))
        except OSError:
            return True

    # -- What takes a while

    def compare(self, device: str) -> None:
        """Segment the validation cases with the run's model and with the one it started from."""
        self._start(COMPARING, ["compare", str(self.run), "--device", device])

    def rank(self, device: str, by: str) -> None:
        """Segment the unlabeled cases, and order them by a strategy; what an earlier call finished is kept."""
        self._start(RANKING, ["rank", str(self.run), "--by", by, "--device", device])

    def export(self, path: Path) -> None:
        """Write the model into a zip file, in place of one that is there."""
        target = path if path.suffix.lower() == ".zip" else path.with_name(path.name + ".zip")
        arguments = ["models", "export", str(self.model), "--out", str(target), "--overwrite"]
        self._start(EXPORTING, arguments, lambda: self.exported.emit(target))

    def open(self, case: RankedCase) -> None:
        """Show a case with the labels that the model gives it, for the user to correct."""
        if self.state == IDLE:
            self._begin(OPENING, Steps(stepsOfOpening(case)), lambda: self.opened.emit(case))

    def add(self, case: RankedCase, studyFolder: str) -> None:
        """Put the corrected labels of a case that is open into the study folder, for the next check."""
        if self.state == IDLE:
            self._begin(ADDING, Steps(stepsOfAdding(case, Path(studyFolder))), lambda: self.added.emit(case))

    def cancel(self) -> None:
        """Give up what runs; ``changed`` follows within a second. What the ranking has finished is kept."""
        if self._task is not None:
            self._setState(CANCELLING)
            self._task.cancel()

    def _start(self, state: str, arguments: list[str], onDone: Callable[[], None] = lambda: None) -> None:
        if self.state != IDLE or self.run is None:
            return
        with telling(self.failed):
            process = self._makeProcess(arguments)
            process.event.connect(self._onEvent)
            self._begin(state, process, onDone)
            process.start()

    def _begin(self, state: str, task: Task, onDone: Callable[[], None]) -> None:
        self._task, self._told = task, []
        task.finished.connect(lambda result: self._end(onDone))
        task.failed.connect(self._onFailed)
        task.cancelled.connect(self._end)
        self._setState(state)

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event.get("kind")
        if kind == "progress":
            self.progress.emit(event["step"], event["total"], event["eta"])
        elif kind == "error" and self.state == RANKING:
            self._told.append(str(event.get("message", "")))

    def _onFailed(self, problem: str, remedy: str) -> None:
        cases = [text for text in self._told if text != problem]
        self._end()
        self.failed.emit(" ".join([problem, *cases[:3]]) if cases else problem, "" if cases else remedy)

    def _end(self, onDone: Callable[[], None] = lambda: None) -> None:
        self._task, self._read = None, None
        self.look(self.run)
        self._setState(IDLE)
        onDone()

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changed.emit()

    # -- The model

    def useModel(self) -> str:
        """Make the run's model one that DINOMix Segment lists, and the one that it has chosen; returns its folder.

        The model stays in the run: what is used is then what was trained and compared, and nothing is copied.

        Raises:
            DinomixError: the run has no model, or the worker runs on another computer.
        """
        try:
            engineCommand()
        except DinomixError as error:
            raise DinomixError(
                _("The worker of DINOMix Segment runs on another computer, which does not have this model."),
                _("Export it, and unpack the file into a model folder of that computer."),
            ) from error
        model = self.model
        if model is None:
            raise DinomixError(_("This run has no model yet."), _("Let it finish, or stop it on page 3."))
        # As the worker names it.
        path = str(model.resolve())
        if path not in modelFolders():
            qt.QSettings().setValue(FOLDERS_SETTING, [*modelFolders(), path])
        qt.QSettings().setValue(LAST_MODEL_SETTING, path)
        if hasattr(slicer.modules, "dinomixsegment"):
            segment = slicer.util.getModuleLogic("DINOMixSegment")
            segment.getParameterNode().modelPath = path
        return path


def isComparison(data: dict[str, Any]) -> bool:
    """Whether a file holds what ``dinomix compare`` writes."""
    cases, classes = data.get("cases"), data.get("classes")
    return (
        isinstance(cases, list)
        and isinstance(classes, dict)
        and isinstance(data.get("after"), dict)
        and all(isinstance(case, dict) and {"name", "picture"} <= set(case) for case in cases)
        and all(isinstance(dice, dict) and {"before", "after"} <= set(dice) for dice in classes.values())
    )
