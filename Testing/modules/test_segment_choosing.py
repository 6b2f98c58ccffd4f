"""Which volume is chosen, and what is said when Apply cannot work."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
from DINOMixSegmentLib.choosing import obviousVolume
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import SPLEEN, FakeClient, FakeInstaller, addVolume, modelDict


def show(volume, view="Red"):
    slicer.app.layoutManager().sliceWidget(view).mrmlSliceCompositeNode().SetBackgroundVolumeID(
        volume.GetID() if volume else None
    )


class ObviousVolumeTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        for view in slicer.app.layoutManager().sliceViewNames():
            show(None, view)

    def test_none_in_an_empty_scene(self):
        self.assertIsNone(obviousVolume())

    def test_the_newest_when_none_is_shown(self):
        addVolume("first")
        newest = addVolume("second")
        self.assertIs(obviousVolume(), newest)

    def test_the_shown_one_before_the_newest(self):
        first = addVolume("first")
        addVolume("second")
        show(first, "Green")
        self.assertIs(obviousVolume(), first)

    def test_the_red_view_before_the_others(self):
        first, second = addVolume("first"), addVolume("second")
        show(first, "Red")
        show(second, "Yellow")
        self.assertIs(obviousVolume(), first)

    def test_what_cannot_be_segmented_is_passed_over(self):
        volume = addVolume()
        labels = slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.uint8), nodeClassName="vtkMRMLLabelMapVolumeNode")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        show(labels)
        self.assertIs(obviousVolume(), volume)


class WhyNotTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.model = Path(folder.name) / "model"
        self.model.mkdir()
        self.installer = FakeInstaller()
        self.client = FakeClient([modelDict(self.model)])
        self.logic = DINOMixSegmentLogic(self.client, self.installer)
        self.addCleanup(self.logic.cleanup)
        self.parameters = self.logic.getParameterNode()

    def whyNot(self):
        sentence = self.logic.checkCanApply(self.parameters)
        if sentence is not None:
            self.assertRegex(sentence, r"^[A-Z].+\.$")
        return sentence

    def makeReady(self):
        self.parameters.inputVolume = addVolume()
        self.parameters.modelPath = str(self.model)
        self.assertIsNone(self.whyNot())

    def test_empty_scene(self):
        self.assertIn("There is no volume yet", self.whyNot())

    def test_volume_not_chosen(self):
        addVolume()
        self.assertIn("Choose the volume", self.whyNot())

    def test_two_slices_are_no_reason(self):
        self.makeReady()
        self.parameters.inputVolume = addVolume("thin", (2, 8, 8))
        self.assertIsNone(self.whyNot())

    def test_vector_volume(self):
        self.makeReady()
        colors = slicer.util.addVolumeFromArray(
            np.zeros((3, 4, 5, 3), np.uint8), name="photo", nodeClassName="vtkMRMLVectorVolumeNode"
        )
        self.parameters.inputVolume = colors
        self.assertIn("photo has 3 numbers per voxel", self.whyNot())

    def test_volume_without_voxels(self):
        self.makeReady()
        self.parameters.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
        self.assertIn("hollow has no voxels", self.whyNot())

    def test_no_model_chosen(self):
        self.parameters.inputVolume = addVolume()
        self.assertIn("There is no model yet", self.whyNot())
        self.logic.client.state = "starting"
        self.assertIn("The worker is starting", self.whyNot())
        self.logic.client.state = "ready"
        self.logic.refreshModels()
        self.assertIn("Choose a model", self.whyNot())

    def test_model_folder_gone(self):
        self.makeReady()
        self.model.rmdir()
        self.assertIn("is gone", self.whyNot())

    def test_model_folder_on_another_computer_is_not_looked_for_here(self):
        self.makeReady()
        self.client.hello = {"shares_files": False}
        self.parameters.modelPath = "/only/there/model"
        self.assertIsNone(self.whyNot())

    def test_damaged_model_says_its_problem(self):
        self.makeReady()
        self.client.modelList = [modelDict(self.model, problem="labels.json is missing.")]
        self.logic.refreshModels()
        self.assertIn("labels.json is missing", self.whyNot())

    def test_organs_of_another_model(self):
        self.makeReady()
        self.client.modelList = [modelDict(self.model, structures=[SPLEEN])]
        self.logic.refreshModels()
        self.parameters.keep = ["spleen"]
        self.assertIsNone(self.whyNot())
        self.parameters.keep = ["spleen", "heart"]
        self.assertIn("does not find heart", self.whyNot())

    def test_missing_dependencies(self):
        self.makeReady()
        self.installer.names = ["torch", "monai"]
        self.assertIn("torch, monai", self.whyNot())
        self.installer.names = []
        self.assertIsNone(self.whyNot())

    def test_another_worker_command_needs_nothing_installed_here(self):
        self.installer.names = ["torch"]
        self.makeReadyWithCommand("ssh gpu dinomix worker")
        self.assertEqual(self.logic.missingDependencies(), [])

    def makeReadyWithCommand(self, text):
        self.logic.setWorkerCommandText(text)
        self.addCleanup(self.logic.setWorkerCommandText, "")
        self.assertEqual(self.logic.workerCommandText(), text)

    def test_while_segmenting(self):
        self.makeReady()
        self.logic.startSegmentation(self.parameters)
        self.assertIn("is segmenting", self.whyNot())

    def test_nothing_starts_when_it_cannot(self):
        problems = []
        self.logic.failed.connect(lambda problem, remedy: problems.append(problem))
        self.logic.startSegmentation(self.parameters)
        self.assertEqual(problems, [self.whyNot()])
        self.assertEqual(self.logic.state, "idle")
        self.assertEqual(self.client.jobs, [])
