"""Segmenting one volume: from the parameter node into the scene, with a client whose answers the test decides."""

import tempfile
import unittest

import numpy as np
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import (
    LIVER,
    UPPER,
    FakeClient,
    FakeInstaller,
    Heard,
    addVolume,
    modelDict,
    segmentNames,
    segmentVoxels,
)
from waiting import waitUntil

from dinomix_slicer.worker.computing import Computing


class LogicTestCase(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.client = FakeClient([modelDict(folder.name)])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.logic.refreshModels()
        self.heard = Heard(self.logic, "notice", "finished", "failed", "cancelled")
        self.parameters = self.logic.getParameterNode()
        self.parameters.inputVolume = self.volume = addVolume()
        self.parameters.modelPath = folder.name
        self.parameters.show3D = False

    def apply(self):
        self.logic.startSegmentation(self.parameters)
        return self.client.jobs[-1]

    def assertIdle(self):
        self.assertEqual(self.logic.state, "idle")


class SegmentTest(LogicTestCase):
    def test_result_lies_on_the_volume(self):
        self.apply().finishWithLabels()
        ((segmentation,),) = self.heard.of("finished")
        self.assertEqual(segmentNames(segmentation), ["liver", "spleen"])
        expected = np.zeros((4, 5, 6), bool)
        expected[:2] = True
        np.testing.assert_array_equal(segmentVoxels(segmentation, "liver", self.volume), expected)
        np.testing.assert_array_equal(segmentVoxels(segmentation, "spleen", self.volume), ~expected)
        self.assertIdle()

    def test_regions_are_segments_where_they_are_wanted(self):
        self.apply().finishWithLabels(regions=[UPPER])
        self.assertEqual(segmentNames(self.heard.of("finished")[0][0]), ["liver", "spleen"])
        self.parameters.regions = True
        for output in (None, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")):
            self.parameters.outputSegmentation = output
            self.apply().finishWithLabels(regions=[UPPER, {**UPPER, "name": "not there", "voxels": 0}])
            ((segmentation,),) = self.heard.of("finished")[-1:]
            self.assertEqual(segmentNames(segmentation), ["liver", "spleen", "upper organs"])
            self.assertTrue(segmentVoxels(segmentation, "upper organs", self.volume).all())
            liver = segmentVoxels(segmentation, "liver", self.volume)
            self.assertTrue(liver[:2].all() and not liver[2:].any())
            display, id = segmentation.GetDisplayNode(), segmentation.GetSegmentation().GetNthSegmentID(2)
            self.assertFalse(display.GetSegmentVisibility2DFill(id))
            self.assertEqual(display.GetSegmentOpacity3D(id), 0.3)
            color = segmentation.GetSegmentation().GetSegment(id).GetColor()
            np.testing.assert_allclose(color, np.array([10, 20, 30]) / 255)
        # Written once more, each is there once.
        self.apply().finishWithLabels(np.zeros((4, 5, 6), np.uint8), regions=[{**UPPER, "voxels": 1}])
        self.assertEqual(segmentNames(segmentation), ["liver", "spleen", "upper organs"])
        self.assertFalse(segmentVoxels(segmentation, "upper organs", self.volume).any())
        self.logic.undo()
        self.assertEqual(segmentNames(segmentation), ["liver", "spleen", "upper organs"])
        self.assertTrue(segmentVoxels(segmentation, "upper organs", self.volume).all())

    def test_worker_gets_what_was_chosen(self):
        self.parameters.device = "cpu"
        self.parameters.maxMemoryGb = 2
        self.parameters.fullPrecision = self.parameters.allPieces = True
        self.parameters.keep = ["liver"]
        asked = self.apply().arguments
        self.assertEqual(asked["computing"], Computing("cpu", 2 * 2**30, "float32", allPieces=True))
        self.assertEqual(tuple(asked["keep"]), ("liver",))
        np.testing.assert_array_equal(asked["image"].array, slicer.util.arrayFromVolume(self.volume))

    def test_changing_the_choices_meanwhile_changes_nothing(self):
        job = self.apply()
        self.parameters.inputVolume = addVolume("other", (2, 2, 2))
        job.finishWithLabels()
        self.assertEqual(len(self.heard.of("finished")), 1)

    def test_progress_and_notices_are_passed_on(self):
        heard = Heard(self.logic, "progress", "notice")
        job = self.apply()
        job.progress.emit("predict", 3, 10, 7.5)
        job.notice.emit("Computing on the CPU.")
        job.finishWithLabels(notices=["The labels were resampled."])
        self.assertEqual(heard.of("progress"), [("predict", 3, 10, 7.5)])
        self.assertEqual(heard.of("notice"), [("Computing on the CPU.",), ("The labels were resampled.",)])

    def test_into_an_existing_segmentation_others_stay(self):
        self.apply().finishWithLabels(np.full((4, 5, 6), 1, np.uint8), [{**LIVER, "name": "tumor"}])
        ((segmentation,),) = self.heard.of("finished")
        self.parameters.outputSegmentation = segmentation
        self.apply().finishWithLabels()
        self.assertIs(self.heard.of("finished")[1][0], segmentation)
        self.assertTrue(segmentVoxels(segmentation, "tumor", self.volume).all())
        self.assertIn("spleen", segmentNames(segmentation))

    def test_replace_others_when_asked(self):
        self.apply().finishWithLabels(np.full((4, 5, 6), 1, np.uint8), [{**LIVER, "name": "tumor"}])
        self.parameters.outputSegmentation = self.heard.of("finished")[0][0]
        self.parameters.replaceOthers = True
        self.apply().finishWithLabels()
        self.assertFalse(segmentVoxels(self.parameters.outputSegmentation, "tumor", self.volume).any())

    def test_volume_is_shown_when_no_view_shows_it(self):
        self.apply().finishWithLabels()
        red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        self.assertEqual(red.GetBackgroundVolumeID(), self.volume.GetID())

    def test_surfaces_are_made_step_by_step(self):
        heard = Heard(self.logic, "surfacesChanged")
        self.parameters.show3D = True
        self.apply().finishWithLabels()
        self.assertTrue(self.logic.makesSurfaces())
        waitUntil(lambda: not self.logic.makesSurfaces(), what="the surfaces")
        ((segmentation,),) = self.heard.of("finished")
        self.assertTrue(segmentation.GetSegmentation().ContainsRepresentation("Closed surface"))
        self.assertEqual(heard.of("surfacesChanged")[0], (0, 2))
        self.assertEqual(heard.of("surfacesChanged")[-1], (2, 2))

    def test_surfaces_of_an_output_that_is_shown_in_3d_are_made_anew(self):
        self.parameters.show3D = True
        self.apply().finishWithLabels()
        waitUntil(lambda: not self.logic.makesSurfaces(), what="the surfaces")
        ((output,),) = self.heard.of("finished")
        self.parameters.outputSegmentation, self.parameters.show3D = output, False
        self.apply().finishWithLabels(np.full((4, 5, 6), 1, np.uint8), [{**LIVER, "name": "tumor"}])
        self.assertTrue(self.logic.makesSurfaces())
        waitUntil(lambda: not self.logic.makesSurfaces(), what="the surfaces")
        segments = [output.GetSegmentation().GetNthSegment(n) for n in range(3)]
        self.assertTrue(all(segment.GetRepresentation("Closed surface").GetNumberOfCells() for segment in segments))

    def test_surfaces_of_a_removed_segmentation_end(self):
        self.parameters.show3D = True
        self.apply().finishWithLabels()
        slicer.mrmlScene.RemoveNode(self.heard.of("finished")[0][0])
        waitUntil(lambda: not self.logic.makesSurfaces(), what="the end of the surfaces")
        self.assertEqual(self.heard.of("failed"), [])

    def test_surfaces_can_be_cancelled(self):
        self.parameters.show3D = True
        self.apply().finishWithLabels()
        self.logic.cancel()
        self.assertFalse(self.logic.makesSurfaces())
        self.assertIdle()


class UndoTest(LogicTestCase):
    def test_new_segmentation_is_removed(self):
        self.assertFalse(self.logic.canUndo())
        self.apply().finishWithLabels()
        self.assertTrue(self.logic.canUndo())
        self.logic.undo()
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])
        self.assertFalse(self.logic.canUndo())

    def test_existing_segmentation_is_as_before(self):
        self.apply().finishWithLabels()
        ((segmentation,),) = self.heard.of("finished")
        self.parameters.outputSegmentation = segmentation
        self.apply().finishWithLabels(np.full((4, 5, 6), 4, np.uint8))
        self.assertTrue(segmentVoxels(segmentation, "spleen", self.volume).all())
        self.logic.undo()
        self.assertEqual(segmentVoxels(segmentation, "spleen", self.volume).sum(), 60)
        self.logic.undo()
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_a_result_that_was_deleted_is_nothing_to_undo(self):
        self.apply().finishWithLabels()
        slicer.mrmlScene.RemoveNode(self.heard.of("finished")[0][0])
        self.assertFalse(self.logic.canUndo())
        self.logic.undo()

    def test_closing_the_scene_forgets_what_could_be_undone(self):
        self.apply().finishWithLabels()
        slicer.mrmlScene.Clear(False)
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "of the next scene")
        self.assertFalse(self.logic.canUndo())
        self.logic.undo()
        self.assertIs(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode"), other)


class EndsTest(LogicTestCase):
    def test_cancel(self):
        job = self.apply()
        self.logic.cancel()
        self.assertTrue(job.isCancelRequested)
        self.assertEqual(self.logic.state, "cancelling")
        job.confirmCancel()
        self.assertEqual(self.heard.events, [("cancelled",)])
        self.assertIdle()

    def test_apply_again_after_cancel(self):
        job = self.apply()
        self.logic.cancel()
        job.confirmCancel()
        self.apply().finishWithLabels()
        self.assertEqual(len(self.heard.of("finished")), 1)

    def test_failure_is_one_message(self):
        job = self.apply()
        job.fail("The worker ended (killed).", "Start it again.")
        self.client.die("The worker ended (killed).", "Start it again.")
        self.assertEqual(self.heard.events, [("failed", "The worker ended (killed).", "Start it again.")])
        self.assertIdle()

    def test_failure_told_by_the_client_first_is_one_message(self):
        job = self.apply()
        self.client.die("The worker ended (killed).", "Start it again.")
        job.fail("The worker ended (killed).", "Start it again.")
        self.assertEqual(len(self.heard.of("failed")), 1)

    def test_worker_that_dies_while_idle_says_so(self):
        self.client.start()
        self.client.die("The worker ended (no memory).", "Start it again.")
        self.assertEqual(self.heard.of("failed"), [("The worker ended (no memory).", "Start it again.")])

    def test_dead_worker_is_started_again_by_the_next_apply(self):
        self.apply().fail()
        self.client.die("The worker ended.", "Start it again.")
        starts = self.client.starts
        self.apply().finishWithLabels()
        self.assertEqual(self.client.starts, starts + 1)
        self.assertEqual(len(self.heard.of("finished")), 1)

    def test_scene_closed(self):
        job = self.apply()
        slicer.mrmlScene.Clear(False)
        self.assertTrue(job.isCancelRequested)
        self.assertEqual([event[0] for event in self.heard.events], ["notice", "cancelled"])
        self.assertIdle()
        job.finishWithLabels()  # it was on its way
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])
        self.assertEqual(self.heard.of("finished"), [])

    def test_volume_removed(self):
        job = self.apply()
        slicer.mrmlScene.RemoveNode(self.volume)
        self.assertTrue(job.isCancelRequested)
        ((problem, _remedy),) = self.heard.of("failed")
        self.assertIn("CT was removed", problem)
        job.finishWithLabels()
        job.confirmCancel()
        self.assertEqual(len(self.heard.events), 1)

    def test_output_removed(self):
        self.parameters.outputSegmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
        job = self.apply()
        slicer.mrmlScene.RemoveNode(self.parameters.outputSegmentation)
        self.assertTrue(job.isCancelRequested)
        self.assertIn("Organs was removed", self.heard.of("failed")[0][0])

    def test_existing_output_is_as_before_when_the_result_does_not_fit(self):
        self.apply().finishWithLabels()
        ((segmentation,),) = self.heard.of("finished")
        self.parameters.outputSegmentation = segmentation
        before = segmentNames(segmentation)
        self.apply().finishWithLabels(np.ones((2, 2, 2), np.uint8))
        self.assertEqual(len(self.heard.of("failed")), 1)
        self.assertEqual(segmentNames(segmentation), before)
        self.logic.undo()
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_volume_that_got_other_voxels_meanwhile(self):
        job = self.apply()
        slicer.util.updateVolumeFromArray(self.volume, np.zeros((2, 3, 4), np.int16))
        job.finishWithLabels()
        self.assertEqual(self.heard.of("finished"), [])
        self.assertEqual(len(self.heard.of("failed")), 1)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_cleanup_ends_everything(self):
        job = self.apply()
        self.logic.cleanup()
        self.assertTrue(job.isCancelRequested)
        self.assertEqual(self.client.state, "stopped")


class EstimateTest(LogicTestCase):
    def setUp(self):
        super().setUp()
        self.estimates = Heard(self.logic, "estimated")

    def ask(self):
        self.logic.requestEstimate(self.parameters)
        return self.client.jobs[-1]

    def answer(self, job, **more):
        answer = {"seconds": 200.0, "windows": 8, "memory": 10**9, "device": "cpu", "reason": "No GPU.", **more}
        job.finish(**answer)

    def test_cpu_is_warned_of_with_the_expected_time(self):
        self.answer(self.ask())
        ((estimate,),) = self.estimates.of("estimated")
        self.assertTrue(estimate.isWarning)
        self.assertIn("No GPU. This will take about 3 minutes.", estimate.text)

    def test_gpu_is_no_warning(self):
        self.answer(self.ask(), device="cuda:0", seconds=12)
        ((estimate,),) = self.estimates.of("estimated")
        self.assertFalse(estimate.isWarning)
        self.assertIn("12 seconds", estimate.text)

    def test_a_new_question_drops_the_old_one(self):
        first = self.ask()
        second = self.ask()
        self.answer(first, seconds=1)
        self.answer(second, seconds=100)
        self.assertEqual([estimate.seconds for (estimate,) in self.estimates.of("estimated")], [100])

    def test_apply_drops_a_question_that_waits(self):
        job = self.ask()
        job.state = "waiting"
        self.apply()
        self.assertTrue(job.isCancelRequested)

    def test_apply_does_not_disturb_a_worker_that_computes_the_answer(self):
        job = self.ask()
        self.apply()
        self.assertFalse(job.isCancelRequested)
        self.answer(job)
        self.assertEqual(self.estimates.events, [])

    def test_nothing_is_asked_while_apply_cannot_work(self):
        self.parameters.inputVolume = None
        self.logic.requestEstimate(self.parameters)
        self.assertEqual(self.client.jobs, [])


class ParameterNodeTest(LogicTestCase):
    def test_choices_survive_saving_the_scene(self):
        self.parameters.keep = ["liver", "spleen"]
        self.parameters.device = "cpu"
        self.parameters.maxMemoryGb = 3.5
        self.parameters.fullPrecision = self.parameters.replaceOthers = True
        path = self.folder + "/scene.mrb"
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear(False)
        slicer.util.loadScene(path)
        loaded = self.logic.getParameterNode()
        self.assertEqual(loaded.inputVolume.GetName(), "CT")
        self.assertEqual(list(loaded.keep), ["liver", "spleen"])
        self.assertEqual((loaded.device, loaded.maxMemoryGb), ("cpu", 3.5))
        self.assertTrue(loaded.fullPrecision and loaded.replaceOthers)
        self.assertEqual(loaded.modelPath, self.client.modelList[0]["path"])
