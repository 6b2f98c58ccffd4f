"""The batch: volumes of the scene, of a subject hierarchy folder, and images on disk."""

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import slicer
from DINOMixSegmentLib.batch_items import itemsOfDisk, itemsOfHierarchyFolder, itemsOfScene
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from segment_fakes import FakeClient, FakeInstaller, Heard, addVolume, modelDict
from waiting import processEvents, waitUntil

from dinomix.errors import DinomixError


class BatchTestCase(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.client = FakeClient([modelDict(folder.name)])
        self.logic = DINOMixSegmentLogic(self.client, FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.parameters = self.logic.getParameterNode()
        self.parameters.modelPath = folder.name
        self.heard = Heard(self.logic, "batchFinished", "failed", "cancelled", "finished", "progress")

    def start(self, items):
        self.logic.startBatch(items, self.parameters)
        self.waitForJob(1)

    def waitForJob(self, number):
        waitUntil(lambda: len(self.client.jobs) >= number, what=f"job {number}")
        return self.client.jobs[number - 1]

    def waitForEnd(self):
        waitUntil(lambda: self.heard.of("batchFinished"), what="the end of the batch")
        self.assertEqual(self.logic.state, "idle")

    def states(self):
        return [item.state for item in self.logic.batchItems]


class SceneBatchTest(BatchTestCase):
    def test_every_volume_gets_a_segmentation(self):
        volumes = [addVolume("one"), addVolume("two")]
        self.start(itemsOfScene())
        self.assertEqual(self.states(), ["running", "waiting"])
        self.waitForJob(1).finishWithLabels()
        self.waitForJob(2).finishWithLabels()
        self.waitForEnd()
        self.assertEqual(self.states(), ["done", "done"])
        for item, volume in zip(self.logic.batchItems, volumes, strict=True):
            self.assertIs(
                item.segmentation.GetNodeReference(item.segmentation.GetReferenceImageGeometryReferenceRole()), volume
            )
            self.assertIn(item.segmentation.GetName(), item.detail)
        self.assertEqual([p[1:3] for p in self.heard.of("progress")], [(0, 2), (1, 2), (2, 2)])
        self.assertEqual(self.heard.of("finished"), [])

    def test_one_that_fails_does_not_stop_the_others(self):
        addVolume("one")
        addVolume("two")
        self.start(itemsOfScene())
        self.waitForJob(1).fail("The volume is empty.", "Crop it less.")
        self.waitForJob(2).finishWithLabels()
        self.waitForEnd()
        self.assertEqual(self.states(), ["failed", "done"])
        self.assertEqual(self.logic.batchItems[0].detail, "The volume is empty. Crop it less.")
        self.assertEqual(self.heard.of("failed"), [])

    def test_a_row_says_what_the_user_should_know_of_it(self):
        addVolume()
        self.start(itemsOfScene())
        job = self.waitForJob(1)
        job.notice.emit("Half precision was used.")
        job.finishWithLabels(notices=["Memory was short."])
        self.waitForEnd()
        self.assertTrue(
            self.logic.batchItems[0].detail.endswith("segmentation. Half precision was used. Memory was short.")
        )

    def test_volume_removed_while_it_waits_or_runs(self):
        one, two = addVolume("one"), addVolume("two")
        addVolume("three")
        self.start(itemsOfScene())
        slicer.mrmlScene.RemoveNode(two)
        slicer.mrmlScene.RemoveNode(one)
        self.waitForJob(2).finishWithLabels()
        self.waitForEnd()
        self.assertEqual(self.states(), ["failed", "failed", "done"])
        for item in self.logic.batchItems[:2]:
            self.assertIn(f"{item.title} was removed", item.detail)

    def test_cancel_stops_all(self):
        for name in ("one", "two", "three"):
            addVolume(name)
        self.start(itemsOfScene())
        self.waitForJob(1).finishWithLabels()
        job = self.waitForJob(2)
        self.logic.cancel()
        self.assertTrue(job.isCancelRequested)
        job.confirmCancel()
        self.waitForEnd()
        self.assertEqual(self.states(), ["done", "skipped", "skipped"])
        self.assertEqual(len(self.heard.of("cancelled")), 1)
        self.assertEqual(len(self.client.jobs), 2)

    def test_closed_scene_stops_all(self):
        addVolume("one")
        addVolume("two")
        self.start(itemsOfScene())
        slicer.mrmlScene.Clear(False)
        self.waitForEnd()
        self.assertEqual(self.states(), ["skipped", "skipped"])
        self.assertEqual(len(self.client.jobs), 1)

    def test_results_can_be_undone(self):
        addVolume("one")
        addVolume("two")
        self.start(itemsOfScene())
        self.waitForJob(1).finishWithLabels()
        self.waitForJob(2).finishWithLabels()
        self.waitForEnd()
        self.logic.undo()
        self.logic.undo()
        self.assertFalse(self.logic.canUndo())
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [])

    def test_only_the_shown_volumes_result_is_visible(self):
        shown = addVolume("one")
        addVolume("two")
        slicer.util.setSliceViewerLayers(background=shown)
        self.start(itemsOfScene())
        self.waitForJob(1).finishWithLabels()
        self.waitForJob(2).finishWithLabels()
        self.waitForEnd()
        visible = [bool(item.segmentation.GetDisplayNode().GetVisibility()) for item in self.logic.batchItems]
        self.assertEqual(visible, [True, False])

    def test_nothing_to_segment(self):
        self.assertIn("nothing to segment", self.logic.checkCanStartBatch([], self.parameters))
        self.logic.startBatch([], self.parameters)
        self.assertEqual(len(self.heard.of("failed")), 1)


class HierarchyBatchTest(BatchTestCase):
    def test_volumes_under_a_folder_in_its_order(self):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
        study = hierarchy.CreateStudyItem(patient, "Study")
        inside, outside, deeper = addVolume("inside"), addVolume("outside"), addVolume("deeper")
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(deeper), study)
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(inside), patient)
        labels = slicer.util.addVolumeFromArray(
            np.ones((4, 5, 6), np.uint8), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
        )
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(labels), patient)
        self.assertEqual({item.volume for item in itemsOfHierarchyFolder(patient)}, {inside, deeper})
        self.assertEqual([item.volume for item in itemsOfHierarchyFolder(study)], [deeper])
        own = hierarchy.GetItemByDataNode(outside)
        self.assertEqual([item.volume for item in itemsOfHierarchyFolder(own)], [outside])


class DiskBatchTest(BatchTestCase):
    def setUp(self):
        super().setUp()
        self.scans = self.folder / "scans"
        self.scans.mkdir()

    def touch(self, *names):
        for name in names:
            path = self.scans / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"\0" * 128 + b"DICM")

    def items(self, outputFolder=""):
        return itemsOfDisk(str(self.scans), str(outputFolder))

    def test_images_and_dicom_folders_are_found(self):
        self.touch("a.nii.gz", "b.NRRD", "c.mha", "a.seg.nrrd", "notes.txt", ".hidden.nii", "series/1", "texts/readme")
        (self.scans / "texts/readme").write_text("no DICOM")
        found = {item.title: item.out.name for item in self.items()}
        self.assertEqual(
            found,
            {"a.nii.gz": "a.seg.nrrd", "b.NRRD": "b.seg.nrrd", "c.mha": "c.seg.nrrd", "series": "series.seg.nrrd"},
        )

    def test_what_else_lies_in_a_dicom_folder_does_not_hide_it(self):
        for name in (".DS_Store", "._x", "AUTORUN.INF", "LICENSE"):
            self.touch(f"with {name}/slice")
            (self.scans / f"with {name}" / name).write_text("no DICOM")
        found = [item.title for item in self.items()]
        self.assertCountEqual(found, ["with .DS_Store", "with ._x", "with AUTORUN.INF", "with LICENSE"])

    def test_a_folder_that_cannot_be_read_is_passed_over(self):
        self.touch("a.nii", "series/1")
        with patch("DINOMixSegmentLib.batch_items.is_image_path", side_effect=PermissionError):
            self.assertEqual([item.title for item in self.items()], ["a.nii"])

    def test_images_of_one_name_get_results_of_two(self):
        self.touch("a.nii", "a.nrrd", "b.nii")
        self.assertEqual([item.out.name for item in self.items()], ["a.nii.seg.nrrd", "a.nrrd.seg.nrrd", "b.seg.nrrd"])

    def test_a_dicom_folder_itself(self):
        self.touch("1", "2")
        (item,) = self.items()
        self.assertEqual((item.image, item.out), (self.scans, self.folder / "scans.seg.nrrd"))

    def test_folder_without_images_and_folder_that_is_not_there(self):
        with self.assertRaisesRegex(DinomixError, "holds no images"):
            self.items()
        with self.assertRaisesRegex(DinomixError, "cannot be read"):
            itemsOfDisk(str(self.folder / "nowhere"))

    def test_files_are_written_beside_or_into_a_folder_that_is_made(self):
        self.touch("a.nii")
        self.start(self.items(self.folder / "new" / "results"))
        job = self.waitForJob(1)
        self.assertEqual(job.arguments["imagePath"], str(self.scans / "a.nii"))
        self.assertEqual(job.arguments["outPath"], str(self.folder / "new/results/a.seg.nrrd"))
        self.assertTrue((self.folder / "new/results").is_dir())
        job.finish(path=job.arguments["outPath"])
        self.waitForEnd()
        self.assertEqual(self.states(), ["done"])
        self.assertIn("a.seg.nrrd", self.logic.batchItems[0].detail)
        self.assertFalse(self.logic.canUndo())

    def test_existing_files_are_kept(self):
        self.touch("a.nii", "b.nii")
        (self.scans / "a.seg.nrrd").write_text("precious")
        self.start(self.items())
        self.assertEqual(self.states(), ["skipped", "running"])
        self.client.jobs[0].finish(path="b")
        self.waitForEnd()
        self.assertEqual((self.scans / "a.seg.nrrd").read_text(), "precious")
        self.assertIn("it is kept", self.logic.batchItems[0].detail)

    @unittest.skipUnless(sys.platform == "linux", "other systems know no such names")
    def test_name_that_is_not_utf8(self):
        self.touch("b.nii")
        Path(os.fsdecode(os.fsencode(self.scans) + b"/a\xff.nii")).write_bytes(b"")
        self.start(self.items())
        self.assertEqual(self.states(), ["failed", "running"])
        (detail, title) = (self.logic.batchItems[0].detail, self.logic.batchItems[0].title)
        self.assertIn("not valid UTF-8", detail)
        (detail + title).encode("utf-8")
        self.client.jobs[0].finish(path="b")
        self.waitForEnd()

    def test_results_folder_that_cannot_be_made(self):
        self.touch("a.nii", "b.nii")
        (self.folder / "file").write_text("")
        self.logic.startBatch(self.items(self.folder / "file" / "results"), self.parameters)
        self.waitForEnd()
        self.assertEqual(self.states(), ["failed", "failed"])
        self.assertIn("cannot be made", self.logic.batchItems[0].detail)

    def test_closing_the_scene_does_not_stop_files(self):
        self.touch("a.nii")
        self.start(self.items())
        slicer.mrmlScene.Clear(False)
        processEvents(20)
        self.assertFalse(self.client.jobs[0].isCancelRequested)
        self.client.jobs[0].finish(path="a")
        self.waitForEnd()
        self.assertEqual(self.states(), ["done"])

    def test_progress_of_a_file(self):
        self.touch("a.nii")
        self.start(self.items())
        self.client.jobs[0].progress.emit("Segmenting", 3, 4, 90.0)
        (item,) = self.logic.batchItems
        self.assertEqual((item.progress, item.detail), (0.75, "Segmenting (2 minutes left)"))
        self.logic.cancel()
        self.client.jobs[0].confirmCancel()
        self.waitForEnd()
