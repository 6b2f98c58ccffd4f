"""All frames of a sequence, with a client whose answers the test decides."""

import tempfile
import unittest

import numpy as np
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import LIVER, SPLEEN, FakeClient, FakeInstaller, Heard, addVolume, modelDict, segmentVoxels

SHAPE = (4, 5, 6)
FRAMES = 3


def addSequence():
    """A sequence of volumes whose voxels all have the frame's number; returns the browser and the node that shows it."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "beating")
    for number in range(FRAMES):
        frame = addVolume("frame", SHAPE)
        slicer.util.updateVolumeFromArray(frame, np.full(SHAPE, number, np.int16))
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser, browser.GetProxyNode(sequence)


class SequenceTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.client = FakeClient([modelDict(folder.name)])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.heard = Heard(self.logic, "progress", "notice", "finished", "failed", "cancelled")
        self.browser, self.volume = addSequence()
        self.parameters = self.logic.getParameterNode()
        self.parameters.inputVolume = self.volume
        self.parameters.modelPath = folder.name
        self.parameters.show3D = False
        self.parameters.allFrames = True

    def finishFrame(self, number):
        """The liver has one voxel more in each frame."""
        labels = np.full(SHAPE, 4, np.uint8)
        labels.flat[: number + 1] = 1
        self.client.jobs[number].finishWithLabels(labels, [LIVER, SPLEEN], notices=["Computing on the CPU."])

    def finishAll(self):
        self.logic.startSegmentation(self.parameters)
        for number in range(FRAMES):
            self.finishFrame(number)

    def nodesLeft(self):
        names = ("vtkMRMLSegmentationNode", "vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode")
        return [slicer.mrmlScene.GetNumberOfNodesByClass(name) for name in names]

    def test_every_frame_gets_its_own_segmentation(self):
        self.finishAll()
        for number, job in enumerate(self.client.jobs):
            self.assertTrue((job.arguments["image"].array == number).all())
        ((segmentation,),) = self.heard.of("finished")
        for number in range(FRAMES):
            self.browser.SetSelectedItemNumber(number)
            self.assertEqual(segmentVoxels(segmentation, "liver", self.volume).sum(), number + 1)
        self.assertEqual(self.heard.of("notice"), [("Computing on the CPU.",)])

    def test_a_sequence_is_asked_about_once(self):
        doubts = []
        self.logic.doubted.connect(doubts.append)
        self.logic.startSegmentation(self.parameters)
        self.finishFrame(0)
        self.client.jobs[1].refuse()
        (doubt,) = doubts
        doubt.finish(True)
        self.assertEqual(len(self.client.jobs), 3)
        self.finishFrame(2)
        self.assertEqual(len(self.client.jobs), FRAMES + 1)
        self.assertTrue(self.client.jobs[-1].arguments["computing"].anyImage)
        self.finishFrame(3)
        self.assertEqual((len(self.heard.of("finished")), len(doubts)), (1, 1))

    def test_progress_names_the_frame(self):
        self.logic.startSegmentation(self.parameters)
        self.client.jobs[0].progress.emit("segment", 1, 4, 3.0)
        self.assertEqual(self.heard.of("progress"), [("frame 1 of 3: segment", 1, 4, 3.0)])

    def test_only_the_shown_frame_when_not_asked_for_all(self):
        self.parameters.allFrames = False
        self.browser.SetSelectedItemNumber(1)
        self.logic.startSegmentation(self.parameters)
        self.assertTrue((self.client.jobs[0].arguments["image"].array == 1).all())
        self.client.jobs[0].finishWithLabels()
        self.assertEqual(len(self.heard.of("finished")), 1)
        self.assertEqual(len(self.client.jobs), 1)

    def test_a_volume_that_is_no_frame_is_segmented_alone(self):
        self.parameters.inputVolume = addVolume()
        self.logic.startSegmentation(self.parameters)
        self.client.jobs[0].finishWithLabels()
        self.assertEqual(len(self.heard.of("finished")), 1)

    def test_undo_takes_all_frames_back(self):
        before = self.nodesLeft()
        self.finishAll()
        self.assertNotEqual(self.nodesLeft(), before)
        self.logic.undo()
        self.assertEqual(self.nodesLeft(), before)

    def test_cancel_leaves_nothing(self):
        before = self.nodesLeft()
        self.logic.startSegmentation(self.parameters)
        self.finishFrame(0)
        self.logic.cancel()
        self.client.jobs[1].confirmCancel()
        self.assertEqual([event[0] for event in self.heard.events if event[0] != "notice"], ["cancelled"])
        self.assertEqual(self.nodesLeft(), before)

    def test_failed_frame_leaves_nothing(self):
        before = self.nodesLeft()
        self.logic.startSegmentation(self.parameters)
        self.finishFrame(0)
        self.client.jobs[1].fail("No memory.", "Crop it.")
        self.assertEqual(self.heard.of("failed"), [("No memory.", "Crop it.")])
        self.assertEqual(self.nodesLeft(), before)
        self.assertEqual(self.logic.state, "idle")

    def test_browser_removed(self):
        self.logic.startSegmentation(self.parameters)
        slicer.mrmlScene.RemoveNode(self.browser)
        self.assertIn("was removed", self.heard.of("failed")[0][0])
        self.assertTrue(self.client.jobs[0].isCancelRequested)

    def test_scene_closed(self):
        self.logic.startSegmentation(self.parameters)
        self.finishFrame(0)
        slicer.mrmlScene.Clear(False)
        self.assertEqual(len(self.heard.of("cancelled")), 1)
        self.finishFrame(1)
        self.assertEqual(self.nodesLeft(), [0, 0, 0])

    def test_existing_output_is_refused_with_a_sentence(self):
        self.parameters.outputSegmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.assertIn("Choose a new segmentation", self.logic.checkCanApply(self.parameters))
