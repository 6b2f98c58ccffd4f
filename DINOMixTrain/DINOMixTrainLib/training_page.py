"""Page 2: from what, how thoroughly and with which teacher a run is trained, what that will cost, and Start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.paths import isFile
from dinomix_slicer.window.appearance import INFO, keepFitted, paintIcon, setWrappedText
from dinomix_slicer.window.choices import showChoices

from .licence_dialog import askForLicence
from .page import Page
from .preset_list import PresetList
from .settings_form import SettingsForm
from .study import Cohort, cohortOf, modalityText, modelIn, overlapText
from .teachers import (
    DINOV3,
    OFF,
    RANDOM,
    accept,
    cachedFile,
    fileOf,
    isAccepted,
    isNamed,
    namesFile,
    whyNotFile,
    whyNotName,
)
from .training_logic import isEncoder, isModel, settingsOf, whyNotFrom

if TYPE_CHECKING:
    from .logic import DINOMixTrainLogic

CHOOSE_FILE, CHOOSE_OTHER = "file", "other"


class TrainingPage(Page):
    """Shows the choices of the parameter node, and begins a run."""

    def __init__(self, ui: Any, logic: DINOMixTrainLogic) -> None:
        super().__init__(ui)
        self._logic, self._training = logic, logic.training
        self._presets = PresetList(ui.presetsWidget.layout())
        self._settings = SettingsForm(ui)
        self.hear(self._presets.chosen, lambda name: setattr(self.node, "preset", name))
        self.hear(self._settings.changed, self._onSettings)
        self.hear(self._training.estimateChanged, self.changed.emit)
        self.hear(self._training.failed, self.failed.emit)
        ui.commandComboBox.addItem(_("One process"), False)
        ui.commandComboBox.addItem(_("More graphics cards or computers"), True)
        # The bar keeps its place while it is hidden, so that nothing below it jumps.
        policy = ui.estimateProgressBar.sizePolicy
        policy.setRetainSizeWhenHidden(True)
        ui.estimateProgressBar.sizePolicy = policy
        paintIcon(ui.startStatusIconLabel, INFO)
        keepFitted(ui.commandNoteLabel)
        self._connectWidgets()

    def _connectWidgets(self) -> None:
        ui = self.ui
        self.offer(ui.startModelComboBox, "startModel")
        ui.startFolderButton.connect("clicked()", self._onStartFolder)
        ui.startEncoderButton.connect("clicked()", self._onStartEncoder)
        ui.keepStructuresCheckBox.connect("clicked(bool)", self._onKeepStructures)
        ui.teacherComboBox.connect("activated(int)", self._onTeacher)
        ui.licenceButton.connect("clicked()", self._onLicence)
        self.offer(ui.trainingDeviceComboBox, "device")
        ui.estimateButton.connect("clicked()", self._onEstimate)
        ui.settingsResetButton.connect("clicked()", self._onReset)
        ui.commandComboBox.connect("currentIndexChanged(int)", lambda row: self._showCommand())
        ui.copyCommandButton.connect("clicked()", self._onCopy)
        ui.startButton.connect("clicked()", self._onStart)

    # -- The window's life

    def show(self) -> None:
        node = self.node
        cohort = cohortOf(node.studyFolder)
        setWrappedText(self.ui.cohortFactsLabel, cohort.text if cohort else "")
        self._showStart(cohort)
        self._showPresets()
        self._showTeacher()
        self._showDevices()
        self._showSettings()
        self._showCommand()
        self._showStartButton()

    # -- What it starts from

    def _showStart(self, cohort: Cohort | None) -> None:
        chosen = self.node.startModel
        entries = [(_("Scratch: random weights"), "")]
        entries += [(model["title"], model["path"]) for model in self._logic.offers.models if not model.get("problem")]
        if chosen not in [path for title, path in entries]:
            entries.append((modelName(chosen), chosen))
        showChoices(self.ui.startModelComboBox, entries, chosen)
        self.ui.keepStructuresCheckBox.visible = isModel(chosen)
        self.ui.keepStructuresCheckBox.checked = self.node.keepStructures
        setWrappedText(self.ui.overlapLabel, self._startText(chosen, cohort))

    def _startText(self, chosen: str, cohort: Cohort | None) -> str:
        if not chosen:
            return _("A model from scratch needs more steps than one that knows some of your structures.")
        if isEncoder(chosen):
            return whyNotFrom(chosen) or _(
                "An encoder trained without labels: its network is taken over, and the decoder is learned from your cases."
            )
        if cohort is None:
            return ""
        model = self._logic.offers.model(chosen) or modelIn(Path(chosen))
        if model is None:
            return _("There is no model in {path}. Choose another folder, or start from scratch.").format(path=chosen)
        known = tuple(each["name"] for each in model["structures"])
        overlap = overlapText(cohort.structures, known, self.node.keepStructures)
        return f"{overlap} {modalityText(cohort.modality, model['modality'])}".strip()

    def _onKeepStructures(self, isChecked: bool) -> None:
        self.node.keepStructures = isChecked

    def _onStartFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose the folder of a model"))
        if not folder:
            return
        inside = Path(folder) / "model"  # a run's folder serves too
        self.node.startModel = str(inside) if isFile(inside / "labels.json") else folder

    def _onStartEncoder(self) -> None:
        title = _("Choose the weights of an encoder: OpenMind's ResEnc-L or CT-FM's SegResNet")
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), title, "", _("Weights (*.pth *.pt *.ckpt *.safetensors)")
        )
        if path:
            self.node.startModel = path

    # -- Presets and what they cost

    def _showPresets(self) -> None:
        node, ui = self.node, self.ui
        hasCohort = cohortOf(node.studyFolder) is not None
        costs = {
            preset["name"]: self._training.estimateOf(node, preset["name"]) if hasCohort else None
            for preset in self._logic.offers.presets
        }
        self._presets.show(self._logic.offers.presets, node.preset, costs)
        progress = self._training.estimating
        ui.estimateProgressBar.visible = progress is not None
        if progress is not None:
            ui.estimateProgressBar.maximum = progress[1]
            ui.estimateProgressBar.value = progress[0]
        whyNot = self._training.whyNotEstimate(node)
        ui.estimateButton.text = _("Estimate time and memory") if progress is None else _("Cancel")
        ui.estimateButton.enabled = progress is not None or whyNot is None

    def _onEstimate(self) -> None:
        if self._training.estimating is None:
            self._training.estimate(self.node)
        else:
            self._training.cancelEstimate()

    # -- Device

    def _showDevices(self) -> None:
        chosen, offers = self.node.device, self._logic.offers
        titles = {device["name"]: device["title"] for device in offers.devices}
        automatic = titles.get(offers.automatic)
        entries = [(_("Automatic: {device}").format(device=automatic) if automatic else _("Automatic"), "auto")]
        entries += [(title, name) for name, title in titles.items()]
        if chosen != "auto" and chosen not in titles:
            # While the devices are not known yet, nothing can be said of this one.
            entries.append((_("{name} (not there)").format(name=chosen) if titles else chosen, chosen))
        showChoices(self.ui.trainingDeviceComboBox, entries, chosen)

    # -- The teacher

    def _showTeacher(self) -> None:
        teacher = self.node.teacher
        isCached = cachedFile(DINOV3) is not None
        named = _("DINOv3 ViT-B from your cache") if isCached else _("DINOv3 ViT-B, fetched by timm")
        entries = [(_("None"), OFF), (named, DINOV3), (_("A file of DINOv3's weights..."), CHOOSE_FILE),
                   (_("Another backbone and its file..."), CHOOSE_OTHER)]  # fmt: skip
        if namesFile(teacher):
            name, path = fileOf(teacher)
            entries.insert(2, (f"{name}: {path.name}" if name else path.name, teacher))
        elif teacher not in (OFF, DINOV3):
            entries.insert(2, (teacher, teacher))
        showChoices(self.ui.teacherComboBox, entries, teacher)
        self.ui.licenceButton.visible = isNamed(teacher) and cachedFile(teacher) is None
        setWrappedText(self.ui.teacherNoteLabel, teacherText(teacher))

    def _onTeacher(self, row: int) -> None:
        wanted = self.ui.teacherComboBox.itemData(row)
        if wanted == CHOOSE_FILE:
            wanted = self._askForFile(_("Choose the weights of a DINOv3 vision transformer"))
        elif wanted == CHOOSE_OTHER:
            wanted = self._askForOther()
        elif isNamed(wanted) and cachedFile(wanted) is None and not isAccepted(wanted):
            wanted = self._askForLicence(wanted)
        if wanted:
            self.node.teacher = wanted
        self._showTeacher()

    def _askForFile(self, title: str, backbone: str = "") -> str:
        """A teacher of the file that the user chooses; ``backbone`` is empty for a DINOv3. Empty where it is none."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), title, "", _("Weights (*.safetensors *.pth *.pt *.bin)")
        )
        teacher = f"{backbone}={path}" if backbone else path
        problem = whyNotFile(teacher) if path else None
        if problem:
            self.failed.emit(problem, "")
        return "" if problem or not path else teacher

    def _askForOther(self) -> str:
        question = _("Whose weights are in the file, by timm's name, such as resnet50 or tf_efficientnet_lite0?")
        name = qt.QInputDialog.getText(
            slicer.util.mainWindow(), _("Another backbone"), question, qt.QLineEdit.Normal, ""
        ).strip()
        if not name:
            return ""
        if problem := whyNotName(name):
            self.failed.emit(problem, "")
            return ""
        return self._askForFile(_("Choose the weights of {name}").format(name=name), name)

    def _askForLicence(self, teacher: str) -> str:
        if not askForLicence():
            return ""
        accept(teacher)
        return teacher

    def _onLicence(self) -> None:
        self._askForLicence(self.node.teacher)
        self.changed.emit()

    # -- Advanced settings and the command line

    def _showSettings(self) -> None:
        preset = self._logic.offers.preset(self.node.preset)
        kept = settingsOf(self.node)
        if preset is not None:
            self._settings.show(preset["config"], kept)
        self.ui.settingsWidget.enabled = preset is not None
        self.ui.settingsResetButton.enabled = bool(kept)
        text = _("{n} settings differ from the preset.").format(n=len(kept)) if kept else ""
        setWrappedText(self.ui.settingsNoteLabel, self._settings.problem or text)

    def _onSettings(self, kept: dict[str, Any]) -> None:
        self.node.settings = json.dumps(kept) if kept else ""
        self.show()

    def _onReset(self) -> None:
        self._settings.problem = ""
        self._onSettings({})

    def _showCommand(self) -> None:
        ui, node = self.ui, self.node
        if node is None:
            return
        isForMore = bool(ui.commandComboBox.itemData(ui.commandComboBox.currentIndex))
        text = self._training.commandLine(node, isForMore) if node.studyFolder else ""
        if ui.trainCommandText.plainText != text:
            ui.trainCommandText.setPlainText(text)
        ui.copyCommandButton.enabled = bool(text)

    def _onCopy(self) -> None:
        slicer.app.clipboard().setText(self.ui.trainCommandText.plainText)

    # -- Start

    def _showStartButton(self) -> None:
        node, ui = self.node, self.ui
        ui.runNameEdit.placeholderText = self._training.runName(node) if node.studyFolder else ""
        whyNot = self._logic.whyNotDependencies() or self._settings.problem or self._training.whyNotStart(node)
        ui.startButton.enabled = not whyNot
        ui.startButton.toolTip = whyNot or _("Start the run; it goes on when Slicer is closed.")
        cohort = cohortOf(node.studyFolder)
        if not whyNot and cohort is not None and not cohort.counts["validation"]:
            note = _("Without a validation case there is no curve of the Dice, and the last weights become the model.")
        else:
            note = whyNot or ""
        setWrappedText(ui.startStatusLabel, note)
        ui.startStatusIconLabel.visible = bool(note)

    def _onStart(self) -> None:
        node = self.node
        run = self._training.start(node)
        if run is not None:
            node.runPath, node.runName = str(run), ""
            self.wantsPage.emit("run")


def modelName(path: str) -> str:
    """A model folder's name; that of the run where it is a run's model."""
    folder = Path(path)
    return _("{name} (run)").format(name=folder.parent.name) if folder.name == "model" else folder.name


def teacherText(teacher: str) -> str:
    """What this teacher means."""
    if teacher == OFF:
        return _("Trained without the features of a foundation model (FKD off).")
    if teacher.startswith(RANDOM):
        return _("A teacher that was never trained, for tests only.")
    if namesFile(teacher):
        return whyNotFile(teacher) or teacher
    if cachedFile(teacher) is not None:
        return _("Its weights are in your Hugging Face cache; nothing is fetched.")
    if isAccepted(teacher):
        return _("You have accepted the licence; the run fetches the weights before its first step.")
    return _("Its weights are fetched only after you have read and accepted their licence.")
