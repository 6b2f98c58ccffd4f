"""The page "Cases", driven as a person drives it, with the real engine: folders, what is wrong, what is left out."""

import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import many_cases
import numpy as np
import qt
import slicer
from cohort_cases import dicomSeries, image, labeledFolder, labels, realData, unlabeledFolder, write
from cohort_window import CohortTestCase
from DINOMixTrainLib.cohort_request import correctedCases
from DINOMixTrainLib.ranked_case import inStudy
from segment_fakes import segmentNames, segmentVoxels
from waiting import processEvents, rowsAtEachTurn, waitUntil


class FoldersTest(CohortTestCase):
    def test_it_says_step_by_step_what_to_do(self):
        self.assertFalse(self.ui.checkButton.enabled)
        self.assertIn("Choose a study folder", self.status)
        self.assertFalse(self.ui.checkedCollapsibleButton.isVisible())
        self.assertFalse(self.ui.goToTrainingButton.enabled)
        self.chooseStudy()
        self.assertIn("There is no labeled case yet", self.status)
        self.assertFalse(self.study.exists(), "nothing is written before the check")
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled"))
        self.assertTrue(self.ui.checkButton.enabled)
        self.assertIn("Check reads every case", self.status)

    def test_the_study_folder_can_be_emptied(self):
        self.chooseStudy()
        self.ui.studyPathEdit.currentPath = ""
        waitUntil(lambda: not self.parameters.studyFolder, what="no study folder")
        processEvents(30)
        self.assertIn("Choose a study folder", self.status)

    def test_good_cases(self):
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled", 4))
        self.addFolder(self.ui.addUnlabeledButton, unlabeledFolder(self.folder / "unlabeled", 2))
        self.addFolder(self.ui.addTestButton, labeledFolder(self.folder / "test", 1, first=50))
        self.ui.validationSpinBox.value = 1
        self.check()
        self.assertReady()
        self.assertIn("3 labeled, 1 for validation, 2 unlabeled, 1 for test", self.status)
        parts = sorted(part for part, state in self.states().values())
        self.assertEqual(parts, ["Labeled"] * 3 + ["Test", "Unlabeled", "Unlabeled", "Validation"])
        self.assertEqual({state for part, state in self.states().values()}, {"Good"})
        self.assertEqual(self.row("case50")[3].replace("\N{MULTIPLICATION SIGN}", "x"), "16x14x12, 1.5x1x2 mm")
        cohort = self.cohortFile()
        self.assertEqual(len(cohort["cases"]), 7)
        self.assertEqual([s["name"] for s in cohort["labels"]["structures"]], ["liver", "spleen"])
        self.click(self.ui.goToTrainingButton)
        self.assertEqual(self.window.pagesTabWidget.currentIndex, 1)

    def test_folders_are_listed_and_removed(self):
        one, two = labeledFolder(self.folder / "one"), labeledFolder(self.folder / "two", first=5)
        self.addFolder(self.ui.addLabeledButton, one)
        self.addFolder(self.ui.addLabeledButton, two)
        self.addFolder(self.ui.addLabeledButton, two)
        self.assertIn("in the list already", self.window.messageLabel.text)
        self.addFolder(self.ui.addTestButton, "")
        table = self.ui.foldersTable
        self.assertEqual(
            [[table.item(r, c).text() for c in (0, 1)] for r in range(table.rowCount)],
            [["Labeled", str(one)], ["Labeled", str(two)]],
        )
        self.assertFalse(self.ui.removeFolderButton.enabled)
        table.selectRow(0)
        self.click(self.ui.removeFolderButton)
        self.assertEqual(list(self.parameters.labeledFolders), [str(two)])

    def test_dicom_folders_are_cases(self):
        series = self.folder / "labeled" / "images" / "patient1"
        array = dicomSeries(series)
        write(labels(), self.folder / "labeled" / "labels" / "patient1.nii.gz")
        dicomSeries(self.folder / "unlabeled" / "patient2", seed=8)
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.folder / "labeled")
        self.addFolder(self.ui.addUnlabeledButton, self.folder / "unlabeled")
        self.check()
        self.assertReady()
        self.assertEqual(self.states(), {"patient1": ("Labeled", "Good"), "patient2": ("Unlabeled", "Good")})
        self.selectCases("patient1")
        self.click(self.ui.loadCaseButton)
        volume = self.shownVolume()
        self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(volume), array))
        (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self.assertTrue(np.array_equal(segmentVoxels(segmentation, "class_1", volume), labels() == 1))

    def test_masks_that_overlap_are_settled_under_advanced_and_shown_with_their_names(self):
        case = self.folder / "labeled" / "patient1"
        write(image(1), case / "ct.nii.gz")
        liver, tumor = labels() == 1, np.zeros_like(labels())
        tumor[4:6, 4:6, 4:6] = 255
        write(liver.astype(np.uint8), case / "segmentations" / "liver.nii.gz")
        write(tumor, case / "segmentations" / "tumor.nii.gz")
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.folder / "labeled")
        self.check()
        self.assertIn("liver and tumor (8 voxels)", " ".join(self.row("patient1")))
        self.ui.orderLineEdit.text = "liver, tumor"
        self.check()
        self.assertReady()
        self.selectCases("patient1")
        self.click(self.ui.loadCaseButton)
        (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self.assertEqual(segmentNames(segmentation), ["liver", "tumor"])
        self.assertTrue(np.array_equal(segmentVoxels(segmentation, "tumor", self.shownVolume()), tumor > 0))

    def test_real_scans(self):
        data = realData() / "hippocampus"
        names = sorted(path.name for path in (data / "images").iterdir())[:8]
        for number, name in enumerate(names):
            for part in ("images", "labels") if number < 4 else ("images",):
                target = self.folder / ("labeled" if number < 4 else "unlabeled") / part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(data / part / name, target)
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.folder / "labeled")
        self.addFolder(self.ui.addUnlabeledButton, self.folder / "unlabeled")
        self.ui.validationSpinBox.value = 1
        self.check()
        self.assertReady()
        self.assertIn("3 labeled, 1 for validation, 4 unlabeled", self.status)
        self.assertIn("times as many voxels as", self.ui.imbalanceLabel.text)


class ProblemsTest(CohortTestCase):
    def openStudy(self):
        self.labeled = labeledFolder(self.folder / "labeled", 3)
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.labeled)

    def test_each_problem_stands_at_its_case_and_says_how_to_mend_it(self):
        self.openStudy()
        write(labels()[:-2], self.labeled / "labels" / "case1.nii.gz")
        (self.labeled / "images" / "case2.nii.gz").write_bytes(b"no image at all")
        self.check()
        self.assertIn("2 cases have problems", self.status)
        self.assertFalse(self.ui.goToTrainingButton.enabled)
        self.assertFalse((self.study / "cohort.json").exists())
        self.assertEqual(self.row("case0")[1:3], ["Labeled", "Good"])
        self.assertEqual(self.row("case1")[1], "Labeled")
        self.assertIn("Is not on the grid of its image", self.row("case1")[2])
        # The first problem is explained without a click.
        self.assertIn("it is a crop of the image", self.ui.caseDetailLabel.text)
        self.assertIn(f"dinomix mend --image {self.labeled}/images/case1.nii.gz", self.ui.caseDetailLabel.text)
        self.selectCases("case2")
        self.assertIn("case2.nii.gz", self.ui.caseDetailLabel.text)
        self.assertNotIn("Traceback", self.ui.caseDetailLabel.text)
        self.assertFalse(self.window.messageFrame.isVisible(), "the table says it")
        write(labels(), self.labeled / "labels" / "case1.nii.gz")
        write(image(2), self.labeled / "images" / "case2.nii.gz")
        self.check()
        self.assertReady()

    def test_a_case_is_left_out_and_taken_in_again(self):
        self.openStudy()
        write(labels()[:-2], self.labeled / "labels" / "case1.nii.gz")
        self.check()
        self.selectCases("case1")
        self.click(self.ui.excludeCaseButton)
        self.settle()
        self.assertEqual(list(self.parameters.excluded), ["case1"])
        self.assertEqual(self.row("case1")[2], "Left out")
        self.assertIn("The choices have changed", self.status)
        self.check()
        self.assertReady()
        self.assertEqual([case["name"] for case in self.cohortFile()["cases"]], ["case0", "case2"])
        self.assertEqual(self.row("case1")[1:3], ["Labeled", "Left out"])
        write(labels(1), self.labeled / "labels" / "case1.nii.gz")
        self.selectCases("case1")
        self.assertEqual(self.ui.excludeCaseButton.text, "Take in again")
        self.click(self.ui.excludeCaseButton)
        self.check()
        self.assertReady()
        self.assertEqual(len(self.cohortFile()["cases"]), 3)

    def test_all_with_problems_are_left_out_at_once(self):
        self.openStudy()
        for number in (0, 1):
            write(labels()[:-2], self.labeled / "labels" / f"case{number}.nii.gz")
        self.check()
        self.click(self.ui.excludeProblemsButton)
        self.settle()
        self.assertEqual(sorted(self.parameters.excluded), ["case0", "case1"])
        self.assertFalse(self.ui.excludeProblemsButton.isVisible())
        self.check()
        self.assertReady()

    def test_an_image_without_label_and_a_label_without_image(self):
        self.openStudy()
        (self.labeled / "labels" / "case1.nii.gz").unlink()
        (self.labeled / "images" / "case2.nii.gz").unlink()
        self.check()
        told = " ".join(state for part, state in self.states().values()) + self.status
        self.assertIn("no label", told)
        self.assertIn("no image", told)
        self.assertNotIn("--", told)

    def test_cases_are_filtered(self):
        self.openStudy()
        self.addFolder(self.ui.addUnlabeledButton, unlabeledFolder(self.folder / "unlabeled"))
        write(labels()[:-2], self.labeled / "labels" / "case1.nii.gz")
        self.check()
        self.choose(self.ui.checkedFilterComboBox, "With problems")
        self.assertEqual(self.shownRows(), ["case1"])
        self.assertEqual(self.ui.checkedCountLabel.text, "1 of 5")
        self.choose(self.ui.checkedFilterComboBox, "Unlabeled")
        self.assertEqual(self.shownRows(), ["scan100", "scan101"])
        self.choose(self.ui.checkedFilterComboBox, "All cases")
        self.assertEqual(len(self.shownRows()), 5)

    def test_an_empty_folder_is_said_in_the_words_of_the_window(self):
        self.chooseStudy()
        empty = self.folder / "empty"
        empty.mkdir()
        self.addFolder(self.ui.addLabeledButton, empty)
        self.check()
        self.assertIn("holds no case", self.status)
        self.assertNotIn("--", self.status)

    def test_a_folder_that_is_gone(self):
        self.openStudy()
        shutil.rmtree(self.labeled)
        self.check()
        self.assertIn("does not exist", self.status)
        self.assertIn("Remove it from the list of folders", self.status)

    def test_a_study_folder_that_cannot_be_written(self):
        self.openStudy()
        blocked = self.folder / "a file"
        blocked.write_text("")
        self.chooseStudy(blocked)
        self.assertIn("is a file", self.status)
        self.assertFalse(self.ui.checkButton.enabled)
        self.chooseStudy(blocked / "below")
        self.click(self.ui.checkButton)
        self.settle()
        self.assertEqual(self.cohort.state, "idle")
        self.assertIn("cannot be written", self.status)
        self.assertIn("Choose a folder", self.status)

    def test_missing_packages_are_said_and_nothing_is_started(self):
        self.installer.names = ["torch", "monai"]
        self.openStudy()
        self.assertFalse(self.ui.checkButton.enabled)
        self.assertIn("torch, monai", self.status)

    def test_an_engine_that_cannot_be_started_is_said_in_a_sentence(self):
        self.openStudy()
        qt.QSettings().setValue("DINOMix/WorkerCommand", "/no/such/program worker")
        self.check()
        self.assertIn("/no/such/program cannot be started", self.status)
        self.assertFalse(self.ui.goToTrainingButton.enabled)
        qt.QSettings().setValue("DINOMix/WorkerCommand", "ssh gpu-box dinomix worker")
        self.click(self.ui.checkButton)
        self.settle()
        self.assertIn("another computer", self.status)

    def test_why_a_check_failed_is_said_though_an_older_one_succeeded(self):
        self.openStudy()
        self.check()
        qt.QSettings().setValue("DINOMix/WorkerCommand", "/no/such/program worker")
        self.ui.validationSpinBox.value = 1
        self.settle()
        self.assertIn("The choices have changed", self.status)
        self.check()
        self.assertIn("/no/such/program cannot be started", self.status)
        self.ui.validationSpinBox.value = 2
        self.settle()
        self.assertIn("The choices have changed", self.status)

    def test_a_check_that_fails_leaves_the_cohort_and_says_that_it_is_old(self):
        self.openStudy()
        self.check()
        before = (self.study / "cohort.json").read_bytes()
        write(labels()[:-2], self.labeled / "labels" / "case1.nii.gz")
        self.check()
        self.assertEqual((self.study / "cohort.json").read_bytes(), before)
        self.assertFalse(self.ui.goToTrainingButton.enabled)


class ShowTest(CohortTestCase):
    def setUp(self):
        super().setUp()
        self.labeled = labeledFolder(self.folder / "labeled", 2)
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.labeled)
        self.check()

    def doubleClick(self, name):
        self.selectCases(name)
        table = self.ui.casesTable
        row = next(row for row in range(table.rowCount) if table.item(row, 0).text() == name)
        table.cellDoubleClicked(row, 0)
        processEvents(20)

    def test_a_double_click_loads_image_and_label_with_names_and_colors(self):
        self.doubleClick("case1")
        volume = self.shownVolume()
        self.assertEqual(volume.GetName(), "case1")
        self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(volume), image(1)))
        (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        self.assertEqual(segmentNames(segmentation), ["liver", "spleen"])
        self.assertTrue(np.array_equal(segmentVoxels(segmentation, "spleen", volume), labels(1) == 2))
        color = self.cohortFile()["labels"]["structures"][0]["color"]
        self.assertTrue(np.allclose(segmentation.GetSegmentation().GetNthSegment(0).GetColor(), np.array(color) / 255))
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode"), [])
        self.assertEqual(self.sceneNames(), [], "what is only looked at is no case of the scene")

    def test_what_is_loaded_is_shown_again_and_others_are_hidden(self):
        self.doubleClick("case0")
        self.doubleClick("case1")
        self.doubleClick("case0")
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")), 2)
        self.assertEqual(self.shownVolume().GetName(), "case0")
        shown = {n.GetName(): n.GetDisplayVisibility() for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")}
        self.assertEqual(shown, {"case0 label": 1, "case1 label": 0})

    def test_a_file_that_is_gone_is_said_in_a_sentence(self):
        (self.labeled / "images" / "case0.nii.gz").unlink()
        self.doubleClick("case0")
        self.assertIn("cannot be loaded", self.window.messageLabel.text)


class StructuresTest(CohortTestCase):
    def setUp(self):
        super().setUp()
        self.labeled = labeledFolder(self.folder / "labeled", 3)
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.labeled)

    def test_voxels_of_each_structure_are_drawn_and_told(self):
        self.check()
        counts = {value: sum(int((labels(n) == value).sum()) for n in range(3)) for value in (1, 2)}
        plots = self.plotsIn(self.ui.voxelsPlotWidget)
        self.assertEqual([plot.GetLabel() for plot in plots], [f"liver: {counts[1]:,}", f"spleen: {counts[2]:,}"])
        self.assertEqual({plot.GetClassName() for plot in plots}, {"vtkPlotBar"})
        heights = [plots[0].GetInput().GetColumn(n).GetValue(0) for n in range(2)]
        self.assertTrue(np.allclose(heights, np.log10([counts[1], counts[2]]), atol=1e-5))
        ratio = counts[1] / counts[2]
        self.assertIn(f"liver has {ratio:.0f} times as many voxels as spleen", self.ui.imbalanceLabel.text)
        kinds = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode")
        nodes = [node for kind in kinds for node in slicer.util.getNodesByClass(kind) if node.GetHideFromEditors()]
        self.assertFalse(any(node.GetSaveWithScene() for node in nodes))
        # The bars leave the room that the legend takes, also before the chart has its width.
        charts = [node for node in nodes if node.IsA("vtkMRMLPlotChartNode")]
        (chart,) = [node for node in charts if node.GetName() == "Voxels of structures"]
        shareOfBars = 0.86 / (chart.GetXAxisRange()[1] + 0.43)
        self.assertAlmostEqual(shareOfBars, 1 - (6 * len(plots[0].GetLabel()) + 45) / 340, delta=0.05)

    def test_the_chart_comes_again_after_the_scene_was_closed(self):
        self.check()
        slicer.mrmlScene.Clear(False)
        processEvents(50)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"), [])
        self.chooseStudy()
        self.settle()
        self.assertEqual(len(self.plotsIn(self.ui.voxelsPlotWidget)), 2)

    def test_a_structure_is_renamed_merged_and_left_out(self):
        self.check()
        self.rename("spleen", "liver")
        self.assertEqual(json.loads(self.parameters.renames), {"spleen": "liver"})
        self.assertIn("The choices have changed", self.status)
        self.check()
        self.assertReady()
        self.assertEqual([s["name"] for s in self.cohortFile()["labels"]["structures"]], ["liver"])
        self.rename("spleen", "(left out)")
        self.check()
        self.assertReady()
        self.assertEqual([s["name"] for s in self.cohortFile()["labels"]["structures"]], ["liver"])
        self.rename("spleen", "spleen")
        self.assertEqual(self.parameters.renames, "")
        self.check()
        self.assertEqual([s["name"] for s in self.cohortFile()["labels"]["structures"]], ["liver", "spleen"])

    def test_numbers_without_names_are_named_by_typing(self):
        (self.labeled / "dataset.json").unlink()
        self.check()
        box = self.ui.namesTable.cellWidget(0, 2)
        self.assertEqual(box.currentText, "class_1")
        box.lineEdit().setText("Leber")
        box.lineEdit().editingFinished()
        self.settle()
        self.assertEqual(json.loads(self.parameters.renames), {"class_1": "Leber"})
        self.check()
        self.assertReady()
        self.assertIn("Leber", [s["name"] for s in self.cohortFile()["labels"]["structures"]])


def useSlowEngine(folder):
    """Set a worker command whose engine never ends."""
    program = folder / "slow.py"
    program.write_text(
        "import json, time\n"
        "print(json.dumps({'kind': 'progress', 'stage': 'check', 'step': 1, 'total': 9, 'eta': 8}), flush=True)\n"
        "time.sleep(600)\n"
    )
    qt.QSettings().setValue("DINOMix/WorkerCommand", f'"{sys.executable}" "{program}" worker')


class LifeTest(CohortTestCase):
    """Cancel, and what happens to a check while the rest goes on."""

    def setUp(self):
        super().setUp()
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled"))

    def startSlowly(self):
        useSlowEngine(self.folder)
        self.click(self.ui.checkButton)
        waitUntil(lambda: "1 of 9" in self.status, what="progress")

    def test_cancel(self):
        self.check()
        found = self.states()
        self.startSlowly()
        self.assertIn("8 seconds left", self.status)
        self.assertTrue(self.ui.checkProgressBar.isVisible())
        self.assertFalse(self.ui.addLabeledButton.enabled)
        self.assertEqual(self.ui.checkButton.text, "Cancel")
        self.click(self.ui.checkButton)
        waitUntil(lambda: self.cohort.state == "idle", what="the end")
        self.settle()
        self.assertEqual(self.status, "The check was cancelled.")
        self.assertFalse(self.ui.checkProgressBar.isVisible())
        self.assertEqual(self.states(), found, "what was found before stays")
        qt.QSettings().remove("DINOMix/WorkerCommand")
        self.check()
        self.assertReady()

    def test_scene_closed_while_checking(self):
        self.startSlowly()
        slicer.mrmlScene.Clear(False)
        waitUntil(lambda: self.cohort.state == "idle", what="the end")
        self.settle()
        self.assertEqual(self.ui.studyPathEdit.currentPath, "")
        self.assertIn("Choose a study folder", self.status)
        self.assertEqual(self.ui.casesTable.rowCount, 0)

    def test_another_study_while_checking(self):
        self.startSlowly()
        self.parameters.studyFolder = str(self.folder / "other")
        waitUntil(lambda: self.cohort.state == "idle", what="the end")

    def test_window_closed_while_checking(self):
        self.startSlowly()
        process = self.cohort._process
        self.closeWindow()
        self.assertFalse(process.isRunning())

    def test_a_study_is_found_again(self):
        self.ui.validationSpinBox.value = 1
        self.ui.patternLineEdit.text = r"(case\d+)"
        self.ui.orderLineEdit.text = "liver, spleen"
        self.choose(self.ui.modalityComboBox, "MR")
        self.check()
        self.assertReady()
        found = self.states()
        self.closeWindow()
        slicer.mrmlScene.Clear(False)
        self.openWindow()
        self.page, self.cohort = self.widget.pages["cases"], self.logic.cohort
        self.window, self.ui = self.ui, self.page.ui
        self.assertEqual(self.ui.casesTable.rowCount, 0)
        self.chooseStudy()
        self.settle()
        self.assertEqual(self.states(), found)
        self.assertEqual(list(self.parameters.labeledFolders), [str(self.folder / "labeled")])
        self.assertEqual(self.ui.validationSpinBox.value, 1)
        self.assertEqual(self.ui.patternLineEdit.text, r"(case\d+)")
        self.assertEqual(self.ui.orderLineEdit.text, "liver, spleen")
        self.assertEqual(self.ui.modalityComboBox.currentText, "MR")
        self.assertReady()

    def test_a_study_whose_memory_is_damaged_can_be_checked_again(self):
        self.check()
        (self.study / "check.json").write_text('{"choices": 3}')
        self.closeWindow()
        slicer.mrmlScene.Clear(False)
        self.openWindow()
        self.page, self.cohort = self.widget.pages["cases"], self.logic.cohort
        self.window, self.ui = self.ui, self.page.ui
        self.chooseStudy()
        self.assertEqual(self.ui.casesTable.rowCount, 0)
        self.addFolder(self.ui.addLabeledButton, self.folder / "labeled")
        self.check()
        self.assertReady()

    def test_corrected_labels_are_labeled_cases(self):
        scan = unlabeledFolder(self.folder / "unlabeled") / "scan100.nrrd"
        self.addFolder(self.ui.addUnlabeledButton, scan.parent)
        self.check()
        self.assertEqual(self.states()["scan100"], ("Unlabeled", "Good"))
        corrected = self.study / "corrected"
        write(labels(), corrected / "scan100.nii.gz")
        (corrected / "cases.json").write_text(
            json.dumps([{"image": str(scan), "label": "scan100.nii.gz", "name": "scan100"}]), encoding="utf-8"
        )
        self.page.show()
        self.assertIn("The choices have changed", self.status)
        self.check()
        self.assertEqual(self.states()["scan100"][0], "Labeled")
        self.assertEqual(self.states()["scan101"][0], "Unlabeled")

    def test_corrected_labels_move_with_the_study(self):
        entries = [{"image": str(self.study / "scene" / "CT.nrrd"), "label": "CT.seg.nrrd", "name": "CT"},
                   {"image": str(self.folder / "MR.nrrd"), "label": "MR.seg.nrrd", "name": "MR"}]  # fmt: skip
        moved = self.folder / "moved"
        (moved / "corrected").mkdir(parents=True)
        (moved / "corrected" / "cases.json").write_text(
            json.dumps([inStudy(entry, self.study) for entry in entries]), encoding="utf-8"
        )
        images = [entry["image"] for entry in correctedCases(moved)]
        self.assertEqual(images, [str(moved / "scene" / "CT.nrrd"), str(self.folder / "MR.nrrd")])

    def test_a_thousand_cases_do_not_hold_up_the_window(self):
        program = self.folder / "many.py"
        program.write_text(many_cases.CHECK)
        qt.QSettings().setValue("DINOMix/WorkerCommand", f'"{sys.executable}" "{program}" worker')
        with rowsAtEachTurn(self.ui.casesTable) as rows:
            self.click(self.ui.checkButton)
            waitUntil(lambda: self.page.cases.isFilling() and rows[-1] > 10, what="some rows")
            # Fitted to its contents, a column would be measured anew for each cell.
            self.assertEqual(self.ui.casesTable.horizontalHeader().sectionResizeMode(1), qt.QHeaderView.Interactive)
            waitUntil(lambda: rows[-1] == 1000, what="the table")
        self.settle()
        self.assertEqual(self.ui.casesTable.rowCount, 1000)
        self.assertLessEqual(max(np.diff(rows)), 2)


class ReloadTest(unittest.TestCase):
    def test_module_reloaded_while_checking(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        folder = Path(folder.name)
        panel = slicer.modules.dinomixtrain.widgetRepresentation()
        widget = panel.self()
        node, cohort = widget.logic.getParameterNode(), widget.logic.cohort
        node.studyFolder, node.labeledFolders = str(folder / "study"), [str(labeledFolder(folder / "labeled"))]
        useSlowEngine(folder)
        processEvents(20)
        button = widget.pages["cases"].ui.checkButton
        waitUntil(lambda: button.enabled, what=button.toolTip)
        button.click()
        waitUntil(lambda: cohort.state == "checking", what="the check")
        widget.onReload()
        processEvents(50)
        self.assertEqual(cohort.state, "idle")
        self.assertIsNot(panel.self(), widget)
        self.assertEqual(panel.self().pages["cases"].ui.studyPathEdit.currentPath, str(folder / "study"))


class RequestTest(unittest.TestCase):
    def test_paths_are_not_resolved(self):
        """A case's image may be a link into a store in which files have lost their endings."""
        from DINOMixTrainLib.cohort_request import CohortRequest

        words = CohortRequest("/study", ("/data/-strange name",), excluded=("-x",)).arguments()
        self.assertIn("--labeled=/data/-strange name", words)
        self.assertIn("--exclude=-x", words)
        self.assertEqual(words[words.index("--out") + 1], str(Path("/study/cohort.json")))


if __name__ == "__main__":
    unittest.main()
