"""DINOMix Segment's window, driven as a person drives it, with a worker that the test plays."""

import unittest
from unittest.mock import patch

import numpy as np
import qt
import slicer
from segment_fakes import LIVER, SPLEEN, addVolume, modelDict, segmentNames
from segment_window import WindowTestCase
from waiting import processEvents, waitUntil

from dinomix_slicer.worker.owner import WorkerOwner


class ChoosingTest(WindowTestCase):
    def prepare(self):
        self.models.append(modelDict(self.makeFolder("liver"), "Liver only", structures=(LIVER,)))
        self.models.append(modelDict(self.makeFolder("broken"), "Broken", problem="It is damaged. Copy it again."))

    def test_without_a_volume_a_sentence_says_what_to_do(self):
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertTrue(self.ui.setupFrame.isVisible())
        self.assertIn("There is no volume yet.", self.ui.setupLabel.text)
        self.assertEqual(self.ui.applyButton.toolTip, self.ui.setupLabel.text)

    def test_the_obvious_volume_and_the_first_model_are_chosen(self):
        volume = addVolume("CT")
        self.settle()
        self.assertIs(self.ui.volumeSelector.currentNode(), volume)
        self.assertEqual(self.ui.modelComboBox.currentText, "Abdomen")
        self.assertTrue(self.ui.applyButton.enabled)
        self.assertFalse(self.ui.setupFrame.isVisible())

    def test_the_users_volume_is_kept_when_another_is_loaded(self):
        first = addVolume("first")
        self.settle()
        addVolume("second")
        self.settle()
        self.assertIs(self.parameters.inputVolume, first)

    def test_the_selector_and_the_parameter_follow_each_other(self):
        first, second = addVolume("first"), addVolume("second")
        self.settle()
        self.ui.volumeSelector.setCurrentNode(first)
        self.assertIs(self.parameters.inputVolume, first)
        self.parameters.inputVolume = second
        self.settle()
        self.assertIs(self.ui.volumeSelector.currentNode(), second)

    def test_another_model_shows_its_organs_and_is_remembered(self):
        addVolume()
        self.settle()
        self.choose(self.ui.modelComboBox, "Liver only")
        self.assertEqual(self.parameters.modelPath, self.models[1]["path"])
        self.assertIn("liver", self.ui.modelOrgansLabel.text)
        self.assertNotIn("spleen", self.ui.modelOrgansLabel.text)
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertEqual(self.parameters.modelPath, self.models[1]["path"])

    def test_a_broken_model_is_shown_and_cannot_be_applied(self):
        addVolume()
        self.settle()
        self.choose(self.ui.modelComboBox, "Broken")
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("It is damaged. Copy it again.", self.ui.applyButton.toolTip)
        self.assertIn("It is damaged.", self.ui.statusLabel.text)

    def test_a_model_of_another_computer_is_named_as_not_found(self):
        addVolume()
        self.parameters.modelPath = "/elsewhere/pelvis"
        self.settle()
        self.assertEqual(self.ui.modelComboBox.currentText, "pelvis (not found)")
        self.assertIn("/elsewhere/pelvis", self.ui.applyButton.toolTip)
        self.assertFalse(self.ui.modelFrame.isVisible())

    def test_the_model_card_opens(self):
        self.models[0].update(card="# Abdomen\nTrained on *ten* cases.", record={"labeled_cases": 10})
        self.widget.update()
        self.click(self.ui.modelMoreButton)
        dialog = self.widget.modelPage._dialog
        self.assertTrue(dialog.isVisible())
        parts = slicer.util.childWidgetVariables(dialog)
        self.assertIn("Trained on ten cases.", parts.cardBrowser.toPlainText())
        self.assertIn("10 labeled", parts.factsLabel.text)

    def test_vector_volume_is_refused_with_a_sentence(self):
        node = slicer.util.addVolumeFromArray(
            np.zeros((4, 4, 4, 3), np.uint8), name="photo", nodeClassName="vtkMRMLVectorVolumeNode"
        )
        self.parameters.inputVolume = node
        self.settle()
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("photo", self.ui.statusLabel.text)

    def test_volume_that_gets_its_voxels_later(self):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "late")
        self.parameters.inputVolume = node
        self.settle()
        self.assertIn("has no voxels", self.ui.applyButton.toolTip)
        slicer.util.updateVolumeFromArray(node, np.zeros((4, 4, 4), np.int16))
        self.settle()
        self.assertTrue(self.ui.applyButton.enabled, self.ui.applyButton.toolTip)

    def test_choices_survive_saving_and_loading_the_scene(self):
        addVolume("CT")
        self.settle()
        self.choose(self.ui.modelComboBox, "Liver only")
        self.ui.memorySpinBox.value = 4.5
        self.ui.show3DCheckBox.checked = False
        file = str(self.folder / "scene.mrml")
        self.assertTrue(slicer.util.saveScene(file))
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertTrue(self.ui.show3DCheckBox.checked)
        slicer.util.loadScene(file)
        self.settle()
        self.assertEqual(self.ui.modelComboBox.currentText, "Liver only")
        self.assertEqual(self.ui.volumeSelector.currentNode().GetName(), "CT")
        self.assertEqual(self.ui.memorySpinBox.value, 4.5)
        self.assertFalse(self.ui.show3DCheckBox.checked)


class ApplyTest(WindowTestCase):
    def setUp(self):
        super().setUp()
        self.volume = addVolume()
        self.parameters.show3D = False
        self.settle()

    def test_apply_shows_progress_and_the_result(self):
        job = self.apply()
        self.assertEqual(self.ui.applyButton.text, "Cancel")
        self.assertTrue(self.ui.progressBar.isVisible())
        job.progress.emit("segmenting", 3, 12, 30)
        self.assertEqual(self.ui.progressBar.value, 250)
        self.assertEqual(self.ui.statusLabel.text, "Segmenting: 30 seconds left.")
        job.progress.emit("loading", 0, 0, None)
        self.assertEqual(self.ui.progressBar.maximum, 0)
        job.finishWithLabels(notices=["Memory was short, so smaller tiles were used."])
        self.settle()
        self.assertEqual(self.ui.applyButton.text, "Apply")
        self.assertIn("has 2 segments", self.ui.statusLabel.text)
        self.assertIn("smaller tiles", self.ui.messageLabel.text)
        self.assertTrue(self.ui.resultsCollapsibleButton.isVisible())
        segmentation = self.ui.segmentsTableView.segmentationNode()
        self.assertEqual(segmentNames(segmentation), ["liver", "spleen"])

    def test_what_the_model_is_unsure_of_comes_first(self):
        unsure = {**SPLEEN, "predicted_dice": 0.4321, "unsure": True}
        self.apply().finishWithLabels(structures=({**LIVER, "predicted_dice": 0.95, "unsure": False}, unsure))
        self.settle()
        self.assertTrue(self.ui.unsureLabel.isVisible())
        self.assertIn("spleen (0.43)", self.ui.unsureLabel.text)
        self.assertNotIn("liver", self.ui.unsureLabel.text)

    def test_one_segment_is_not_many(self):
        self.apply().finishWithLabels(structures=(LIVER,))
        self.settle()
        self.assertIn("has one segment.", self.ui.statusLabel.text)

    def test_cancel_then_apply_again(self):
        job = self.apply()
        self.click(self.ui.applyButton)
        self.assertTrue(job.isCancelRequested)
        self.assertEqual(self.ui.applyButton.text, "Cancelling...")
        self.assertFalse(self.ui.applyButton.enabled)
        job.confirmCancel()
        self.settle()
        self.assertEqual(self.ui.statusLabel.text, "Cancelled. The scene is as it was before.")
        self.assertFalse(self.ui.resultsCollapsibleButton.isVisible())
        second = self.apply()
        self.assertIsNot(second, job)
        second.finishWithLabels()
        self.settle()
        self.assertIn("has 2 segments", self.ui.statusLabel.text)

    def test_failure_is_one_message_and_apply_works_again(self):
        self.apply().fail("The worker ran out of memory.", "Set a memory limit.")
        self.settle()
        self.assertEqual(self.ui.messageLabel.text, "The worker ran out of memory. Set a memory limit.")
        self.assertTrue(self.ui.applyButton.enabled)
        self.click(self.ui.messageCloseButton)
        self.assertFalse(self.ui.messageFrame.isVisible())
        self.apply().fail("Again.", "")
        self.assertEqual(self.ui.messageLabel.text, "Again.")
        self.apply()
        self.assertFalse(self.ui.messageFrame.isVisible())

    def test_undo_takes_the_result_away(self):
        self.apply().finishWithLabels()
        self.settle()
        self.click(self.ui.undoButton)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])
        self.assertFalse(self.ui.resultsCollapsibleButton.isVisible())

    def test_undo_knows_nothing_of_the_scene_before(self):
        self.parameters.outputSegmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "old")
        self.settle()
        self.apply().finishWithLabels()
        slicer.mrmlScene.Clear(False)
        addVolume("next")
        self.parameters.show3D = False
        self.settle()
        self.assertFalse(self.ui.resultsCollapsibleButton.isVisible())
        self.apply().finishWithLabels()
        self.settle()
        self.click(self.ui.undoButton)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_organs_to_keep_reach_the_worker(self):
        self.ui.organsCollapsibleButton.collapsed = False
        self.ui.organsSearchBox.text = "SPL"
        self.assertEqual(
            [self.ui.organsList.item(row).isHidden() for row in range(self.ui.organsList.count)], [True, False]
        )
        self.click(self.ui.organsNoneButton)
        self.assertEqual(list(self.parameters.keep), ["liver"])
        self.assertEqual(self.ui.organsCollapsibleButton.text, "Organs to keep (1 of 2)")
        self.ui.organsSearchBox.text = ""
        self.click(self.ui.organsNoneButton)
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("No organ is chosen.", self.ui.applyButton.toolTip)
        self.ui.organsList.item(1).setCheckState(qt.Qt.Checked)
        self.settle()
        self.assertEqual(tuple(self.apply().arguments["keep"]), ("spleen",))

    def test_all_organs_are_an_empty_choice(self):
        self.ui.organsCollapsibleButton.collapsed = False
        self.ui.organsList.item(0).setCheckState(qt.Qt.Unchecked)
        self.assertEqual(list(self.parameters.keep), ["spleen"])
        self.click(self.ui.organsAllButton)
        self.assertEqual(list(self.parameters.keep), [])

    def test_an_existing_segmentation_is_written_into(self):
        output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        self.assertFalse(self.ui.replaceOthersCheckBox.enabled)
        self.ui.outputSelector.setCurrentNode(output)
        self.settle()
        self.assertTrue(self.ui.replaceOthersCheckBox.enabled)
        self.apply().finishWithLabels()
        self.settle()
        self.assertEqual(segmentNames(output), ["liver", "spleen"])
        self.assertIs(self.ui.segmentsTableView.segmentationNode(), output)
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")), 1)

    def test_surfaces_are_shown_and_hidden(self):
        self.apply().finishWithLabels()
        self.settle()
        segmentation = self.ui.segmentsTableView.segmentationNode()
        self.assertFalse(self.ui.show3DButton.checked)
        self.click(self.ui.show3DButton)
        waitUntil(lambda: not self.ui.surfacesLabel.isVisible(), what="the surfaces")
        self.assertTrue(segmentation.GetSegmentation().ContainsRepresentation("Closed surface"))
        self.assertTrue(self.ui.show3DButton.checked)
        self.click(self.ui.show3DButton)
        self.assertFalse(segmentation.GetDisplayNode().GetVisibility3D())
        self.assertFalse(self.ui.show3DButton.checked)

    def test_the_expected_time_is_shown_and_a_slow_one_is_warned_of(self):
        job = self.waitForJobs("estimate", 1)
        job.finish(seconds=900, memory=None, device="cpu", reason="There is no graphics card.")
        self.settle()
        self.assertIn("There is no graphics card. This will take about 15 minutes.", self.ui.statusLabel.text)
        self.assertTrue(self.ui.statusIconLabel.isVisible())

    def test_every_change_of_what_it_depends_on_asks_for_the_time_anew(self):
        self.waitForJobs("estimate", 1).finish(seconds=9, memory=None, device="cuda", reason="A card is there.")
        self.settle()
        self.assertIn("9 seconds", self.ui.statusLabel.text)
        self.choose(self.ui.deviceComboBox, "CPU")
        self.assertNotIn("9 seconds", self.ui.statusLabel.text)
        self.assertEqual(self.waitForJobs("estimate", 2).arguments["computing"].device, "cpu")
        processEvents(500)
        self.assertEqual(len(self.client.jobsOf("estimate")), 2)

    def test_a_dead_worker_is_started_again_by_a_button(self):
        self.client.die("The worker stopped: killed.", "Try again.")
        self.settle()
        self.assertEqual(self.ui.messageLabel.text, "The worker stopped: killed. Try again.")
        self.assertEqual(self.ui.setupButton.text, "Start again")
        self.click(self.ui.setupButton)
        self.assertFalse(self.ui.setupFrame.isVisible())
        self.assertEqual(self.client.state, "ready")


class InterruptedTest(WindowTestCase):
    def setUp(self):
        super().setUp()
        self.volume = addVolume()
        self.parameters.show3D = False
        self.settle()
        self.job = self.apply()

    def assertIdle(self):
        self.settle()
        self.assertEqual(self.logic.state, "idle")
        self.assertEqual(self.ui.applyButton.text, "Apply")

    def test_volume_deleted_while_running(self):
        slicer.mrmlScene.RemoveNode(self.volume)
        self.assertIdle()
        self.assertTrue(self.job.isCancelRequested)
        self.assertIn("was removed from the scene", self.ui.messageLabel.text)
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("no volume", self.ui.setupLabel.text)

    def test_scene_closed_while_running(self):
        slicer.mrmlScene.Clear(False)
        self.assertIdle()
        self.assertTrue(self.job.isCancelRequested)
        self.job.confirmCancel()
        addVolume("next")
        self.settle()
        self.apply().finishWithLabels()
        self.settle()
        self.assertIn("has 2 segments", self.ui.statusLabel.text)

    def test_model_folder_removed_while_running(self):
        (self.folder / "abdomen").rmdir()
        self.job.fail("The model folder is gone.", "Choose another model.")
        self.assertIdle()
        self.assertIn("The model folder is gone.", self.ui.messageLabel.text)
        self.assertFalse(self.ui.applyButton.enabled)
        self.assertIn("is gone", self.ui.applyButton.toolTip)

    def test_leaving_the_module_while_running(self):
        self.widget.exit()
        self.job.finishWithLabels()
        self.widget.enter()
        self.settle()
        self.assertIn("has 2 segments", self.ui.statusLabel.text)

    def test_window_closed_while_running(self):
        before = self.ui.statusLabel.text
        self.widget.cleanup()
        self.assertTrue(self.job.isCancelRequested)
        self.assertEqual(self.client.state, "stopped")
        self.job.confirmCancel()
        self.settle()
        self.assertEqual(self.ui.statusLabel.text, before)


class ReloadTest(unittest.TestCase):
    def test_reload_gives_a_new_window_that_works(self):
        slicer.mrmlScene.Clear(False)
        panel = slicer.modules.dinomixsegment.widgetRepresentation()
        before = panel.self()
        addVolume("CT")
        before.onReload()
        processEvents(20)
        after = panel.self()
        self.assertIsNot(after, before)
        self.assertIsNot(type(after.logic), type(before.logic))
        after.update()
        self.assertEqual(after.ui.volumeSelector.nodeCount(), 1)
        self.assertEqual(after.logic.getParameterNode().inputVolume.GetName(), "CT")

    def test_a_window_in_sight_goes_on_after_a_reload(self):
        slicer.mrmlScene.Clear(False)
        first, second = addVolume("first"), addVolume("second")
        panel = slicer.modules.dinomixsegment.widgetRepresentation()
        self.addCleanup(panel.exit)
        with patch.object(WorkerOwner, "refreshModels") as asked:
            panel.enter()
            panel.self().onReload()
        self.assertEqual(asked.call_count, 2)
        window = panel.self()
        window.ui.volumeSelector.setCurrentNode(first)
        self.assertIs(window.logic.getParameterNode().inputVolume, first)
        window.ui.volumeSelector.setCurrentNode(second)
        self.assertIs(window.logic.getParameterNode().inputVolume, second)


if __name__ == "__main__":
    unittest.main()
