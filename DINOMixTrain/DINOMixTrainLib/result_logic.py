"""What a run has brought: its model beside the one it started from, which case to label next, and the model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.run.process import hasCheckpoint
from dinomix_slicer.run.state import readJson
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps
from dinomix_slicer.worker.owner import FOLDERS_SETTING

from .ranked_case import RankedCase, correctedImages, nodeOfCase, openFiles, rankedCases, stepsOfAdding, stepsOfOpening

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

LAST_MODEL_SETTING = "DINOMix/LastModel"
IDLE, COMPARING, RANKING, EXPORTING = "idle", "comparing", "ranking", "exporting"
OPENING, ADDING, CANCELLING = "opening", "adding", "cancelling"


class ResultLogic:
    """Does one thing at a time; all of it in the background.

    Attributes:
        state: "idle", "comparing", "ranking", "exporting", "opening", "adding" or "cancelling".
        run: the run directory that is shown; None without one.
        comparison: what ``dinomix compare`` found last, see docs/training_runs.md; None before it.
        ranking: the unlabeled cases, the most disputed first; empty before ``dinomix rank``.

    Signals:
        changed(): something of the above is new.
        progress(step, total, eta): of what runs; eta in seconds, or None while unknown.
        opened(case, segmentation): a ``RankedCase`` is shown, with labels to correct.
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
        self._makeProcess = makeProcess
        self._process: EngineProcess | None = None
        self._steps: Steps | None = None
        self._read: object = None  # what the files were when they were read
        self._told: list[str] = []  # what failed of single cases

    def cleanup(self) -> None:
        """End what runs, and wait for that."""
        if self._process is not None:
            self._process.end()
            self._process = None
        self._stopSteps()
        self.state = IDLE

    # -- What there is

    def show(self, run: Path | None) -> None:
        """Read what this run has brought, as far as it is new."""
        if run != self.run and self.state not in (IDLE, CANCELLING):
            self.cancel()
        self.run = run
        files = [run / "comparison" / "comparison.json", run / "ranking" / "ranking.json"] if run is not None else []
        now = (run, [_time(file) for file in files])
        if now == self._read:
            return
        self._read = now
        self.comparison = readJson(files[0]) if run is not None else None
        if self.comparison is not None and not isComparison(self.comparison):
            self.comparison = None
        self.ranking = rankedCases(run, readJson(files[1])) if run is not None else []
        self.changed.emit()

    @property
    def model(self) -> Path | None:
        """The run's model folder; None before the run has one."""
        if self.run is None or not (self.run / "model" / "manifest.json").is_file():
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

    def labeledCases(self, studyFolder: str) -> list[str]:
        """Names of the ranked cases whose corrected labels lie in the study folder."""
        images = correctedImages(Path(studyFolder)) if studyFolder else set()
        return [case.name for case in self.ranking if case.image in images]

    def openCases(self) -> list[str]:
        """Names of the ranked cases whose labels are in the scene to be corrected."""
        files = openFiles()
        # Mostly none is open, and joining thousands of paths takes long.
        return [case.name for case in self.ranking if str(case.pseudoLabel) in files] if files else []

    # -- What the engine does

    def compare(self, device: str) -> None:
        """Segment the validation cases with the run's model and with the one it started from."""
        self._start(COMPARING, ["compare", str(self.run), "--device", device])

    def rank(self, device: str) -> None:
        """Segment the unlabeled cases by teacher and student; what an earlier call finished is kept."""
        self._start(RANKING, ["rank", str(self.run), "--device", device])

    def export(self, path: Path) -> None:
        """Write the model into a zip file, in place of one that is there."""
        target = path if path.suffix.lower() == ".zip" else path.with_name(path.name + ".zip")
        self._start(EXPORTING, ["models", "export", str(self.model), "--out", str(target), "--overwrite"], target)

    def cancel(self) -> None:
        """Give up what runs; ``changed`` follows within a second. What the ranking has finished is kept."""
        if self._process is not None and self.state in (COMPARING, RANKING, EXPORTING):
            self._setState(CANCELLING)
            self._process.cancel()
        elif self.state in (OPENING, ADDING):
            self._stopSteps()
            self._setState(IDLE)

    def _start(self, state: str, arguments: list[str], target: Path | None = None) -> None:
        if self.state != IDLE or self.run is None:
            return
        try:
            process = self._makeProcess(arguments)
        except DinomixError as error:
            self.failed.emit(error.problem, error.remedy)
            return
        self._process, self._told = process, []
        process.event.connect(self._onEvent)
        process.finished.connect(lambda exitCode: self._onFinished(target))
        process.failed.connect(self._onFailed)
        process.cancelled.connect(self._onCancelled)
        self._setState(state)
        process.start()

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event.get("kind")
        if kind == "progress":
            self.progress.emit(event["step"], event["total"], event["eta"])
        elif kind == "error" and self.state == RANKING:
            self._told.append(str(event.get("message", "")))

    def _onFinished(self, target: Path | None) -> None:
        self._end()
        if target is not None:
            self.exported.emit(target)

    def _onFailed(self, problem: str, remedy: str) -> None:
        cases = [text for text in self._told if text != problem]
        self._end()
        self.failed.emit(" ".join([problem, *cases[:3]]) if cases else problem, "" if cases else remedy)

    def _onCancelled(self) -> None:
        self._end()

    def _end(self) -> None:
        self._process, self._read = None, None
        self._setState(IDLE)
        self.show(self.run)

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changed.emit()

    # -- The model

    def useModel(self) -> str:
        """Make the run's model one that DINOMix Segment lists, and the one that it has chosen; returns its folder.

        The model stays in the run: what is used is then what was trained and compared, and nothing is copied.

        Raises:
            DinomixError: the run has no model.
        """
        model = self.model
        if model is None:
            raise DinomixError(_("This run has no model yet."), _("Let it finish, or stop it on page 3."))
        # As the worker names it.
        path = str(model.resolve())
        settings = qt.QSettings()
        value = settings.value(FOLDERS_SETTING)
        folders = [value] if isinstance(value, str) and value else list(value or ())
        if path not in folders:
            settings.setValue(FOLDERS_SETTING, [*folders, path])
        settings.setValue(LAST_MODEL_SETTING, path)
        if hasattr(slicer.modules, "dinomixsegment"):
            segment = slicer.util.getModuleLogic("DINOMixSegment")
            segment.getParameterNode().modelPath = path
        return path

    # -- A case to label

    def open(self, case: RankedCase) -> None:
        """Show a case with the labels that the model gives it, for the user to correct."""
        shown: list[vtkMRMLSegmentationNode] = []
        self._do(OPENING, stepsOfOpening(case, shown), lambda: self.opened.emit(case, shown[0]))

    def add(self, case: RankedCase, studyFolder: str) -> None:
        """Put the corrected labels of a case that is open into the study folder, for the next check."""
        self._do(ADDING, stepsOfAdding(case, Path(studyFolder)), lambda: self.added.emit(case))

    def segmentationOf(self, case: RankedCase) -> vtkMRMLSegmentationNode | None:
        """The labels that are being corrected; None where the case is not open."""
        return nodeOfCase(case)

    def _do(self, state: str, steps: Any, onDone: Callable[[], None]) -> None:
        if self.state != IDLE:
            return

        def end(ignored: object) -> None:
            self._steps = None
            self._setState(IDLE)
            onDone()

        def fail(problem: str, remedy: str) -> None:
            self._steps = None
            self._setState(IDLE)
            self.failed.emit(problem, remedy)

        self._setState(state)
        self._steps = Steps(steps)
        self._steps.finished.connect(end)
        self._steps.failed.connect(fail)

    def _stopSteps(self) -> None:
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None


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


def _time(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
