"""A model that sees several images of a case: choosing their volumes, segmenting them together, and batches of cases."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeClient, FakeInstaller, Heard, addVolume, modelDict, segmentVoxels
from segment_window import WindowTestCase
from waiting import waitUntil

from dinomix.errors import DinomixError

CHANNELS = [{"name": "t1", "modality": "MR"}, {"name": "t2", "modality": "MR"}]


class WindowTest(WindowTestCase):
    def prepare(self):
        petCt = [{"name": "ct", "modality": "CT"}, {"name": "pet", "modality": "PT"}]
        self.models += [
            modelDict(self.makeFolder("brain"), "Brain", channels=CHANNELS),
            modelDict(self.makeFolder("pet"), "Petct", channels=petCt),
        ]

    def rows(self):
        """Label and volume of each row that is shown, the first one's too."""
        shown = [(self.ui.volumeLabel.text, self.ui.volumeSelector.currentNode())]
        for label, selector in self.widget.channelRows._rows:
            self.assertEqual(label.isVisible(), selector.isVisible())
            if selector.isVisible():
                shown.append((label.text, selector.currentNode()))
        return [(text, node.GetName() if node is not None else None) for text, node in shown]

    def chooseVolume(self, number, volume):
        """Choose the volume of a further channel, counted from 1."""
        selector = self.widget.channelRows._rows[number - 1][1]
        selector.setCurrentNode(volume)
        selector.nodeActivated.emit(volume)
        self.settle()

    def test_a_model_of_one_image_has_one_row_as_ever(self):
        addVolume("a_t1")
        self.settle()
        self.assertEqual(self.rows(), [("Volume:", "a_t1")])
        self.assertEqual(self.widget.channelRows._rows, [])

    def test_volumes_are_proposed_by_name_and_a_choice_is_kept(self):
        for name in ("a_t1", "a_t2", "b_t1", "b_t2"):
            addVolume(name)
        self.settle()
        self.assertEqual(self.rows(), [("Volume:", "b_t2")])  # the newest
        self.choose(self.ui.modelComboBox, "Brain")
        self.settle()
        self.assertEqual(self.rows(), [("Volume t1:", "b_t1"), ("Volume t2:", "b_t2")])
        self.assertIn("t1 and t2 (MR)", self.ui.modelFactsLabel.text)
        # Another first volume brings its own case along.
        self.ui.volumeSelector.setCurrentNode(slicer.util.getNode("a_t1"))
        self.settle()
        self.assertEqual(self.rows(), [("Volume t1:", "a_t1"), ("Volume t2:", "a_t2")])
        # What the user chooses stays, also beside another first volume.
        self.chooseVolume(1, slicer.util.getNode("b_t2"))
        self.settle()
        self.ui.volumeSelector.setCurrentNode(slicer.util.getNode("b_t1"))
        self.ui.volumeSelector.setCurrentNode(slicer.util.getNode("a_t1"))
        self.settle()
        self.assertEqual(self.rows(), [("Volume t1:", "a_t1"), ("Volume t2:", "b_t2")])
        self.choose(self.ui.modelComboBox, "Petct")
        self.assertEqual(self.rows(), [("Volume ct:", "a_t1"), ("Volume pet:", None)])
        self.assertEqual(self.ui.statusLabel.text, "Choose the volume for pet.")
        self.choose(self.ui.modelComboBox, "Abdomen")
        self.assertEqual(self.rows(), [("Volume:", "a_t1")])

    def test_a_volume_that_comes_later_is_proposed(self):
        addVolume("a_t1")
        self.settle()
        self.choose(self.ui.modelComboBox, "Brain")
        self.assertEqual(self.rows(), [("Volume t1:", "a_t1"), ("Volume t2:", None)])
        self.assertFalse(self.ui.applyButton.enabled)
        addVolume("a_t2")
        self.settle()
        self.assertEqual(self.rows()[1], ("Volume t2:", "a_t2"))
        self.assertTrue(self.ui.applyButton.enabled, self.ui.applyButton.toolTip)
        slicer.mrmlScene.RemoveNode(slicer.util.getNode("a_t2"))
        self.settle()
        self.assertEqual(self.rows()[1], ("Volume t2:", None))

    def test_all_images_of_the_case_go_to_the_worker(self):
        first, second = addVolume("t1"), addVolume("t2", (7, 6, 5))
        self.settle()
        self.choose(self.ui.modelComboBox, "Brain")
        job = self.apply()
        self.assertTrue(np.shares_memory(job.arguments["image"].array, slicer.util.arrayFromVolume(first)))
        self.assertEqual([image.array.shape for image in job.arguments["more"]], [(7, 6, 5)])
        job.finishWithLabels()
        self.settle()
        (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self.assertIs(segmentation.GetNodeReference("referenceImageGeometryRef"), first)
        self.assertIsNotNone(second)

    def test_one_volume_for_two_channels_is_refused(self):
        volume = addVolume("t1")
        self.settle()
        self.choose(self.ui.modelComboBox, "Brain")
        self.chooseVolume(1, volume)
        self.settle()
        self.assertEqual(self.ui.statusLabel.text, "t1 is chosen for t1 and t2. Choose another volume for one of them.")

    def test_a_swap_that_the_worker_sees_is_told_in_the_windows_words(self):
        addVolume("t1"), addVolume("t2")
        self.settle()
        self.choose(self.ui.modelComboBox, "Brain")
        # What the client makes of the engine's error is tested with the client.
        self.apply().fail("The images seem to be in each other's place.", "Choose one image for each channel.")
        self.settle()
        self.assertTrue(self.ui.messageFrame.isVisible())

    def test_a_saved_scene_keeps_the_choice(self):
        for name in ("a_t1", "a_t2", "b_t2"):
            addVolume(name)
        self.settle()
        self.choose(self.ui.modelComboBox, "Brain")
        self.chooseVolume(1, slicer.util.getNode("b_t2"))
        self.ui.volumeSelector.setCurrentNode(slicer.util.getNode("a_t1"))
        self.settle()
        self.closeWindow()
        self.openWindow()
        self.settle()
        self.assertEqual(self.rows(), [("Volume t1:", "a_t1"), ("Volume t2:", "b_t2")])

    def test_closing_the_scene_leaves_nothing_chosen(self):
        addVolume("t1"), addVolume("t2")
        self.settle()
        self.choose(self.ui.modelComboBox, "Brain")
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertEqual([name for _label, name in self.rows()], [None] * len(self.rows()))
        self.assertEqual([*self.parameters.moreVolumes], [None] * len(self.parameters.moreVolumes))


class BatchTest(WindowTestCase):
    def prepare(self):
        self.models = [modelDict(self.makeFolder("brain"), "Brain", channels=CHANNELS)]

    def open(self):
        self.ui.batchCollapsibleButton.collapsed = False
        self.settle()

    def titles(self):
        table = self.ui.batchTable
        return [table.item(row, 0).text() for row in range(table.rowCount)]

    def test_cases_of_the_scene(self):
        for name in ("a_t1", "b_t2", "b_t1", "a_t2", "c_t1", "scout"):
            addVolume(name)
        self.open()
        self.assertEqual(self.titles(), ["a_t1 + a_t2", "b_t1 + b_t2"])
        said = "2 cases will be segmented. Left out: scout fits none of t1, t2. Beside c_t1 there is no t2."
        self.assertEqual(self.ui.batchLabel.text, said)
        self.click(self.ui.batchButton)
        job = self.waitForJobs("segment", 1)
        self.assertEqual(len(job.arguments["more"]), 1)
        job.finishWithLabels()
        self.waitForJobs("segment", 2).finishWithLabels()
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")}
        self.assertEqual(len(names), 2)

    def test_cases_of_a_folder_of_the_data_tree(self):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        study = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "study")
        for name in ("T1 mprage", "T2 tse"):
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(addVolume(name)), study)
        addVolume("other t1")
        self.open()
        self.choose(self.ui.batchSourceComboBox, self.ui.batchSourceComboBox.itemText(1))
        self.ui.batchHierarchyComboBox.setCurrentItem(study)
        self.settle()
        self.assertEqual(self.titles(), ["T1 mprage + T2 tse"])
        self.assertEqual(self.ui.batchLabel.text, "One case will be segmented.")

    def test_cases_of_a_folder_on_disk(self):
        scans = self.folder / "scans"
        (scans / "c").mkdir(parents=True)
        volume = addVolume()
        for name in ("a_0000.nrrd", "a_0001.nrrd", "b_0000.nrrd", "a.seg.nrrd"):
            slicer.util.saveNode(volume, str(scans / name))
        (scans / "c").rmdir()
        self.open()
        self.choose(self.ui.batchSourceComboBox, self.ui.batchSourceComboBox.itemText(2))
        self.parameters.batchInputFolder = str(scans)
        self.parameters.batchOutputFolder = str(self.folder / "out")
        self.settle()
        self.assertEqual(self.titles(), ["a_0000.nrrd + a_0001.nrrd"])
        self.assertIn("Left out: The case b lacks the channel t2 (_0001).", self.ui.batchLabel.text)
        self.click(self.ui.batchButton)
        job = self.waitForJobs("segmentFile", 1)
        self.assertEqual(job.arguments["imagePath"], str(scans / "a_0000.nrrd"))
        self.assertEqual(job.arguments["more"], [str(scans / "a_0001.nrrd")])
        self.assertEqual(job.arguments["outPath"], str(self.folder / "out" / "a.seg.nrrd"))

    def test_a_folder_without_any_case(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.open()
        self.choose(self.ui.batchSourceComboBox, self.ui.batchSourceComboBox.itemText(2))
        self.parameters.batchInputFolder = str(empty)
        self.settle()
        self.assertIn("holds no images", self.ui.batchLabel.text)
        self.assertFalse(self.ui.batchButton.enabled)


class LogicTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.model = Path(folder.name)
        self.client = FakeClient([modelDict(self.model, "Brain", channels=CHANNELS)])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.volumes = {"t2": addVolume("two", (7, 6, 5)), "t1": addVolume("one")}

    def segment(self, volume, **options):
        """The line of scripts, while the test answers for the worker."""
        qt.QTimer.singleShot(0, lambda: self.client.jobs[-1].finishWithLabels())
        return self.logic.segment(volume, **options)

    def test_volumes_by_the_names_of_channels(self):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 12)
        transform.SetMatrixTransformToParent(matrix)
        self.volumes["t1"].SetAndObserveTransformNodeID(transform.GetID())
        for model in ("Brain", str(self.model)):
            segmentation = self.segment(self.volumes, model=model)
            asked = self.client.jobs[-1].arguments
            self.assertEqual([image.array.shape for image in (asked["image"], *asked["more"])], [(4, 5, 6), (7, 6, 5)])
            difference = asked["image"].affineRas - asked["more"][0].affineRas
            np.testing.assert_allclose(difference[:3, 3], [12, 0, 0])
            self.assertEqual(segmentation.GetTransformNodeID(), transform.GetID())
            found = segmentVoxels(segmentation, "liver", self.volumes["t1"])
            self.assertEqual(found.shape, (4, 5, 6))

    def test_other_channels_than_the_models_are_refused(self):
        cases = (
            ({"t1": self.volumes["t1"]}, "sees the channels t1, t2; t1 were given"),
            ({"t1": self.volumes["t1"], "flair": self.volumes["t2"]}, "sees the channels t1, t2; t1, flair were given"),
            (self.volumes["t1"], "sees 2 volumes of a case .t1, t2.. Give one for each"),
            ({"t1": self.volumes["t1"], "t2": self.volumes["t1"]}, "one is chosen for t1 and t2"),
        )
        for volume, problem in cases:
            with self.assertRaisesRegex(DinomixError, problem):
                self.logic.segment(volume, "Brain")
        self.client.modelList = [modelDict(self.model, "Abdomen")]
        with self.assertRaisesRegex(DinomixError, "sees one volume of a case. Give the volume alone"):
            self.logic.segment(self.volumes, "Abdomen")

    def test_a_volume_that_goes_ends_the_run(self):
        heard = Heard(self.logic, "failed")
        parameters = self.logic.getParameterNode()
        self.logic.refreshModels()
        parameters.modelPath = str(self.model)
        parameters.inputVolume = self.volumes["t1"]
        parameters.moreChannels, parameters.moreVolumes = ["t2"], [self.volumes["t2"]]
        self.assertIsNone(self.logic.checkCanApply(parameters))
        self.logic.startSegmentation(parameters)
        slicer.mrmlScene.RemoveNode(self.volumes["t2"])
        self.assertIn("two was removed", heard.of("failed")[0][0])
