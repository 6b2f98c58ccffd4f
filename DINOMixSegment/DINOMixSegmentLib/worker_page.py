"""Advanced: what computes, in how much memory, where the models are, and the process that does it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.models.folders import modelFolders
from dinomix_slicer.setup.dependencies import WHEELS_SETTING
from dinomix_slicer.signal import Signal
from dinomix_slicer.task import Steps
from dinomix_slicer.window.appearance import rowsAsHtml
from dinomix_slicer.window.choices import showChoices
from dinomix_slicer.window.path_field import onPathChanged
from dinomix_slicer.worker.command import workerCommand
from dinomix_slicer.worker.connection_check import stepsOfTest

if TYPE_CHECKING:
    from .logic import DINOMixSegmentLogic

GIB = 2**30


class WorkerPage:
    """
    Signals:
        deviceChosen(name)
        changed(): a setting that other parts of the window depend on.
    """

    def __init__(self, ui: Any, logic: DINOMixSegmentLogic) -> None:
        self.deviceChosen, self.changed = Signal(), Signal()
        self._ui, self._logic = ui, logic
        self._test: Steps | None = None
        self._shownFolders: list[str] | None = None
        ui.deviceComboBox.connect("activated(int)", self._onDevice)
        ui.addFolderButton.connect("clicked()", self.askForFolder)
        ui.removeFolderButton.connect("clicked()", self._onRemoveFolder)
        ui.foldersList.connect("itemSelectionChanged()", self._showButtons)
        ui.commandEdit.text = logic.workerCommandText()
        ui.commandEdit.connect("editingFinished()", self._onCommand)
        ui.testButton.connect("clicked()", self._onTest)
        ui.restartButton.connect("clicked()", self._onRestart)
        ui.wheelsPathEdit.currentPath = str(qt.QSettings().value(WHEELS_SETTING) or "")
        onPathChanged(ui.wheelsPathEdit, self._onWheels)
        ui.testBrowser.visible = False
        self.show("auto")

    def show(self, device: str) -> None:
        """Show the worker's state and the chosen device."""
        self._showDevices(device)
        self._showFolders()
        self._showButtons()

    def log(self, text: str) -> None:
        """Add a line to the log."""
        self._ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    def askForFolder(self) -> None:
        """Let the user add a model folder."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose a folder with models"))
        if folder and folder not in modelFolders():
            self._setFolders([*modelFolders(), folder])

    def close(self) -> None:
        """End the worker that is being tested."""
        if self._test is not None:
            self._test.cancel()

    # -- Device

    def _showDevices(self, device: str) -> None:
        devices = self._logic.devices()
        if device not in dict(devices):
            isKnown = self._logic.workerHello is not None
            devices = [*devices, (device, _("{name} (not there)").format(name=device) if isKnown else device)]
        showChoices(self._ui.deviceComboBox, [(title, name) for name, title in devices], device)

    def _onDevice(self, row: int) -> None:
        self.deviceChosen.emit(self._ui.deviceComboBox.itemData(row))

    # -- Model folders

    def _showFolders(self) -> None:
        if modelFolders() == self._shownFolders:
            return  # what is selected stays so
        self._shownFolders = modelFolders()
        self._ui.foldersList.clear()
        always = qt.QListWidgetItem(_("Always: .dinomix/models in the home folder"))
        always.setFlags(qt.Qt.NoItemFlags)
        self._ui.foldersList.addItem(always)
        for folder in self._shownFolders:
            self._ui.foldersList.addItem(folder)

    def _onRemoveFolder(self) -> None:
        item = self._ui.foldersList.currentItem()
        if item is not None:
            self._setFolders([folder for folder in modelFolders() if folder != item.text()])

    def _setFolders(self, folders: list[str]) -> None:
        self._logic.setModelFolders(folders)
        self._showFolders()
        self._showButtons()
        self.changed.emit()

    # -- The worker

    def _showButtons(self) -> None:
        ui, isIdle = self._ui, self._logic.state == "idle"
        ui.removeFolderButton.enabled = bool(ui.foldersList.selectedItems())
        ui.commandEdit.enabled = isIdle
        ui.restartButton.enabled = isIdle
        ui.testButton.text = _("Stop the test") if self._test else _("Test connection")

    def _onCommand(self) -> None:
        text = self._ui.commandEdit.text.strip()
        if text == self._logic.workerCommandText():
            return
        try:
            self._logic.setWorkerCommandText(text)
        except DinomixError as error:
            self._report(str(error))
            return
        self._ui.testBrowser.visible = False
        if not self._logic.missingDependencies():
            self._logic.refreshModels()
        self.changed.emit()

    def _onRestart(self) -> None:
        self.log(_("The worker is started again."))
        self._logic.restartWorker()

    def _onTest(self) -> None:
        if self._test is not None:
            self._test.cancel()
            return
        try:
            command = workerCommand(self._ui.commandEdit.text)
        except DinomixError as error:
            self._report(str(error))
            return
        test = self._test = Steps(stepsOfTest(command))
        test.finished.connect(lambda report: self._endTest(rowsAsHtml(tuple(reportRows(report)))))
        test.failed.connect(lambda *words: self._endTest(" ".join(words).strip()))
        test.cancelled.connect(lambda: self._endTest(_("The test was stopped.")))
        self._report(_("Starting the worker..."))
        self._showButtons()

    def _endTest(self, text: str) -> None:
        self._test = None
        self._report(text)
        self._showButtons()

    def _report(self, text: str) -> None:
        self._ui.testBrowser.setHtml(text)
        self._ui.testBrowser.visible = True

    def _onWheels(self, path: str) -> None:
        qt.QSettings().setValue(WHEELS_SETTING, path)


def reportRows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What a worker said of itself, as a table's labels and texts."""
    versions = [
        f"{title} {report[key]}"
        for title, key in (
            ("dinomix", "dinomix"), ("Python", "python"), ("PyTorch", "torch"), ("MONAI", "monai"), ("OpenVINO", "openvino"),
        )
        if report.get(key)  # not all are installed everywhere, and older workers do not speak of all
    ]  # fmt: skip
    memory = report["memory"]
    models = [model["title"] for model in report["models"]]
    return [
        (_("Computer"), str(report["host"])),
        (_("Versions"), ", ".join(versions)),
        (_("Devices"), ", ".join(device["title"] for device in report["devices"])),
        (_("Automatic"), report["automatic"]["reason"]),
        (
            _("Memory"),
            _("{available:.1f} of {total:.1f} GB free").format(
                available=memory["available"] / GIB, total=memory["total"] / GIB
            ),
        ),
        (_("Files"), _("shared with Slicer") if report["shares_files"] else _("not shared; volumes are sent")),
        (_("Models"), ", ".join(models) or _("none in its model folders")),
        (_("Answered in"), _("{seconds:.1f} seconds").format(seconds=report["seconds"])),
    ]
