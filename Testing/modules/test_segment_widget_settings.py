"""Advanced settings, what is missing at first, and "Show me how" in DINOMix Segment's window."""

import json
import unittest
from unittest.mock import patch

import qt
import slicer
from DINOMixSegmentLib.resume import RESUME_SETTING
from segment_fakes import UPPER, addVolume, modelDict
from segment_window import HELLO, WindowInstaller, WindowTestCase
from waiting import waitUntil

from dinomix_slicer.models.folders import modelFolders
from dinomix_slicer.setup.dependencies import WHEELS_SETTING
from dinomix_slicer.task import Task


class AdvancedTest(WindowTestCase):
    def setUp(self):
        super().setUp()
        self.ui.advancedCollapsibleButton.collapsed = False
        self.settle()

    def test_device_memory_and_precision_reach_the_parameters(self):
        self.assertEqual(self.ui.deviceComboBox.currentText, "Automatic: NVIDIA A2000")
        self.choose(self.ui.deviceComboBox, "CPU")
        self.assertEqual(self.parameters.device, "cpu")
        self.ui.memorySpinBox.value = 8
        self.assertEqual(self.parameters.maxMemoryGb, 8)
        self.click(self.ui.fullPrecisionCheckBox)
        self.assertTrue(self.parameters.fullPrecision)
        self.click(self.ui.allPiecesCheckBox)
        self.assertTrue(self.parameters.allPieces)
        self.parameters.device = "cuda:3"
        self.settle()
        self.assertEqual(self.ui.deviceComboBox.currentText, "cuda:3 (not there)")

    def test_regions_are_offered_where_the_model_has_some(self):
        box = self.ui.regionsCheckBox
        self.ui.outputCollapsibleButton.collapsed = False
        self.settle()
        self.assertFalse(box.isVisibleTo(self.ui.outputCollapsibleButton))
        tumor = modelDict(self.makeFolder("tumor"), "Tumor", regions=[UPPER])
        self.client.modelList = [*self.models, tumor]
        self.logic.refreshModels()
        self.parameters.modelPath = tumor["path"]
        self.settle()
        self.assertTrue(box.isVisibleTo(self.ui.outputCollapsibleButton))
        self.click(box)
        self.assertTrue(self.parameters.regions)

    def test_model_folders_are_added_and_removed(self):
        folder = self.makeFolder("more")
        self.client.modelList = [*self.models, modelDict(self.makeFolder("pelvis"), "Pelvis")]
        with patch.object(qt.QFileDialog, "getExistingDirectory", lambda *arguments: folder):
            self.click(self.ui.addFolderButton)
        self.assertEqual(modelFolders(), [folder])
        self.assertGreaterEqual(self.ui.modelComboBox.findText("Pelvis"), 0)
        self.assertFalse(self.ui.removeFolderButton.enabled)
        self.ui.foldersList.setCurrentRow(1)
        self.settle()
        self.click(self.ui.removeFolderButton)
        self.assertEqual(modelFolders(), [])

    def test_no_folder_is_added_when_the_dialog_is_cancelled(self):
        with patch.object(qt.QFileDialog, "getExistingDirectory", lambda *arguments: ""):
            self.click(self.ui.addFolderButton)
        self.assertEqual(modelFolders(), [])

    def test_the_folder_with_packages_is_kept_and_can_be_emptied(self):
        folder = self.makeFolder("packages")
        self.ui.wheelsPathEdit.currentPath = folder
        self.assertEqual(qt.QSettings().value(WHEELS_SETTING), folder)
        self.ui.wheelsPathEdit.currentPath = ""
        self.assertEqual(qt.QSettings().value(WHEELS_SETTING), "")

    def test_command_is_kept_and_a_wrong_one_is_refused(self):
        self.ui.commandEdit.text = "ssh gpu-box 'dinomix worker"
        self.ui.commandEdit.editingFinished()
        self.settle()
        self.assertIn("quotation mark", self.ui.testBrowser.toPlainText())
        self.assertEqual(self.logic.workerCommandText(), "")
        self.ui.commandEdit.text = "ssh gpu-box dinomix worker"
        self.ui.commandEdit.editingFinished()
        self.settle()
        self.assertEqual(self.logic.workerCommandText(), "ssh gpu-box dinomix worker")
        self.assertFalse(self.ui.testBrowser.isVisible())
        self.assertEqual(self.ui.modelComboBox.currentText, "Abdomen", "the models of the new worker are listed")

    def test_connection_report(self):
        asked, outcome = [], Task()

        def test(command):
            asked.append(command)
            return (yield outcome)

        with patch("DINOMixSegmentLib.worker_page.stepsOfTest", test):
            self.click(self.ui.testButton)
            waitUntil(lambda: asked, what="the test")
        self.assertEqual(self.ui.testButton.text, "Stop the test")
        outcome.finish({**HELLO, "models": self.models, "seconds": 2.34})
        report = self.ui.testBrowser.toPlainText()
        for text in ("here", "PyTorch 2.9", "NVIDIA A2000", "20.0 of 32.0 GB free", "Abdomen", "2.3 seconds", "shared"):
            self.assertIn(text, report)
        self.assertEqual(self.ui.testButton.text, "Test connection")

    def test_connection_that_fails_and_one_that_is_stopped(self):
        asked, outcomes = [], [Task(), Task()]

        def test(command):
            asked.append(command)
            return (yield outcomes[len(asked) - 1])

        with patch("DINOMixSegmentLib.worker_page.stepsOfTest", test):
            self.click(self.ui.testButton)
            waitUntil(lambda: asked, what="the first test")
            outcomes[0].fail("No such host.", "Check its name.")
            self.assertEqual(self.ui.testBrowser.toPlainText(), "No such host. Check its name.")
            self.click(self.ui.testButton)
            waitUntil(lambda: len(asked) == 2, what="the second test")
            self.click(self.ui.testButton)
        self.assertEqual(outcomes[1].state, "cancelled")
        self.assertEqual(self.ui.testBrowser.toPlainText(), "The test was stopped.")

    def test_log_tells_what_happened(self):
        addVolume()
        self.parameters.show3D = False
        self.settle()
        self.apply().fail("It broke.", "Mend it.")
        self.assertIn("It broke. Mend it.", self.ui.logText.toPlainText())


class NoModelTest(WindowTestCase):
    def prepare(self):
        self.models.clear()

    def test_a_button_adds_a_folder(self):
        addVolume()
        self.settle()
        self.assertIn("There is no model yet.", self.ui.setupLabel.text)
        self.assertFalse(self.ui.modelComboBox.enabled)
        self.assertFalse(self.ui.applyButton.enabled)
        folder = self.makeFolder("more")
        self.client.modelList = [modelDict(folder, "Pelvis")]
        with patch.object(qt.QFileDialog, "getExistingDirectory", lambda *arguments: folder):
            self.click(self.ui.setupButton)
        self.settle()
        self.assertFalse(self.ui.setupFrame.isVisible())
        self.assertEqual(self.ui.modelComboBox.currentText, "Pelvis")
        self.assertTrue(self.ui.applyButton.enabled)


class WrongPackagesTest(WindowTestCase):
    def prepare(self):
        self.installer.wrong = ["This computer has an NVIDIA GPU, but the installed PyTorch computes on the CPU only."]

    def test_is_shown_until_it_was_read(self):
        self.settle()
        self.assertIn("no volume yet", self.ui.setupLabel.text, "what is missing comes first")
        addVolume()
        self.settle()
        self.assertIn("NVIDIA GPU", self.ui.setupLabel.text)
        self.assertTrue(self.ui.applyButton.enabled)
        self.click(self.ui.setupButton)
        self.settle()
        self.assertFalse(self.ui.setupFrame.isVisible())

    def test_another_environment_is_not_judged(self):
        addVolume()
        self.logic.setWorkerCommandText("dinomix worker")
        self.settle()
        self.assertNotIn("NVIDIA GPU", self.ui.setupLabel.text if self.ui.setupFrame.isVisible() else "")


class InstallTest(WindowTestCase):
    def prepare(self):
        self.installer = WindowInstaller(["torch", "monai"])

    def setUp(self):
        super().setUp()
        self.volume = addVolume()
        self.settle()

    def test_nothing_is_started_before_the_packages_are_there(self):
        self.assertEqual(self.client.starts, 0)
        self.assertIn("torch, monai", self.ui.setupLabel.text)
        self.assertFalse(self.ui.applyButton.enabled)

    def test_install_with_progress_then_the_models_are_listed(self):
        self.click(self.ui.setupButton)
        self.assertEqual(self.ui.setupLabel.text, "Installing torch (1 of 2)...")
        self.assertEqual(self.ui.setupButton.text, "Cancel")
        self.installer.logged.emit("Collecting torch")
        self.assertIn("Collecting torch", self.ui.logText.toPlainText())
        self.installer.end()
        self.settle()
        self.assertFalse(self.ui.setupFrame.isVisible())
        self.assertEqual(self.ui.modelComboBox.currentText, "Abdomen")
        self.assertTrue(self.ui.applyButton.enabled)

    def test_cancelled_or_failed_installation_can_be_tried_again(self):
        self.click(self.ui.setupButton)
        self.click(self.ui.setupButton)
        self.assertEqual(self.ui.setupButton.text, "Install...")
        self.click(self.ui.setupButton)
        self.installer.cancel()
        self.installer.failed.emit("The disk is full.", "Free some space.")
        self.settle()
        self.assertEqual(self.ui.messageLabel.text, "The disk is full. Free some space.")
        self.assertEqual(self.ui.setupButton.text, "Install...")

    def test_not_agreed_to(self):
        self.answer = False
        self.click(self.ui.setupButton)
        self.assertEqual(self.ui.setupButton.text, "Install...")

    def needRestart(self):
        """The volume and a model are chosen and the packages installed; returns the file of the volume."""
        file = str(self.folder / "scan.nrrd")
        slicer.util.saveNode(self.volume, file)
        self.parameters.modelPath = self.models[0]["path"]
        self.installer.end(needsRestart=True)
        self.settle()
        self.assertEqual(self.ui.setupButton.text, "Restart")
        return file

    def clickRestart(self, answer, accepted=True):
        """Click it, answer the question about unsaved data, and save it where that was chosen.

        Returns:
            Whether Slicer restarts, and what it said of unsaved data.
        """
        restarts, questions = [], []

        def save():
            if accepted:
                for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
                    slicer.util.saveNode(node, str(self.folder / f"{node.GetName()}.nrrd"))
            return accepted

        def ask(text, **options):
            questions.append(options["detailedText"])
            return answer

        with (
            patch.object(slicer.util, "restart", lambda: restarts.append(True)),
            patch.object(slicer.util, "messageBox", ask),
            patch.object(slicer.util, "openSaveDataDialog", save),
        ):
            self.click(self.ui.setupButton)
        return bool(restarts), questions

    def test_restart_remembers_where_the_user_is(self):
        file = self.needRestart()
        self.assertEqual(self.clickRestart(qt.QMessageBox.Discard)[0], True)
        note = json.loads(qt.QSettings().value(RESUME_SETTING))
        self.assertEqual((note["volumeFile"], note["modelPath"]), (file, self.models[0]["path"]))

    def test_restart_asks_about_unsaved_data(self):
        self.needRestart()
        addVolume("drawn by hand")
        isRestarted, questions = self.clickRestart(qt.QMessageBox.Cancel)
        self.assertFalse(isRestarted)
        self.assertIn("drawn by hand", questions[0])
        self.assertIsNone(
            qt.QSettings().value(RESUME_SETTING), "nothing is resumed after a restart that was not wanted"
        )
        self.assertFalse(self.clickRestart(qt.QMessageBox.Save, accepted=False)[0])
        self.assertTrue(self.clickRestart(qt.QMessageBox.Save)[0])


class ShowMeHowTest(WindowTestCase):
    def setUp(self):
        super().setUp()
        self.volume = addVolume("CTLiver")
        self.parameters.show3D = False
        self.settle()

    def test_leads_through_a_segmentation(self):
        self.click(self.ui.showMeHowButton)
        self.assertTrue(self.ui.guideFrame.isVisible())
        self.assertEqual(self.ui.guideTitleLabel.text, "The volume")
        self.assertFalse(self.ui.showMeHowButton.enabled)
        self.click(self.ui.guideNextButton)
        self.assertEqual(self.ui.guideTitleLabel.text, "The model")
        self.assertIn("Abdomen finds liver, spleen.", self.ui.guideTextLabel.text)
        self.click(self.ui.guideNextButton)
        self.assertEqual(self.ui.guideTitleLabel.text, "Apply")
        self.click(self.ui.guideNextButton)
        self.assertFalse(self.ui.guideNextButton.enabled)
        self.client.jobsOf("segment")[0].finishWithLabels()
        self.settle()
        self.assertEqual(self.ui.guideTitleLabel.text, "The result")
        self.click(self.ui.guideNextButton)
        self.assertFalse(self.ui.outputCollapsibleButton.collapsed)
        self.assertEqual(self.ui.guideNextButton.text, "Finish")
        self.click(self.ui.guideNextButton)
        self.assertFalse(self.ui.guideFrame.isVisible())
        self.assertTrue(self.ui.showMeHowButton.enabled)

    def test_a_frame_lies_around_what_the_step_is_about(self):
        self.click(self.ui.showMeHowButton)
        highlight = self.widget.guidePanel._highlight
        self.widget.guidePanel._placeHighlight()
        self.assertTrue(highlight.isVisible())
        corner = self.ui.volumeSelector.mapTo(highlight.parent(), qt.QPoint(0, 0))
        self.assertTrue(highlight.geometry.contains(corner))

    def test_nothing_happens_without_consent(self):
        self.answer = False
        self.click(self.ui.showMeHowButton)
        self.assertFalse(self.ui.guideFrame.isVisible())

    def test_ends_when_asked_and_when_the_scene_is_closed(self):
        self.click(self.ui.showMeHowButton)
        self.click(self.ui.guideCloseButton)
        self.assertFalse(self.ui.guideFrame.isVisible())
        self.click(self.ui.showMeHowButton)
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertFalse(self.ui.guideFrame.isVisible())


if __name__ == "__main__":
    unittest.main()
