"""Beginning a run: what it is made of, what it will cost here, and the command line that begins it anywhere."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix.durations import as_duration
from dinomix.errors import DinomixError
from dinomix.files import write_json
from dinomix.names import file_name
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.paths import isFile, isFolder, namesIn
from dinomix_slicer.run.process import startRun
from dinomix_slicer.run.registry import rememberRun
from dinomix_slicer.run.state import readJson
from dinomix_slicer.signal import Signal
from dinomix_slicer.stored_text import jsonIn
from dinomix_slicer.worker.command import engineCommand

from .settings_form import FKD_MODE, METHOD, OPTIONS, PIC_ON, STEPS, TIME
from .study import COHORT, cohortOf, stamp
from .teachers import teacherOptions, whyNotTeacher

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode

ESTIMATES = "estimates.json"
MOST_ESTIMATES = 50
LONGEST_NAME = 60
ENCODER_ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors")


class TrainingLogic:
    """
    Signals:
        estimateChanged(): one has begun, gone on, or ended; see ``estimateOf`` and ``estimating``.
        failed(problem, remedy)
    """

    def __init__(
        self,
        whyNotTrain: Callable[[DINOMixTrainParameterNode], str | None],
        makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess,
    ) -> None:
        """``whyNotTrain``: that of the cases, see ``CohortLogic``."""
        self.estimateChanged, self.failed = Signal(), Signal()
        self._whyNotTrain, self._makeProcess = whyNotTrain, makeProcess
        self._estimating: EngineProcess | None = None
        self._estimated = (Path(), "")  # the study and the key of the estimate that is made
        self._progress: tuple[int, int] = (0, 0)
        self._estimates: dict[str, dict[str, Any]] = {}
        self._estimatesOf: Path | None = None  # the study that they are of

    def close(self) -> None:
        """End what was asked of the engine; runs go on."""
        if self._estimating is not None:
            self._estimating.end()
            self._estimating = None

    # -- A run

    def runName(self, node: DINOMixTrainParameterNode) -> str:
        """The name of the next run: as the user wrote it, else one that is free."""
        if node.runName.strip():
            return node.runName.strip()
        taken = namesIn(runsFolder(node))
        return next(name for number in range(1, 10**6) if (name := f"{node.preset}-{number}") not in taken)

    def options(self, node: DINOMixTrainParameterNode) -> list[str]:
        """The options of ``dinomix train`` for what is chosen, but for ``--out``; only what differs from the preset."""
        settings = settingsOf(node)
        study = Path(node.studyFolder)
        words = ["--cohort", str(cohortFile(node)), "--preset", node.preset]
        if node.startModel:
            words += ["--start", node.startModel]
        if node.keepStructures and isModel(node.startModel):
            words += ["--keep-structures"]
        isDinoMix = METHOD not in settings
        if not isDinoMix:
            words += ["--method", str(settings[METHOD])]
        words += teacherOptions(node.teacher, str(settings.get(FKD_MODE, "auto")), byDefault=isDinoMix)
        if PIC_ON in settings or not isDinoMix:  # with other methods PIC is off unless it is asked for
            words += ["--pic", "on" if settings.get(PIC_ON, True) else "off"]
        if TIME in settings:
            words += ["--time", as_duration(settings[TIME])]
        if STEPS in settings:
            words += ["--steps", str(settings[STEPS])]
        words += ["--seed", str(node.seed), "--device", node.device, "--cache", str(study / "cache")]
        for key, value in settings.items():
            if key not in OPTIONS:
                words += ["--set", f"{key}={written(value)}"]
        return words

    def commandLine(self, node: DINOMixTrainParameterNode, isForMoreGpus: bool) -> str:
        """The same run as a line for a terminal, on this computer or another that sees the same folders."""
        program = ["accelerate", "launch", "-m", "dinomix"] if isForMoreGpus else ["dinomix"]
        run = runsFolder(node) / self.runName(node)
        return quoted([*program, "train", *self.options(node), "--out", str(run)])

    def whyNotStart(self, node: DINOMixTrainParameterNode) -> str | None:
        """The sentence that says why no run can begin now and what to do; None when it can."""
        return self._whyNotCohort(node) or self._whyNotChoices(node) or self._whyNotEngine() or self._whyNotName(node)

    def start(self, node: DINOMixTrainParameterNode) -> Path | None:
        """Begin the run; returns its folder at once, or None after ``failed``."""
        problem = self.whyNotStart(node)
        if problem:
            self.failed.emit(problem, "")
            return None
        run = runsFolder(node) / self.runName(node)
        try:
            startRun(run, self.options(node))
        except DinomixError as error:
            self.failed.emit(error.problem, error.remedy)
            return None
        rememberRun(run)
        return run

    # -- What it will cost

    @property
    def estimating(self) -> tuple[int, int] | None:
        """How far the estimate is, (done, total), 0 while unknown; None where none is being made."""
        return self._progress if self._estimating is not None else None

    def whyNotEstimate(self, node: DINOMixTrainParameterNode) -> str | None:
        """The sentence that says why nothing can be estimated now; None when it can."""
        return self._whyNotCohort(node) or self._whyNotChoices(node) or self._whyNotEngine()

    def estimate(self, node: DINOMixTrainParameterNode) -> None:
        """Let the engine time a few real steps in the background; ``estimateChanged`` follows."""
        problem = self.whyNotEstimate(node)
        if problem:
            self.failed.emit(problem, "")
            return
        self.cancelEstimate()
        self._loadEstimates(node)
        self._estimated, self._progress = (Path(node.studyFolder), self._key(node, node.preset)), (0, 0)
        process = self._estimating = self._makeProcess(["train", *self.options(node), "--estimate"])
        process.event.connect(self._onEstimateEvent)
        process.finished.connect(self._onEstimated)
        process.failed.connect(self._onEstimateFailed)
        process.cancelled.connect(self._onEstimated)
        process.start()
        self.estimateChanged.emit()

    def cancelEstimate(self) -> None:
        """Give it up; nothing is left of it."""
        if self._estimating is not None:
            self._estimating.cancel()

    def estimateOf(self, node: DINOMixTrainParameterNode, preset: str) -> dict[str, Any] | None:
        """What this preset will cost with all else that is chosen; None where it was not estimated so."""
        self._loadEstimates(node)
        return self._estimates.get(self._key(node, preset))

    # -- Inside

    def _whyNotCohort(self, node: DINOMixTrainParameterNode) -> str | None:
        if not node.studyFolder:
            return _("Choose a study folder on the page Cases first.")
        whyNot = self._whyNotTrain(node)
        if whyNot:
            return whyNot
        cohort = cohortOf(node.studyFolder)
        if cohort is None:
            return _("The cases of this study are not checked yet. Check them on the page Cases.")
        if not cohort.counts["unlabeled"] and settingsOf(node).get(METHOD) != "labeled-only":
            return _(
                "There is no unlabeled case to learn from. Add some on the page Cases, and check again; or choose the method "
                "labeled-only."
            )
        return None

    def _whyNotChoices(self, node: DINOMixTrainParameterNode) -> str | None:
        return whyNotFrom(node.startModel) or whyNotTeacher(node.teacher)

    def _whyNotEngine(self) -> str | None:
        try:
            engineCommand()
        except DinomixError as error:
            return str(error)
        return None

    def _whyNotName(self, node: DINOMixTrainParameterNode) -> str | None:
        name = self.runName(node)
        if file_name(name, "run") != name or len(name) > LONGEST_NAME:
            return _("{name} cannot be the name of a folder. Choose letters, digits, spaces and hyphens.").format(
                name=name
            )
        if isFile(runsFolder(node) / name / "config.json"):
            return _("There is a run named {name} already. Choose another name.").format(name=name)
        return None

    def _key(self, node: DINOMixTrainParameterNode, preset: str) -> str:
        """All that an estimate depends on."""
        words = self.options(node)
        words[words.index("--preset") + 1] = preset
        return json.dumps([words, stamp(cohortFile(node))])

    def _loadEstimates(self, node: DINOMixTrainParameterNode) -> None:
        study = Path(node.studyFolder)
        if study != self._estimatesOf:
            self._estimatesOf = study
            self._estimates = readJson(study / ESTIMATES) or {}

    def _onEstimateEvent(self, event: dict[str, Any]) -> None:
        if event.get("kind") == "progress":
            self._progress = (int(event.get("step", 0)), int(event.get("total", 0)))
        elif event.get("kind") == "estimate":
            self._keepEstimate(event)
        self.estimateChanged.emit()

    def _keepEstimate(self, event: dict[str, Any]) -> None:
        study, key = self._estimated
        estimates = dict(list({**(readJson(study / ESTIMATES) or {}), key: event}.items())[-MOST_ESTIMATES:])
        if study == self._estimatesOf:
            self._estimates = estimates
        try:
            write_json(study / ESTIMATES, estimates)
        except OSError as error:
            self.failed.emit(_("The estimate could not be kept ({reason}).").format(reason=error.strerror), "")

    def _onEstimated(self, *ignored: object) -> None:
        self._estimating = None
        self.estimateChanged.emit()

    def _onEstimateFailed(self, problem: str, remedy: str) -> None:
        self._estimating = None
        self.estimateChanged.emit()
        self.failed.emit(problem, remedy)


def isEncoder(start: str) -> bool:
    """Whether what a run starts from is a file of an encoder's weights, rather than a model folder."""
    return Path(start).suffix in ENCODER_ENDINGS and not isFolder(Path(start))


def isModel(start: str) -> bool:
    """Whether what a run starts from is a model folder."""
    return bool(start) and not isEncoder(start)


def whyNotFrom(start: str) -> str | None:
    """The sentence that says why a run cannot start from this model or encoder, empty for none; None when it can."""
    path = Path(start)
    if start and isEncoder(start):
        if not isFile(path):
            return _("The file {path} is gone. Choose another, or start from scratch.").format(path=path)
    elif start and not isFolder(path):
        return _("The model folder {path} is gone. Choose another, or start from scratch.").format(path=path)
    return None


def cohortFile(node: DINOMixTrainParameterNode) -> Path:
    return Path(node.studyFolder) / COHORT


def runsFolder(node: DINOMixTrainParameterNode) -> Path:
    return Path(node.studyFolder) / "runs"


def settingsOf(node: DINOMixTrainParameterNode) -> dict[str, Any]:
    """The advanced settings that differ from the preset; none where the text is damaged."""
    return jsonIn(node.settings, dict)


def written(value: Any) -> str:
    """A setting's value as ``--set`` takes it: plain where that can be read as it is meant."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(number, int) for number in value):
        return ",".join(map(str, value))
    return json.dumps(value)


def quoted(words: list[str]) -> str:
    """Words as a line for this system's terminal."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
