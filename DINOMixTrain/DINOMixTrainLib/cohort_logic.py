"""Checking the cases of a study: those of the scene are exported, the engine checks all, and the outcome is remembered."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import write_json
from dinomix_slicer.engine_process import EngineProcess
from dinomix_slicer.paths import isFile
from dinomix_slicer.scene.case_files import CaseFiles, filesOf
from dinomix_slicer.scene.scene_cohort import SceneCase, sceneCases
from dinomix_slicer.scene.scene_export import SceneExport
from dinomix_slicer.signal import Signal, telling
from dinomix_slicer.task import InBackground, Steps

from .cohort_report import CohortReport
from .cohort_request import CohortRequest, SceneChoice, channelsOfText, correctedCases, renamesOf, requestOf
from .decisions import Decisions
from .last_check import readLastCheck, writeLastCheck
from .study import CASES, COHORT, RENAMES, SCENE, cohortOf

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
        self._task: Steps | None = None  # the check that runs
        self._nodes: dict[str, SceneChoice] = {}  # image file -> the nodes that it was exported from
        self._saving: InBackground | None = None
        self._export = SceneExport()

    def close(self) -> None:
        """End what runs, and wait for that."""
        if self._process is not None:
            self._process.end()
        if self._task is not None:
            self._task.cancel()
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
        request, self.report, exported = last
        asFiles = request.withFiles(exported)
        if not hasChoices(node):
            asFiles.choose(node)
        # Also where they were taken over before, in a scene that was saved since.
        self._checked = asFiles if asFiles.isLike(requestOf(node)) else request

    def isUpToDate(self, node: DINOMixTrainParameterNode) -> bool:
        """Whether the report is of the choices as they are now, and of the scene's nodes."""
        checked = self._checked
        return checked is not None and checked.isLike(requestOf(node)) and not self._hasChanged(checked)

    def _hasChanged(self, request: CohortRequest) -> bool:
        """Whether nodes are others than when they were copied; not known of a scene that was opened since."""
        try:
            cases = casesOfScene(request)
        except DinomixError:
            return False
        return any(self._export.hasChanged(case, request.folder / SCENE, leftOutOf(request)) for _choice, case in cases)

    def checkedDecisions(self) -> str:
        """What was said of the labels when they were checked, as ``Decisions.text`` has it.

        As text: after a reload of the module, what it stood for is of a class of the same name and no other.
        """
        return self._checked.decisions if self._checked is not None else ""

    def isReady(self, node: DINOMixTrainParameterNode) -> bool:
        """Whether the study can be trained on as it is chosen."""
        return (
            self.state == "idle"
            and self.report is not None
            and self.report.isGood
            and self.isUpToDate(node)
            and isFile(Path(node.studyFolder) / COHORT)
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

    def nodesOf(self, image: str) -> tuple[Any, Any, list[Any]]:
        """The volume and segmentation node that an image file was exported from, None where it was not, or they are gone; and
        the nodes of the further images that are there."""
        choice = self._nodes.get(image, SceneChoice())
        more = map(slicer.mrmlScene.GetNodeByID, choice.more)
        return (
            slicer.mrmlScene.GetNodeByID(choice.volume),
            slicer.mrmlScene.GetNodeByID(choice.segmentation),
            [node for node in more if node is not None],
        )

    # -- Check

    def check(self, node: DINOMixTrainParameterNode) -> None:
        """Check the cases that are chosen; one of the signals says how it ended."""
        if self.state != "idle":
            return
        request = requestOf(node)
        if whyNot := request.whyNot():
            self.failed.emit(whyNot, "")
            return
        with telling(self.failed):
            makeWritable(request.folder)
            cases = casesOfScene(request)
            self._process = self._makeProcess(request.arguments())
            self._request, self._found = request, CohortReport()
            self._setState("exporting")
            self._task = Steps(self._stepsOf(request, cases, self._process))
            self._task.finished.connect(self._onChecked)
            self._task.failed.connect(lambda *words: self._end(self.failed, *words))
            self._task.cancelled.connect(lambda: self._end(self.cancelled))

    def cancel(self) -> None:
        """Give the check up; ``cancelled`` follows within a second."""
        if self._task is not None:
            if self.state == "checking":
                self._setState("cancelling")
            self._task.cancel()

    def isChecking(self, studyFolder: str) -> bool:
        """Whether what runs is a check of that study."""
        return self._request is not None and self._request.studyFolder == studyFolder

    def _onExported(self, done: int, total: int) -> None:
        if total:
            self.progress.emit(_("copying volumes of the scene"), done, total, None)

    def _stepsOf(
        self, request: CohortRequest, cases: list[tuple[SceneChoice, SceneCase]], process: EngineProcess
    ) -> Generator[Any, Any, dict[str, str]]:
        """Copy the scene's cases and have all checked; returns the scene choices' texts -> the names of their copies."""
        sceneCases = [case for _choice, case in cases]
        corrected = {Path(entry["image"]) for entry in correctedCases(request.folder)}
        files = yield from self._export.steps(
            sceneCases, request.folder / SCENE, leftOutOf(request), self._onExported, corrected
        )
        self._nodes.update((str(f.image), choice) for (choice, _case), f in zip(cases, files, strict=True))
        try:
            if request.hasList:
                write_json(request.folder / CASES, listOfCases(request, files))
            if request.renames:
                write_json(request.folder / RENAMES, renamesOf(request))
        except OSError as error:
            raise notWritable(request.folder, error) from error
        process.event.connect(self._onEvent)
        self._setState("checking")
        process.start()
        try:
            yield process
        except DinomixError:
            # Where the engine has found what is wrong with the cases, the report says more than its last words.
            if not self._found.hasProblems:
                raise
        return {choice.text: case.name for choice, case in cases}

    def _onEvent(self, event: dict[str, Any]) -> None:
        self._found.take(event)
        if event.get("kind") == "progress":
            self.progress.emit(_("reading the cases"), event["step"], event["total"], event["eta"])

    def _onChecked(self, exported: dict[str, str]) -> None:
        request, report = self._request, self._found
        assert request is not None
        report.addExcluded(request.excluded, self.report)
        self.report, self._checked, self._folder = report, request, request.studyFolder
        # On the main thread, waiting for the disk could hold up the window.
        self._saving = InBackground(lambda checkStop: writeLastCheck(request, report, exported))
        Steps(self._saving.steps())
        self._end(self.checked, report)

    def _end(self, signal: Signal, *arguments: Any) -> None:
        self._request = self._process = self._task = None
        self._setState("idle")
        signal.emit(*arguments)

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.stateChanged.emit(state)


def hasChoices(node: DINOMixTrainParameterNode) -> bool:
    """Whether any case is chosen."""
    chosen = (node.labeledFolders, node.unlabeledFolders, node.testFolders, node.sceneLabeled, node.sceneUnlabeled)
    return any(map(len, chosen))


def leftOutOf(request: CohortRequest) -> list[str]:
    """Names of structures that are not wanted."""
    return [name for name, new in renamesOf(request).items() if new is None]


def makeWritable(folder: Path) -> None:
    """Make a study folder, and see that it can be written. Raises DinomixError when it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise notWritable(folder, error) from error


def notWritable(folder: Path, error: OSError) -> DinomixError:
    """What to say where a study folder cannot be written."""
    problem = _("The study folder {folder} cannot be written ({reason}).")
    return DinomixError(
        problem.format(folder=folder, reason=error.strerror or error),
        _("Choose a folder on a disk with free space that you may write to."),
    )


def casesOfScene(request: CohortRequest) -> list[tuple[SceneChoice, SceneCase]]:
    """The chosen cases that have nodes in the open scene, labeled ones first. Raises DinomixError where a node is gone."""
    choices = [choice for choice in request.sceneChoices if not choice.file]
    pairs = []
    for choice in choices:
        volume = slicer.mrmlScene.GetNodeByID(choice.volume)
        segmentation = slicer.mrmlScene.GetNodeByID(choice.segmentation) if choice.segmentation else None
        more = [slicer.mrmlScene.GetNodeByID(each) if each else None for each in choice.more]
        if "" in choice.more and volume is not None:
            raise DinomixError(
                _("For {name} not all images of the case are chosen.").format(name=volume.GetName()),
                _("Choose them in the table of the scene, or do not use this volume."),
            )
        if volume is None or (choice.segmentation and segmentation is None) or None in more:
            raise DinomixError(
                _("A volume or segmentation that was chosen is not in the scene any more."),
                _("Look through the cases of the scene and check again."),
            )
        pairs.append((volume, segmentation, *more))
    reserved = [choice.file for choice in request.sceneChoices if choice.file]
    return list(zip(choices, sceneCases(pairs, reserved), strict=True))


def listOfCases(request: CohortRequest, exported: list[CaseFiles]) -> list[dict[str, Any]]:
    """The cases beside those of the folders, as the engine reads them: of the scene, and corrected ones; and what is said of
    the labels of cases."""
    folder = request.folder / SCENE
    images = len(channelsOfText(request.channels)) or 1
    earlier = [
        filesOf(choice.file, folder, choice.text in request.sceneLabeled, images)
        for choice in request.sceneChoices if choice.file
    ]  # fmt: skip
    cohort = cohortOf(request.studyFolder)
    more = cohort.moreImages if cohort is not None else {}
    corrected = [
        {**entry, "role": "labeled", "more_images": more.get(entry["name"], [])}
        for entry in correctedCases(request.folder)
    ]
    # A case whose label was corrected is unlabeled no more.
    known = {entry["image"] for entry in corrected}
    listed = corrected + [
        {
            "name": files.name,
            "image": str(files.image),
            "more_images": [str(path) for path in files.more],
            "label": None if files.label is None else str(files.label),
            "role": "unlabeled" if files.label is None else "labeled",
        }
        for files in (*exported, *earlier)
        if str(files.image) not in known
    ]
    folders = (*request.labeledFolders, *request.testFolders)
    return Decisions.of(request.decisions).addTo(listed, folders, renamesOf(request))
