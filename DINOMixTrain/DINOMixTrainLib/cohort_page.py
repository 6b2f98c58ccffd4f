"""The page "Cases": gathers a study's cases, has them checked, and shows what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.images.formats import is_segmentation
from dinomix.names import normalized_name
from dinomix_slicer.signal import telling
from dinomix_slicer.task import Steps
from dinomix_slicer.timer import timer
from dinomix_slicer.window.appearance import ERROR, INFO, WARNING, setWrappedText, showLevel
from dinomix_slicer.window.choices import showChoices
from dinomix_slicer.window.duration import withTimeLeft
from dinomix_slicer.window.path_field import onPathChanged, showPath
from dinomix_slicer.window.progress_bar import showPart

from .case_loading import showCase
from .case_table import CaseTable
from .cohort_report import CheckedCase, CohortReport
from .cohort_request import CohortRequest, renamesOf, requestOf
from .decisions import Decisions
from .first_cases_panel import FirstCasesPanel
from .folder_table import FolderTable
from .labels_panel import LabelsPanel
from .name_matching import Concept, conceptOf, namesInFile, sameByTerminology
from .names_table import NamesTable, namesOf
from .page import Page
from .scene_table import SceneTable
from .study import cohortOf
from .voxel_chart import VoxelChart

if TYPE_CHECKING:
    from .logic import DINOMixTrainLogic

TYPING = 400  # ms without a change before a typed path is taken for what is meant
DECIDING = 800  # ms after which a decision is checked, unless another one follows


class CohortPage(Page):
    """The tables do the work; this follows the parameter node, the scene and the check."""

    def __init__(self, ui: Any, logic: DINOMixTrainLogic) -> None:
        super().__init__(ui)
        self._logic, self._cohort = logic, logic.cohort
        self._outcome: tuple[str, str] | None = None  # of a check that found nothing: level and sentence
        self._outcomeOf: CohortRequest | None = None  # the choices of that check
        self._matching: Steps | None = None
        self._shownStudy = ""
        self.folders, self.scene = FolderTable(ui), SceneTable(ui)
        self.cases, self.names = CaseTable(ui), NamesTable(ui)
        self.labels = LabelsPanel(ui)
        self.firstCases = FirstCasesPanel(ui, logic.firstCases)
        self.chart = VoxelChart(ui.voxelsPlotWidget)
        self._studyTimer = timer(TYPING, self._onStudyTyped, isSingleShot=True)
        self._sceneTimer = timer(0, self._showScene, isSingleShot=True)
        self._decidingTimer = timer(DECIDING, self._checkDecisions, isSingleShot=True)
        self._connect()

    def close(self) -> None:
        """Let go of everything; the logic ends a check that runs."""
        self._studyTimer.stop()
        self._sceneTimer.stop()
        self._decidingTimer.stop()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._stopMatching()
        self.cases.close()
        self.firstCases.close()
        self.chart.clear()
        super().close()

    def release(self) -> None:
        """The scene is about to be emptied."""
        self._decidingTimer.stop()
        self.scene.release()
        self.firstCases.release()
        self.chart.clear()

    def enter(self) -> None:
        """The user comes to the module; names and pairs in the scene may have changed meanwhile."""
        self._sceneTimer.start()

    def _connect(self) -> None:
        ui, cohort, logic = self.ui, self._cohort, self._logic
        self.hear(cohort.stateChanged, self._onState)
        self.hear(cohort.progress, self._onProgress)
        self.hear(cohort.checked, self._onChecked)
        self.hear(cohort.failed, self._onFailed)
        self.hear(cohort.cancelled, self._onCancelled)
        for table in (self.folders, self.scene, self.labels):
            self.hear(table.notice, self.notice.emit)
        self.hear(self.cases.wantsCase, self._onWantsCase)
        self.hear(self.firstCases.wantsCase, self._onWantsCase)
        self.hear(logic.firstCases.failed, self.failed.emit)
        self.hear(self.cases.wantsExcluded, self._onWantsExcluded)
        self.hear(self.cases.wantsDecided, self._onWantsDecided)
        self.hear(self.cases.chosenChanged, self._showLabels)
        self.hear(self.labels.decided, self._decidingTimer.start)
        onPathChanged(ui.studyPathEdit, lambda path: self._studyTimer.start())
        self.offer(ui.modalityComboBox, "modality")
        ui.checkButton.connect("clicked()", self._onButton)
        ui.goToTrainingButton.connect("clicked()", lambda: self.wantsPage.emit("training"))
        self._sceneTags = [
            slicer.mrmlScene.AddObserver(getattr(slicer.vtkMRMLScene, event), lambda *told: self._sceneTimer.start())
            for event in ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent")
        ]

    # -- Showing what is so now

    def show(self) -> None:
        """Show what is so now."""
        node = self.node
        if self._cohort.state != "idle" and not self._cohort.isChecking(node.studyFolder):
            self._cohort.cancel()
        before = self._cohort.report
        self._cohort.openStudy(node)
        if self._cohort.report is not before:
            self._outcome = None
        isIdle = self._cohort.state == "idle"
        self._showStudy(node.studyFolder)
        modalities = [(_("Automatic"), "auto"), (_("CT"), "CT"), (_("MR"), "MR")]
        showChoices(self.ui.modalityComboBox, modalities, node.modality)
        inputs = (
            self.ui.studyPathEdit,
            self.ui.validationSpinBox,
            self.ui.patternLineEdit,
            self.ui.channelsLineEdit,
            self.ui.seedSpinBox,
        )
        for widget in (*inputs, self.ui.orderLineEdit, self.ui.modalityComboBox):
            widget.enabled = isIdle
        self.folders.show(node, isIdle)
        self._showScene()
        self._showReport()
        self._showCheck()
        report = self._cohort.report if self._cohort.isUpToDate(node) else None
        self.firstCases.show(node, report, self._logic.whyNotDependencies())

    def _showStudy(self, folder: str) -> None:
        """Show the study folder unless the user is just typing it."""
        if folder != self._shownStudy:
            self._shownStudy = folder
            showPath(self.ui.studyPathEdit, folder)
            self._studyTimer.stop()

    def _showScene(self) -> None:
        node = self.node.parameterNode if self.node is not None else None
        if self.isEntered and node is not None and slicer.mrmlScene.GetNodeByID(node.GetID()) is node:
            self.scene.show(self.node, self._cohort.state == "idle")

    def _showReport(self) -> None:
        ui, report = self.ui, self._cohort.report
        isIdle = self._cohort.state == "idle"
        ui.checkedCollapsibleButton.visible = report is not None
        names = namesOf(report, self.scene.segmentNames(), renamesOf(self.node))
        ui.structuresCollapsibleButton.visible = bool(names)
        self.cases.show(report, list(self.node.excluded), isIdle, self._decidedAnew())
        self._showLabels()
        voxels = report.voxelsToLearnFrom() if report is not None else {}
        cohort = cohortOf(self.node.studyFolder) if report is not None and report.isGood else None
        colors = cohort.colors if cohort is not None else {}
        self.chart.show(voxels, colors)
        ui.voxelsPlotWidget.visible = bool(voxels)
        setWrappedText(ui.imbalanceLabel, report.imbalance() if report is not None else "")
        wanted = list(self._wanted())
        self.names.show(self.node, names, wanted, colors, isIdle)
        setWrappedText(ui.namesLabel, namesText(report, wanted))

    def _showLabels(self) -> None:
        if self.node is not None and not self.cases.isFilling():
            self.labels.show(self.node, self._cohort.report, self.cases.chosen)

    def _decidedAnew(self) -> frozenset[str]:
        """The cases of whose labels something else is said than when they were checked."""
        now, checked = Decisions.of(self.node.decisions), Decisions.of(self._cohort.checkedDecisions())
        return frozenset(case for case in {**now.cases, **checked.cases} if now.said(case) != checked.said(case))

    def _wanted(self) -> dict[str, Concept | None]:
        """The structures of the model to start from; empty without one."""
        model = self._logic.offers.model(self.node.startModel) if self.node.startModel else None
        structures = model.get("structures", ()) if model else ()
        return {s["name"]: conceptOf(s.get("terminology_entry") or "") for s in structures}

    def _showCheck(self) -> None:
        ui, state = self.ui, self._cohort.state
        whyNot = self._logic.whyNotDependencies() or requestOf(self.node).whyNot()
        ui.checkProgressBar.visible = state != "idle"
        if state == "idle":
            ui.checkButton.text = _("Check the cases")
            ui.checkButton.enabled = not whyNot
            ui.checkButton.toolTip = whyNot or _("Read every case once, and find what would go wrong in the training.")
            self._showStatus(*self._status(whyNot))
        else:
            ui.checkButton.text = _("Cancel")
            ui.checkButton.enabled = state != "cancelling"
            ui.checkButton.toolTip = _("Give the check up. What was found before stays.")
        isReady = self._cohort.isReady(self.node)
        ui.goToTrainingButton.enabled = isReady
        ui.goToTrainingButton.toolTip = (
            _("Choose how to train on these cases.") if isReady else _("Check the cases first.")
        )

    def _status(self, whyNot: str | None) -> tuple[str, str]:
        """Level and sentence of the line below the button."""
        report = self._cohort.report
        if whyNot:
            return INFO, whyNot
        if self._outcome is not None and self._outcomeOf == requestOf(self.node):
            return self._outcome
        if report is not None and not self._cohort.isUpToDate(self.node):
            return WARNING, _("The choices have changed since the last check. Check the cases again.")
        if report is not None:
            return outcomeOf(report)
        return INFO, _("Check reads every case once and says what is wrong before hours of training are lost.")

    def _showStatus(self, level: str, text: str) -> None:
        setWrappedText(self.ui.checkStatusLabel, text)
        self.ui.checkStatusFrame.visible = bool(text)
        showLevel(self.ui.checkStatusFrame, self.ui.checkStatusIconLabel, level)

    # -- The check

    def _onButton(self) -> None:
        self._decidingTimer.stop()
        if self._cohort.state == "idle":
            self._check()
        else:
            self._cohort.cancel()

    def _check(self) -> None:
        self._outcome = None
        self._stopMatching()
        self._cohort.check(self.node)

    def _checkDecisions(self) -> None:
        """Check again what the user has said of the labels; during a check, that is done after it."""
        if self.node is not None and self._cohort.state == "idle" and self.ui.checkButton.enabled:
            self._check()

    def _onState(self, state: str) -> None:
        if state == "exporting":
            self._onProgress(_("starting"), 0, 0, None)
        elif state == "cancelling":
            self._showStatus("", _("The check is being ended."))
        self.changed.emit()

    def _onProgress(self, stage: str, step: int, total: int, eta: float | None) -> None:
        showPart(self.ui.checkProgressBar, step, total)
        text = _("{stage}: {step} of {total}").format(stage=stage, step=step, total=total) if total else stage
        text = withTimeLeft(text, eta if step < total else None)
        self._showStatus("", text[0].upper() + text[1:] + ".")

    def _onChecked(self, report: CohortReport) -> None:
        self._outcome = None
        if self.node is not None and Decisions.of(self.node.decisions).text != self._cohort.checkedDecisions():
            self._decidingTimer.start()
        self._startMatching(report)
        self.changed.emit()

    def _onFailed(self, problem: str, remedy: str) -> None:
        self._endWith(ERROR, f"{problem} {remedy}".strip())

    def _onCancelled(self) -> None:
        self._endWith(INFO, _("The check was cancelled."))

    def _endWith(self, level: str, text: str) -> None:
        if self.node is not None:  # else the scene is being closed
            self._outcome, self._outcomeOf = (level, text), requestOf(self.node)
        self.changed.emit()

    # -- What the user does

    def _onStudyTyped(self) -> None:
        path = self.ui.studyPathEdit.currentPath.strip()
        if self.node is not None and path != self.node.studyFolder:
            self.node.studyFolder = self._shownStudy = path

    def _onWantsExcluded(self, names: list[str], isExcluded: bool) -> None:
        kept = [name for name in self.node.excluded if name not in names]
        self.node.excluded = kept + names if isExcluded else kept

    def _onWantsDecided(self, cases: list[CheckedCase], what: str) -> None:
        if what:
            self.labels.decideUndecided(cases, what)
        else:
            self.labels.takeBack(cases)

    def _onWantsCase(self, case: CheckedCase) -> None:
        with slicer.util.WaitCursor(), telling(self.failed):
            showCase(case, self.node.studyFolder, *self._cohort.nodesOf(case.image))

    # -- Names that mean the same

    def _startMatching(self, report: CohortReport) -> None:
        """Look into the segmentation files, one a step, for what their segments mean."""
        files = [Path(c.label) for c in report.cases.values() if is_segmentation(Path(c.label))]
        if not files or (len(report.names) < 2 and not self._wanted()):
            return
        concepts: dict[str, Concept] = {}
        together: set[frozenset[str]] = set()

        def steps() -> Any:
            for file in files:
                own = {normalized_name(name): concept for name, concept in namesInFile(file).items()}
                together.add(frozenset(own))
                for name, concept in own.items():
                    concepts.setdefault(name, concept)
                yield

        self._stopMatching()
        self._matching = Steps(steps())
        self._matching.finished.connect(lambda ignored: self._onMatched(report, concepts, together))

    def _stopMatching(self) -> None:
        if self._matching is not None:
            self._matching.cancel()
            self._matching = None

    def _onMatched(self, report: CohortReport, concepts: dict[str, Concept], together: set[frozenset[str]]) -> None:
        self._matching = None
        renames = renamesOf(self.node)
        mapped = set(map(normalized_name, renames))
        found = [(n.name, n.cases) for n in report.names if normalized_name(n.name) not in mapped]
        same = sameByTerminology(found, concepts, self._wanted(), together)
        if not same:
            return
        self.node.renames = json.dumps({**renames, **same}, ensure_ascii=False)
        listed = ", ".join(_("{name} as {target}").format(name=name, target=target) for name, target in same.items())
        self.notice.emit(
            _("By their terminology, some names mean the same structure, and are now trained as one: {listed}. "
              "Change that in the table of structures, or check the cases again.").format(listed=listed)
        )  # fmt: skip


def outcomeOf(report: CohortReport) -> tuple[str, str]:
    """Level and sentence of what a check has found."""
    if report.isGood:
        counts = {
            _("{n} labeled"): report.count("labeled"),
            _("{n} for validation"): report.count("validation"),
            _("{n} unlabeled"): report.count("unlabeled"),
            _("{n} for test"): report.count("test"),
        }
        parts = ", ".join(text.format(n=n) for text, n in counts.items() if n)
        return INFO, _("The cases are good: {parts}.").format(parts=parts)
    count = len(report.casesWithProblems())
    general = " ".join(map(str, report.general))
    if not count:
        return ERROR, general
    text = (
        _("One case has a problem. Mend it or leave it out, then check again.")
        if count == 1
        else _("{n} cases have problems. Mend them or leave them out, then check again.").format(n=count)
    )
    return ERROR, f"{text} {general}".strip()


def namesText(report: CohortReport | None, wanted: list[str]) -> str:
    """What the table of names is for, given the names."""
    if report is None or not wanted:
        return _("What the label files call the structures, and what they are called in this training:")
    known = set(map(normalized_name, wanted))
    new = sum(name.matched is not None and normalized_name(name.matched) not in known for name in report.names)
    if not new:
        return _("The model to start from knows all structures of these cases:")
    return _(
        "The model to start from does not know {n} of these structures. Map them to names that it knows, or they are "
        "learned from the beginning:"
    ).format(n=new)
