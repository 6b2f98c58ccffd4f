"""Checking the cases of a study: those of the scene are exported, the engine checks all, and the outcome is remembered."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import write_json
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.scene.case_files import CaseFiles, filesOf
from dinomix_slicer.scene.scene_cohort import SceneCase, sceneCases
from dinomix_slicer.scene.scene_export import SceneExport
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import InBackground, Steps

from .cohort_report import CohortReport
from .cohort_request import CASES, COHORT, RENAMES, SCENE, CohortRequest, SceneChoice, correctedCases, requestOf
from .last_check import LastCheck, readLastCheck, writeLastCheck

if TYPE_CHECKING:
    from .parameter_node import DINOMixTrainParameterNode


class CohortLogic:
    """
    Attributes:
        state: "idle", "exporting", "checking" or "cancelling".
        report: what the last check of the study that is open has found; None before one.

    Signals; of the last three one is emitted, once for each ``check``:
        stateChanged(state)
        progress(stage, step, total, eta): eta in seconds, or None while unknown.
        checked(report): the engine has looked at all cases; the report says whether they are good.
        failed(problem, remedy): the cases could not be checked.
        cancelled(): the report is that of the check before.
    """

    def __init__(self, makeProcess: Callable[[list[str]], EngineProcess] = EngineProcess) -> None:
        self.stateChanged, self.progress = Signal(), Signal()
        self.checked, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self.state = "idle"
        self.report: CohortReport | None = None
        self._makeProcess = makeProcess
        self._folder = ""  # the study that is open
        self._checked: CohortRequest | None = None  # what the report is of
        self._request: CohortRequest | None = None  # what is being checked
        self._found = CohortReport()
        self._process: EngineProcess | None = None
        self._cases: list[tuple[SceneChoice, SceneCase]] = []  # of the scene, in the request
        self._nodes: dict[str, SceneChoice] = {}  # image file -> the nodes that it was exported from
        self._saving: InBackground | None = None
        self._export = SceneExport()
        self._export.progress.connect(self._onExported)
        self._export.finished.connect(self._startEngine)
        self._export.failed.connect(self._fail)
        self._export.cancelled.connect(self._onCancelled)

    def close(self) -> None:
        """End what runs, and wait for that."""
        self._export.cancel()
        if self._process is not None:
            self._process.end()
            self._process = None
        if self._saving is not None:
            with contextlib.suppress(OSError):
                self._saving.result()
        self.state = "idle"

    # -- The study that is open

    def openStudy(self, node: DINOMixTrainParameterNode) -> None:
        """Show what was found when this study was checked last; where nothing is chosen yet, its choices are taken over."""
        if node.studyFolder == self._folder:
            return
        self._folder, self.report, self._checked = node.studyFolder, None, None
        # Perhaps the scene was closed; another one may have nodes of the same IDs.
        self._nodes.clear()
        last = readLastCheck(node.studyFolder) if node.studyFolder else None
        if last is None:
            return
        self.report, asFiles = last.report, last.withFiles()
        if not hasChoices(node):
            adopt(node, asFiles)
        # Also where they were taken over before, in a scene that was saved since.
        isTakenOver = requestOf(node).asJson() == asFiles.asJson()
        self._checked = asFiles if isTakenOver else last.request

    def isUpToDate(self, node: DINOMixTrainParameterNode) -> bool:
        """Whether the report is of the choices as they are now."""
        return self._checked is not None and self._checked.asJson() == requestOf(node).asJson()

    def isReady(self, node: DINOMixTrainParameterNode) -> bool:
        """Whether the study can be trained on as it is chosen."""
        return (
            self.state == "idle"
            and self.report is not None
            and self.report.isGood
            and self.isUpToDate(node)
            and (Path(node.studyFolder) / COHORT).is_file()
        )

    def whyNotTrain(self, node: DINOMixTrainParameterNode) -> str | None:
        """The sentence that says why the study's cohort file is not what is chosen; None where nothing speaks against it."""
        if node.studyFolder != self._folder or self.report is None:
            return None  # perhaps it was checked by the command line
        if self.state != "idle":
            return _("The cases are being checked. Wait until that has ended.")
        if not self.report.isGood:
            return _("The last check found what must be mended first. See the page Cases, and check again.")
        if not self.isUpToDate(node):
            return _("The cases were changed since they were checked. Check them again on the page Cases.")
        return None

    def nodesOf(self, image: str) -> tuple[Any, Any]:
        """The volume and segmentation node that an image file was exported from; None where it was not, or they are gone."""
        choice = self._nodes.get(image, SceneChoice())
        return slicer.mrmlScene.GetNodeByID(choice.volume), slicer.mrmlScene.GetNodeByID(choice.segmentation)

    # -- Check

    def check(self, node: DINOMixTrainParameterNode) -> None:
        """Check the cases that are chosen; one of the signals says how it ended."""
        if self.state != "idle":
            return
        request = requestOf(node)
        if whyNot := request.whyNot():
            self.failed.emit(whyNot, "")
            return
        try:
            makeWritable(request.folder)
            self._cases = casesOfScene(request)
            self._process = self._makeProcess(request.arguments(self._hasList(request)))
        except DinomixError as error:
            self.failed.emit(error.problem, error.remedy)
            return
        self._request, self._found = request, CohortReport()
        self._setState("exporting")
        self._export.start([case for _choice, case in self._cases], request.folder / SCENE, request.leftOutNames)

    def cancel(self) -> None:
        """Give the check up; ``cancelled`` follows within a second."""
        if self.state == "exporting":
            self._export.cancel()
        elif self.state == "checking" and self._process is not None:
            self._setState("cancelling")
            self._process.cancel()

    def isChecking(self, studyFolder: str) -> bool:
        """Whether what runs is a check of that study."""
        return self._request is not None and self._request.studyFolder == studyFolder

    def _hasList(self, request: CohortRequest) -> bool:
        return bool(request.sceneLabeled or request.sceneUnlabeled or request.corrected)

    def _onExported(self, done: int, total: int) -> None:
        if total:
            self.progress.emit(_("copying volumes of the scene"), done, total, None)

    def _startEngine(self, files: list[CaseFiles]) -> None:
        request, process = self._request, self._process
        assert request is not None and process is not None
        self._nodes.update((str(f.image), choice) for (choice, _case), f in zip(self._cases, files, strict=True))
        try:
            if self._hasList(request):
                write_json(request.folder / CASES, listOfCases(request, files))
            if request.renames:
                write_json(request.folder / RENAMES, request.renames)
        except OSError as error:
            self._fail(*notWritable(request.folder, error))
            return
        process.event.connect(self._onEvent)
        process.finished.connect(lambda exitCode: self._onChecked())
        process.failed.connect(self._onEngineFailed)
        process.cancelled.connect(self._onCancelled)
        self._setState("checking")
        process.start()

    def _onEvent(self, event: dict[str, Any]) -> None:
        self._found.take(event)
        if event.get("kind") == "progress":
            self.progress.emit(_("reading the cases"), event["step"], event["total"], event["eta"])

    def _onEngineFailed(self, problem: str, remedy: str) -> None:
        # Where the engine has found what is wrong with the cases, the report says more than its last words.
        if self._found.hasProblems:
            self._onChecked()
        else:
            self._fail(problem, remedy)

    def _onChecked(self) -> None:
        request = self._end()
        self._found.addExcluded(request.excluded, self.report)
        self.report, self._checked, self._folder = self._found, request, request.studyFolder
        exported = {choice.text: case.name for choice, case in self._cases}
        last = LastCheck(request, self.report, exported)
        # On the main thread, waiting for the disk could hold up the window.
        self._saving = InBackground(lambda checkStop: writeLastCheck(last))
        Steps(self._saving.steps())
        self._setState("idle")
        self.checked.emit(self.report)

    def _fail(self, problem: str, remedy: str) -> None:
        self._end()
        self._setState("idle")
        self.failed.emit(problem, remedy)

    def _onCancelled(self) -> None:
        self._end()
        self._setState("idle")
        self.cancelled.emit()

    def _end(self) -> CohortRequest:
        """Nothing runs any more; returns what was being checked."""
        request, self._request, self._process = self._request, None, None
        assert request is not None
        return request

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.stateChanged.emit(state)


def hasChoices(node: DINOMixTrainParameterNode) -> bool:
    """Whether any case is chosen."""
    chosen = (node.labeledFolders, node.unlabeledFolders, node.testFolders, node.sceneLabeled, node.sceneUnlabeled)
    return any(map(len, chosen))


def adopt(node: DINOMixTrainParameterNode, request: CohortRequest) -> None:
    """Make the choices of an earlier check those of the parameter node."""
    with slicer.util.NodeModify(node.parameterNode):
        node.labeledFolders = list(request.labeledFolders)
        node.unlabeledFolders = list(request.unlabeledFolders)
        node.testFolders = list(request.testFolders)
        node.sceneLabeled = [choice.text for choice in request.sceneLabeled]
        node.sceneUnlabeled = [choice.text for choice in request.sceneUnlabeled]
        node.validationCount, node.seed = request.validationCount, request.seed
        node.patientPattern, node.modality = request.patientPattern, request.modality
        node.renames = json.dumps(request.renames) if request.renames else ""
        node.excluded = list(request.excluded)


def makeWritable(folder: Path) -> None:
    """Make a study folder, and see that it can be written. Raises DinomixError when it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DinomixError(*notWritable(folder, error)) from error


def notWritable(folder: Path, error: OSError) -> tuple[str, str]:
    """Problem and remedy where a study folder cannot be written."""
    problem = _("The study folder {folder} cannot be written ({reason}).")
    return (
        problem.format(folder=folder, reason=error.strerror or error),
        _("Choose a folder on a disk with free space that you may write to."),
    )


def casesOfScene(request: CohortRequest) -> list[tuple[SceneChoice, SceneCase]]:
    """The chosen cases that have nodes in the open scene, labeled ones first. Raises DinomixError where a node is gone."""
    choices = [choice for choice in (*request.sceneLabeled, *request.sceneUnlabeled) if not choice.file]
    pairs = []
    for choice in choices:
        volume = slicer.mrmlScene.GetNodeByID(choice.volume)
        segmentation = slicer.mrmlScene.GetNodeByID(choice.segmentation) if choice.segmentation else None
        if volume is None or (choice.segmentation and segmentation is None):
            raise DinomixError(
                _("A volume or segmentation that was chosen is not in the scene any more."),
                _("Look through the cases of the scene and check again."),
            )
        pairs.append((volume, segmentation))
    reserved = [choice.file for choice in (*request.sceneLabeled, *request.sceneUnlabeled) if choice.file]
    return list(zip(choices, sceneCases(pairs, reserved), strict=True))


def listOfCases(request: CohortRequest, exported: list[CaseFiles]) -> list[dict[str, Any]]:
    """The cases beside those of the folders, as the engine reads them: of the scene, and corrected ones."""
    folder = request.folder / SCENE
    earlier = [filesOf(choice.file, folder, hasLabel=True) for choice in request.sceneLabeled if choice.file]
    earlier += [filesOf(choice.file, folder, hasLabel=False) for choice in request.sceneUnlabeled if choice.file]
    corrected = [{**entry, "role": "labeled"} for entry in correctedCases(request.folder)]
    # A case whose label was corrected is unlabeled no more.
    images = {entry["image"] for entry in corrected}
    return corrected + [
        {
            "name": files.name,
            "image": str(files.image),
            "label": None if files.label is None else str(files.label),
            "role": "unlabeled" if files.label is None else "labeled",
        }
        for files in (*exported, *earlier)
        if str(files.image) not in images
    ]
