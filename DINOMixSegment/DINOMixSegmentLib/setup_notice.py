"""What is still missing before the first segmentation: one sentence, and a button that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.dependencies import rememberForRestart
from dinomix_slicer.signal import Signal

from .appearance import INFO, paintFrame, paintIcon
from .checks import whyNotChosenVolume, whyNotDependencies, whyNotModel

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic
    from .parameter_node import DINOMixSegmentParameterNode

MODULE = "DINOMixSegment"


@dataclass(frozen=True)
class Lack:
    """What is missing: a sentence, the button's text, and what the button does."""

    text: str
    button: str
    toolTip: str
    action: Callable[[], None]


class SetupNotice:
    """
    Signals:
        failed(problem, remedy): an installation failed.
        installed(): the packages are there now.
        logged(line): what pip printed.
        wantsFolder(): the user wants to add a model folder.
        wantsExample(): the user wants to try an example.
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self.failed, self.installed, self.logged = Signal(), Signal(), Signal()
        self.wantsFolder, self.wantsExample = Signal(), Signal()
        self._ui, self._logic = ui, logic
        self._parameterNode: DINOMixSegmentParameterNode | None = None
        self._lack: Lack | None = None
        self._installing = ""  # what is being installed
        self._needsRestart = False
        ui.setupButton.connect("clicked()", self._onButton)
        paintFrame(ui.setupFrame, INFO)
        paintIcon(ui.setupIconLabel, INFO)
        installer = logic.installer
        self._connections = (
            (installer.progress, self._onProgress),
            (installer.logged, self.logged.emit),
            (installer.finished, self._onInstalled),
            (installer.failed, self._onFailed),
            (installer.cancelled, self._onCancelled),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show(None)

    @property
    def text(self) -> str:
        """The sentence that is shown; empty when nothing is missing."""
        return self._lack.text if self._lack else ""

    def close(self) -> None:
        """End an installation that runs."""
        if self._installing:
            self._logic.installer.cancel()
        for signal, slot in self._connections:
            signal.disconnect(slot)

    def show(self, parameterNode: DINOMixSegmentParameterNode | None) -> None:
        """Show what is missing now."""
        self._parameterNode = parameterNode
        self._lack = self._whatIsMissing()
        self._ui.setupFrame.visible = self._lack is not None
        if self._lack is not None:
            self._ui.setupLabel.text = self._lack.text
            self._ui.setupButton.text = self._lack.button
            self._ui.setupButton.toolTip = self._lack.toolTip

    def _whatIsMissing(self) -> Lack | None:
        logic, node = self._logic, self._parameterNode
        if node is None or logic.state != "idle":
            return None
        if self._installing:
            toolTip = _("End the installation. What is installed by then stays.")
            return Lack(self._installing, _("Cancel"), toolTip, logic.installer.cancel)
        if self._needsRestart:
            text = _("The packages are installed. Restart Slicer to use them.")
            return Lack(text, _("Restart"), _("Slicer asks what to do with unsaved data."), self._onRestart)
        missing = whyNotDependencies(logic.missingDependencies())
        if missing:
            return Lack(missing, _("Install..."), _("Slicer asks before anything is downloaded."), self._onInstall)
        if logic.workerState == "failed":
            text = _("The process that computes has ended.")
            return Lack(text, _("Start again"), _("Start the worker again."), logic.restartWorker)
        hasAnswered = logic.workerHello is not None
        if hasAnswered and not logic.models():
            text = whyNotModel("", [], True) or ""
            return Lack(text, _("Add folder..."), _("Choose a folder that holds models."), self.wantsFolder.emit)
        if node.inputVolume is None:
            text = whyNotChosenVolume(None) or ""
            return Lack(
                text, _("Try an example"), _("Slicer asks before a scan is downloaded."), self.wantsExample.emit
            )
        return None

    def _onButton(self) -> None:
        if self._lack is not None:
            self._lack.action()

    # -- Installing

    def _onInstall(self) -> None:
        try:
            self._logic.installer.install(slicer.util.confirmYesNoDisplay)
        except DinomixError as error:
            self.failed.emit(error.problem, error.remedy)

    def _onProgress(self, text: str, step: int, total: int) -> None:
        self._installing = _("{what} ({step} of {total})...").format(what=text, step=step + 1, total=total)
        self.show(self._parameterNode)

    def _onInstalled(self, needsRestart: bool) -> None:
        self._installing, self._needsRestart = "", needsRestart
        self._logic.recheckDependencies()
        self.show(self._parameterNode)
        if not needsRestart:
            self.installed.emit()

    def _onFailed(self, problem: str, remedy: str) -> None:
        self._onCancelled()
        self.failed.emit(problem, remedy)

    def _onCancelled(self) -> None:
        self._installing = ""
        self._logic.recheckDependencies()
        self.show(self._parameterNode)

    def _onRestart(self) -> None:
        node = self._parameterNode
        storage = node.inputVolume.GetStorageNode() if node.inputVolume is not None else None
        rememberForRestart(MODULE, (storage.GetFileName() or "") if storage is not None else "", node.modelPath)
        slicer.util.restart()
