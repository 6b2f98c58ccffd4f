"""The batch section of DINOMix Segment's window, driven as a person drives it, with a worker that the test plays."""

import struct
import unittest
from unittest.mock import patch

import qt
import slicer
from DINOMixSegmentLib.batch_cases import casesOfDisk
from segment_fakes import LIVER, SPLEEN, addVolume
from segment_window import WindowTestCase
from waiting import waitUntil


class BatchWindowTest(WindowTestCase):
    def setUp(self):
        super().setUp()
        self.volumes = [addVolume("one"), addVolume("two")]
        self.ui.batchCollapsibleButton.collapsed = False
        self.settle()

    def rows(self, column):
        table = self.ui.batchTable
        return [table.item(row, column).text() for row in range(table.rowCount)]

    def startBatch(self):
        self.click(self.ui.batchButton)
        return self.waitForJobs("segment", 1)

    def test_every_volume_of_the_scene_is_listed_and_segmented(self):
        self.assertEqual(self.rows(0), ["one", "two"])
        self.assertEqual(self.ui.batchLabel.text, "2 volumes will be segmented.")
        job = self.startBatch()
        self.assertEqual(self.rows(1), ["Running", "Waiting"])
        self.assertEqual(self.ui.batchButton.text, "Cancel batch")
        self.assertFalse(self.ui.batchSourceComboBox.enabled)
        job.progress.emit("segmenting", 1, 4, None)
        self.assertEqual(self.rows(1)[0], "Running, 25%")
        job.finishWithLabels()
        self.waitForJobs("segment", 2).finishWithLabels()
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        self.settle()
        self.assertEqual(self.rows(1), ["Done", "Done"])
        self.assertIn("In the scene as", self.rows(2)[0])
        self.assertEqual(self.ui.batchLabel.text, "2 of 2 done, 0 failed, 0 skipped.")
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")), 2)
        self.assertIn("2 of 2 done", self.ui.statusLabel.text)

    def test_one_that_fails_says_why_and_the_next_goes_on(self):
        self.startBatch().fail("It is too dark.", "Scan it again.")
        self.waitForJobs("segment", 2).finishWithLabels()
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        self.assertEqual(self.rows(1), ["Failed", "Done"])
        self.assertEqual(self.rows(2)[0], "It is too dark. Scan it again.")
        self.assertFalse(self.ui.messageFrame.isVisible())

    def test_what_the_model_is_unsure_of_is_marked_and_stands_first(self):
        addVolume("three")
        self.settle()
        self.startBatch().finishWithLabels()
        for number, dice in ((2, 0.61), (3, 0.305)):
            unsure = {**SPLEEN, "predicted_dice": dice, "unsure": True}
            self.waitForJobs("segment", number).finishWithLabels(structures=[LIVER, unsure])
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        self.settle()
        self.assertEqual(self.rows(0), ["three", "two", "one"])
        self.assertEqual(self.rows(1), ["Done, unsure", "Done, unsure", "Done"])
        self.assertTrue(self.rows(2)[1].startswith("Look at spleen (0.61): the model is unsure."), self.rows(2))
        self.assertIn("The model is unsure of 2; look at these first.", self.ui.batchLabel.text)
        slicer.mrmlScene.RemoveNode(self.volumes[0])
        self.settle()
        self.assertEqual(self.rows(1), ["Waiting", "Waiting"], "the table is that of another batch")

    def test_cancel_and_start_again(self):
        job = self.startBatch()
        self.click(self.ui.batchButton)
        self.assertTrue(job.isCancelRequested)
        job.confirmCancel()
        self.settle()
        self.assertEqual(self.rows(1), ["Skipped", "Skipped"])
        self.assertTrue(self.ui.batchSourceComboBox.enabled)
        self.click(self.ui.batchButton)
        self.waitForJobs("segment", 2)
        self.assertEqual(self.rows(1), ["Running", "Waiting"])

    def test_cancel_by_the_big_button(self):
        job = self.startBatch()
        self.click(self.ui.applyButton)
        self.assertTrue(job.isCancelRequested)

    def test_the_table_follows_the_scene_while_nothing_runs(self):
        slicer.mrmlScene.RemoveNode(self.volumes[0])
        self.settle()
        self.assertEqual(self.rows(0), ["two"])
        slicer.mrmlScene.Clear(False)
        self.settle()
        self.assertEqual(self.rows(0), [])
        self.assertFalse(self.ui.batchButton.enabled)
        self.assertIn("nothing to segment", self.ui.batchButton.toolTip)

    def test_scene_closed_while_running(self):
        self.startBatch()
        slicer.mrmlScene.Clear(False)
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        self.settle()
        self.assertEqual(self.ui.batchTable.rowCount, 0)
        self.assertEqual(self.ui.batchButton.text, "Start batch")

    def test_states_of_a_closed_scene_are_not_those_of_the_next(self):
        self.startBatch().finishWithLabels()
        self.waitForJobs("segment", 2).finishWithLabels()
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        ids = [volume.GetID() for volume in self.volumes]
        self.ui.batchCollapsibleButton.collapsed = True
        self.settle()
        slicer.mrmlScene.Clear(False)
        self.assertEqual([addVolume(name).GetID() for name in ("one", "two")], ids)
        self.ui.batchCollapsibleButton.collapsed = False
        self.settle()
        self.assertEqual(self.rows(0), ["one", "two"])
        self.assertEqual(self.rows(1), ["Waiting", "Waiting"])

    def test_a_folder_of_the_subject_hierarchy(self):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Monday")
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(self.volumes[1]), folder)
        self.choose(self.ui.batchSourceComboBox, "A folder of the subject hierarchy")
        self.assertTrue(self.ui.batchHierarchyComboBox.isVisible())
        self.assertFalse(self.ui.batchInputPathEdit.isVisible())
        self.ui.batchHierarchyComboBox.setCurrentItem(folder)
        self.settle()
        self.assertEqual(self.rows(0), ["two"])

    def test_a_folder_on_disk(self):
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        self.assertTrue(self.ui.batchInputPathEdit.isVisible())
        self.assertFalse(self.ui.batchButton.enabled)
        images = self.makeFolder("images")
        self.ui.batchInputPathEdit.currentPath = images
        self.settle()
        self.assertIn("holds no images", self.ui.batchLabel.text)
        slicer.util.saveNode(self.volumes[0], f"{images}/scan.nrrd")
        self.ui.batchOutputPathEdit.currentPath = self.makeFolder("results")
        self.settle()
        self.assertEqual(self.rows(0), ["scan.nrrd"])
        self.click(self.ui.batchButton)
        job = self.waitForJobs("segmentFile", 1)
        self.assertEqual(job.arguments["outPath"], str(self.folder / "results" / "scan.seg.nrrd"))
        self.assertFalse(job.arguments["regions"])
        job.finish(structures=[LIVER, {**SPLEEN, "predicted_dice": 0.5, "unsure": True}])
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        self.settle()
        self.assertEqual(self.rows(1), ["Done, unsure"])
        self.assertIn("Look at spleen (0.50)", self.rows(2)[0])

    def test_a_folder_on_disk_is_looked_into_when_something_else_is_wanted_of_it(self):
        images, looks = self.makeFolder("images"), []

        def look(*asked):
            looks.append(asked)
            return casesOfDisk(*asked)

        patcher = patch("DINOMixSegmentLib.batch_panel.casesOfDisk", look)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        self.ui.batchInputPathEdit.currentPath = images
        self.settle()
        self.assertEqual(len(looks), 1)
        slicer.util.saveNode(self.volumes[0], f"{images}/scan.nrrd")
        for size in range(3):
            self.parameters.cleanUpMl = 1.0 + size
            addVolume(f"another {size}")
            self.settle()
        self.assertEqual(len(looks), 1, "also where nothing was found")
        self.assertIn("holds no images", self.ui.batchLabel.text)
        self.ui.batchCollapsibleButton.collapsed = True
        self.ui.batchCollapsibleButton.collapsed = False
        self.settle()
        self.assertEqual(self.rows(0), ["scan.nrrd"])
        slicer.util.saveNode(self.volumes[0], f"{images}/scan 2.nrrd")
        self.widget.exit()
        self.widget.enter()
        self.settle()
        self.assertEqual(self.rows(0), ["scan 2.nrrd", "scan.nrrd"])
        self.assertEqual(len(looks), 3)
        self.ui.batchOutputPathEdit.currentPath = self.makeFolder("results")
        self.settle()
        self.choose(self.ui.batchFormatComboBox, self.ui.batchFormatComboBox.itemText(1))
        self.settle()
        self.assertEqual(len(looks), 5)

    def test_files_that_are_done_stay_so_when_the_user_comes_back(self):
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        images = self.makeFolder("images")
        slicer.util.saveNode(self.volumes[0], f"{images}/scan.nrrd")
        self.ui.batchInputPathEdit.currentPath = images
        self.settle()
        self.click(self.ui.batchButton)
        self.waitForJobs("segmentFile", 1).finish(structures=[LIVER])
        waitUntil(lambda: self.logic.state == "idle", what="the end")
        self.widget.exit()
        self.widget.enter()
        self.settle()
        self.assertEqual(self.rows(1), ["Done"])

    def test_files_are_computed_as_chosen_and_get_their_regions(self):
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        images = self.makeFolder("images")
        slicer.util.saveNode(self.volumes[0], f"{images}/scan.nrrd")
        self.ui.batchInputPathEdit.currentPath = images
        self.parameters.regions, self.parameters.cleanUp, self.parameters.inside = True, "largest", ["liver"]
        self.settle()
        self.click(self.ui.batchButton)
        asked = self.waitForJobs("segmentFile", 1).arguments
        self.assertTrue(asked["regions"])
        self.assertEqual((asked["computing"].cleanUp, asked["computing"].inside), ({"": "largest"}, ("liver",)))

    def test_results_as_dicom(self):
        self.assertFalse(self.ui.batchFormatComboBox.isVisible())
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        images = self.folder / "images"
        for name in ("head", "made before"):
            (images / name).mkdir(parents=True)
        (images / "head" / "1.dcm").write_bytes(bytes(128) + b"DICM")
        modality = struct.pack("<HHI", 0x0008, 0x0060, 8) + b"RTSTRUCT"
        (images / "made before" / "chest.rtstruct.dcm").write_bytes(bytes(128) + b"DICM" + modality)
        self.ui.batchInputPathEdit.currentPath = str(images)
        for shown, ending in (("DICOM segmentation", ".seg.dcm"), ("DICOM RT", ".rtstruct.dcm")):
            self.choose(self.ui.batchFormatComboBox, next(
                text for row in range(self.ui.batchFormatComboBox.count)
                if (text := self.ui.batchFormatComboBox.itemText(row)).startswith(shown)
            ))  # fmt: skip
            self.settle()
            self.assertEqual(self.rows(0), ["head"])
            self.click(self.ui.batchButton)
            job = self.waitForJobs("segmentFile", 1 if ending == ".seg.dcm" else 2)
            self.assertEqual(job.arguments["outPath"], str(images / f"head{ending}"))
            job.fail("It is not DICOM.", "")
            waitUntil(lambda: self.logic.state == "idle", what="the end")
            self.settle()

    def test_a_folder_is_typed_in_the_middle_of_another(self):
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        for field, name in (
            (self.ui.batchInputPathEdit, "batchInputFolder"),
            (self.ui.batchOutputPathEdit, "batchOutputFolder"),
        ):
            field.currentPath = "/no/scans"
            self.settle()
            text = field.findChild(qt.QLineEdit)
            text.cursorPosition = len("/no/")
            for letter in "ct/":
                text.insert(letter)
                self.settle()
            self.assertEqual((field.currentPath, getattr(self.parameters, name)), ("/no/ct/scans", "/no/ct/scans"))

    def test_folders_can_be_emptied(self):
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        self.ui.batchInputPathEdit.currentPath = self.makeFolder("images")
        self.ui.batchOutputPathEdit.currentPath = self.makeFolder("results")
        self.settle()
        self.ui.batchInputPathEdit.currentPath = self.ui.batchOutputPathEdit.currentPath = ""
        self.settle()
        self.assertEqual((self.parameters.batchInputFolder, self.parameters.batchOutputFolder), ("", ""))
        self.assertEqual(self.ui.batchOutputPathEdit.currentPath, "")

    def test_a_folder_that_is_gone(self):
        self.choose(self.ui.batchSourceComboBox, "A folder on disk")
        self.ui.batchInputPathEdit.currentPath = str(self.folder / "nowhere")
        self.settle()
        self.assertIn("cannot be read", self.ui.batchLabel.text)
        self.assertFalse(self.ui.batchButton.enabled)


if __name__ == "__main__":
    unittest.main()
