"""Page 4 over real runs: before and after, using and passing on the model, the case to label next."""

import json
import shutil
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest.mock import patch

import many_cases
import numpy as np
import qt
import slicer
from DINOMixTrainLib.cohort_request import correctedCases
from DINOMixTrainLib.ranked_case import nodeOfCase
from DINOMixTrainLib.ranking_words import allWords, wordsOf
from train_cases import engine, makeStudy, trainOptions
from train_window import TrainWindowTestCase
from waiting import processEvents, rowsAtEachTurn, waitUntil

from dinomix.training.next_case import DEFAULT, STRATEGIES
from dinomix_slicer.models.folders import modelFolders

PATIENCE = 240


def setUpModule():
    """A run from scratch, and one that starts from its model, both finished."""
    global folder, study, first, second
    folder = tempfile.TemporaryDirectory()
    study = Path(folder.name) / "Studie ü 例"
    makeStudy(study, labeled=3, unlabeled=3)
    first, second = study / "runs" / "first", study / "runs" / "second"
    for run, steps, more in ((first, 4, []), (second, 24, ["--start", str(first / "model")])):
        options = trainOptions(study / "cohort.json", steps)
        done = engine("train", *options, *more, "--out", run)
        assert done.returncode == 0, done.stderr


def tearDownModule():
    folder.cleanup()


class ResultTestCase(TrainWindowTestCase):
    @property
    def ui4(self):
        """The widgets of page 4."""
        return self.widget.pages["result"].ui

    @property
    def results(self):
        return self.logic.results

    def showRun(self, run):
        self.widget.goTo("result")
        self.parameters.studyFolder = str(study)
        self.parameters.device = "cpu"
        self.parameters.runPath = str(run)
        processEvents(50)

    def waitForIdle(self):
        waitUntil(lambda: self.results.state == "idle", PATIENCE, f"an end of {self.results.state}")
        processEvents(20)

    def cells(self, table):
        return [
            [table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)
        ]

    def rank(self):
        if not self.results.ranking:
            self.parameters.rankBy = "disagreement"
            self.click(self.ui4.rankButton)
            self.waitForIdle()
        waitUntil(lambda: self.ui4.rankingTable.item(2, 2) is not None, what="a filled table")

    def openCase(self, row=0):
        self.rank()
        self.ui4.rankingTable.selectRow(row)
        processEvents(20)
        self.click(self.ui4.openCaseButton)
        self.waitForIdle()
        case = self.results.ranking[row]
        return case, nodeOfCase(case)


class ComparisonTest(ResultTestCase):
    def prepare(self):
        for run in (first, second):
            shutil.rmtree(run / "comparison", ignore_errors=True)

    def test_before_and_after_are_those_of_the_command_line(self):
        self.showRun(second)
        self.assertIn("The model of the run second", self.ui4.resultLabel.text)
        waitUntil(lambda: "first, the model that it started from" in self.ui4.resultLabel.text, what="the verdict")
        self.assertFalse(self.ui4.comparisonTable.isVisible())
        self.click(self.ui4.compareButton)
        self.assertTrue(self.ui4.cancelResultButton.isVisible())
        self.assertFalse(self.ui4.rankButton.enabled)
        self.waitForIdle()
        told = json.loads((second / "comparison" / "comparison.json").read_text("utf-8"))
        rows = self.cells(self.ui4.comparisonTable)
        self.assertEqual([row[0] for row in rows], ["liver", "gallbladder", "Mean"])
        liver = told["classes"]["liver"]
        gain = f"{liver['after'] - liver['before']:+.3f}"
        self.assertEqual(rows[0][1:], [f"{liver['before']:.3f}", f"{liver['after']:.3f}", gain])
        self.assertIn("before: first", self.ui4.comparisonLabel.text)
        picture = self.ui4.comparisonPictureLabel.pixmap
        self.assertGreaterEqual(picture.width(), 400)
        done = engine("compare", second, "--device", "cpu", "--json")
        again = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(again["classes"], told["classes"])

        # Found again by another window, and with the run chosen anew.
        self.showRun(first)
        self.assertFalse(self.ui4.comparisonTable.isVisible())
        self.showRun(second)
        self.assertEqual(self.cells(self.ui4.comparisonTable), rows)
        with patch.object(qt.QDesktopServices, "openUrl") as opened:
            self.click(self.ui4.openPictureButton)
        self.assertTrue(Path(opened.call_args.args[0].toLocalFile()).is_file())

    def test_a_run_from_scratch_has_nothing_before_it(self):
        self.showRun(first)
        self.click(self.ui4.compareButton)
        self.waitForIdle()
        self.assertEqual({row[1] for row in self.cells(self.ui4.comparisonTable)}, {"-"})
        self.assertIn("random weights", self.ui4.comparisonLabel.text)

    def test_a_comparison_of_an_earlier_model_says_so(self):
        self.showRun(second)
        self.click(self.ui4.compareButton)
        self.waitForIdle()
        file = second / "comparison" / "comparison.json"
        told = json.loads(file.read_text("utf-8"))
        told["after"]["fingerprint"] = "of another"
        file.write_text(json.dumps(told), "utf-8")
        self.widget.update()
        self.assertIn("Compare again", self.ui4.comparisonLabel.text)

    def test_a_damaged_comparison_is_as_none(self):
        self.showRun(first)
        (first / "comparison").mkdir(exist_ok=True)
        (first / "comparison" / "comparison.json").write_text('{"cases": 3}')
        self.widget.update()
        self.assertFalse(self.ui4.comparisonTable.isVisible())
        self.assertIn("Compare to see", self.ui4.comparisonLabel.text)

    def test_new_files_are_shown_once(self):
        self.showRun(second)
        (second / "ranking").mkdir(exist_ok=True)
        page, file = self.widget.pages["result"], second / "ranking" / "ranking.json"
        file.write_text(json.dumps({"cases": []}) + " " * 9)
        self.addCleanup(file.unlink)
        with patch.object(page, "_showComparison", wraps=page._showComparison) as shown:
            # Without the event loop: the run's end, or what the engine lists meanwhile, would show the page once more.
            self.widget.update()
        self.assertEqual(shown.call_count, 1)


class NothingYetTest(ResultTestCase):
    def test_without_a_run_the_page_says_what_to_do(self):
        self.widget.goTo("result")
        processEvents(20)
        self.assertIn("No run is shown", self.ui4.resultLabel.text)
        for name in ("useModelButton", "exportModelButton", "trainOnButton", "compareButton", "rankButton"):
            self.assertFalse(getattr(self.ui4, name).enabled, name)

    def test_a_run_without_a_model_yet(self):
        run = study / "runs" / "begun"
        run.mkdir(exist_ok=True)
        (run / "config.json").write_text("{}")
        self.showRun(run)
        self.assertIn("has no model yet", self.ui4.resultLabel.text)
        self.assertFalse(self.ui4.compareButton.enabled)
        self.assertIn("first checkpoint", self.ui4.rankingLabel.text)

    def test_a_run_whose_folder_is_gone(self):
        self.showRun(study / "runs" / "nowhere")
        self.assertIn("is gone", self.ui4.resultLabel.text)


class ModelTest(ResultTestCase):
    def test_used_it_is_listed_and_chosen_by_segment(self):
        self.showRun(second)
        self.click(self.ui4.useModelButton)
        path = str((second / "model").resolve())
        segment = slicer.util.getModuleLogic("DINOMixSegment")
        self.assertEqual(segment.getParameterNode().modelPath, path)
        self.assertIn("DINOMix Segment has chosen", self.ui.messageLabel.text)
        self.assertEqual(modelFolders().count(path), 1)
        self.click(self.ui4.useModelButton)
        self.assertEqual(modelFolders().count(path), 1)
        # The worker, the real one, finds it in that setting and segments with it.
        try:
            segment.refreshModels()
            waitUntil(lambda: segment.model(path) is not None, PATIENCE, "the worker lists the model")
            self.assertEqual(segment.model(path)["title"], "second")
            self.assertIsNone(segment.model(path)["problem"])
            volume = slicer.util.loadVolume(str(study / "unlabeled" / "images" / "unlabeled0.nii.gz"))
            node = segment.segment(volume, path, device="cpu")
            self.assertEqual(node.GetSegmentation().GetNthSegment(0).GetName(), "liver")
        finally:
            segment.stopWorker()

    def test_exported_it_is_one_file(self):
        self.showRun(second)
        target = self.folder / "Modell 例"
        with patch("qt.QFileDialog.getSaveFileName", lambda *arguments: str(target)):
            self.click(self.ui4.exportModelButton)
        self.waitForIdle()
        self.assertIn("Modell 例.zip", self.ui.messageLabel.text)
        with zipfile.ZipFile(self.folder / "Modell 例.zip") as archive:
            self.assertIn("second/manifest.json", archive.namelist())
            self.assertIsNone(archive.testzip())

    def test_what_prevents_an_export_is_told(self):
        self.showRun(second)
        (self.folder / "file").write_text("")
        with patch("qt.QFileDialog.getSaveFileName", lambda *arguments: str(self.folder / "file" / "m.zip")):
            self.click(self.ui4.exportModelButton)
        self.waitForIdle()
        self.assertIn("Choose another name", self.ui.messageLabel.text)

    def test_training_on_starts_from_it(self):
        self.showRun(second)
        self.click(self.ui4.trainOnButton)
        self.assertEqual(self.parameters.startModel, str((second / "model").resolve()))
        self.assertEqual(self.ui.pagesTabWidget.currentIndex, 1)


class RankingTest(ResultTestCase):
    def test_a_case_is_ranked_opened_corrected_and_added(self):
        self.showRun(second)
        case, node = self.openCase()
        told = json.loads((second / "ranking" / "ranking.json").read_text("utf-8"))["cases"]
        rows = self.cells(self.ui4.rankingTable)
        self.assertEqual([row[0] for row in rows], [each["name"] for each in told])
        self.assertEqual(rows[0][1], f"{told[0]['score']:.3f}")
        self.assertEqual(rows[0][3], "open")
        self.assertIn("Segment Editor", self.ui.messageLabel.text)

        segmentation = node.GetSegmentation()
        names = [segmentation.GetNthSegment(number).GetName() for number in range(2)]
        self.assertEqual(names, ["liver", "gallbladder"])
        (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        liver = segmentation.GetNthSegmentID(0)
        labels = slicer.util.arrayFromSegmentBinaryLabelmap(node, liver, volume)
        expected = slicer.util.loadSegmentation(str(case.pseudoLabel))
        there = slicer.util.arrayFromSegmentBinaryLabelmap(
            expected, expected.GetSegmentation().GetSegmentIdBySegmentName("liver"), volume
        )
        self.assertTrue((labels == there).all() and labels.any())
        slicer.mrmlScene.RemoveNode(expected)

        # Opened again, it is the same node; and a second time with a double click.
        self.ui4.rankingTable.cellDoubleClicked(0, 0)
        self.waitForIdle()
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")), 1)

        # The user erases a part, and draws the other structure anew.
        labels[:, :, :16] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, liver, volume)
        self.click(self.ui4.addCaseButton)
        self.waitForIdle()
        self.assertIn("Check the cases again", self.ui.messageLabel.text)
        self.assertEqual(self.cells(self.ui4.rankingTable)[0][3], "added")
        self.checkAdded(case, int(labels.sum()))

        # Corrected once more, it is still one case.
        labels[:, :, 16:20] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, liver, volume)
        self.click(self.ui4.addCaseButton)
        self.waitForIdle()
        self.checkAdded(case, int(labels.sum()))

    def checkAdded(self, case, voxels):
        """The next check has the case as labeled, with these voxels of its liver, and no longer as unlabeled."""
        entries = correctedCases(study)
        self.assertEqual([entry["image"] for entry in entries], [case.image])
        cases = [{**entry, "role": "labeled"} for entry in entries]
        (self.folder / "cases.json").write_text(json.dumps(cases), "utf-8")
        done = engine(
            "check", "--labeled", study / "labeled", "--unlabeled", study / "unlabeled" / "images", "--json",
            "--cases", self.folder / "cases.json", "--out", self.folder / "cohort.json", "--overwrite",
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)
        told = {event["name"]: event for event in map(json.loads, done.stdout.splitlines()) if event["kind"] == "case"}
        self.assertEqual(told[case.name]["role"], "labeled")
        self.assertEqual(told[case.name]["voxels"].get("liver", 0), voxels)
        self.assertEqual(sum(event["role"] == "unlabeled" for event in told.values()), 2)

    def test_cancelled_it_keeps_what_it_has_and_goes_on(self):
        self.showRun(first)
        self.assertTrue(self.ui4.rankButton.enabled)
        self.click(self.ui4.rankButton)
        done = first / "ranking" / ".done"
        waitUntil(lambda: len(list(done.glob("*.json"))) >= 1, PATIENCE, "a first case")
        self.click(self.ui4.cancelResultButton)
        self.waitForIdle()
        times = {file: file.stat().st_mtime_ns for file in done.glob("*.json")}
        self.click(self.ui4.rankButton)
        self.waitForIdle()
        self.assertEqual(len(self.results.ranking), 3)
        for file, time in times.items():
            self.assertEqual(file.stat().st_mtime_ns, time)

    def test_each_order_has_its_own_words_and_figures(self):
        self.showRun(second)
        box = self.ui4.rankByComboBox
        self.assertEqual([box.itemData(row) for row in range(box.count)], list(allWords()))
        self.assertEqual(set(allWords()), set(STRATEGIES))
        self.assertEqual(box.itemData(box.currentIndex), DEFAULT)
        for by, title, sentence in (
            ("predicted-dice", "Expected Dice", "expects the worst of its own labels"),
            ("clasp-pe", "Uncertainty", "one structure after the other"),
            ("foreground-random", "", "come first more often"),
            ("random", "", "by chance alone"),
        ):
            self.choose(box, wordsOf(by).title)
            self.click(self.ui4.rankButton)
            self.waitForIdle()
            self.assertEqual(self.parameters.rankBy, by)
            waitUntil(lambda: self.ui4.rankingTable.item(2, 3) is not None, what="a filled table")
            told = json.loads((second / "ranking" / "ranking.json").read_text("utf-8"))
            self.assertEqual(told["by"], by)
            self.assertEqual([row[0] for row in self.cells(self.ui4.rankingTable)], [c["name"] for c in told["cases"]])
            self.assertEqual(self.ui4.rankingTable.horizontalHeaderItem(1).text(), title)
            self.assertEqual(self.ui4.rankingTable.isColumnHidden(1), not title)
            self.assertIn(sentence, self.ui4.rankingLabel.text)
            figures = [value for value in self.results.ranking[0].classes.values() if value is not None]
            self.assertEqual(figures, sorted(figures, reverse=by != "predicted-dice"))

    def test_a_ranking_of_an_earlier_version_is_one_by_disagreement(self):
        entry = {"name": "a", "image": "a.nii.gz", "classes": {"liver": 0.25}, "pseudo_label": "ranking/a.seg.nrrd"}
        (first / "ranking").mkdir(exist_ok=True)
        file = first / "ranking" / "ranking.json"
        file.write_text(json.dumps({"cases": [{**entry, "disagreement": 0.25}]}))
        self.addCleanup(file.unlink)
        self.showRun(first)
        waitUntil(lambda: self.ui4.rankingTable.item(0, 3) is not None, what="a filled table")
        self.assertEqual(self.cells(self.ui4.rankingTable)[0][:3], ["a", "0.250", "liver 0.25"])
        self.assertIn("disagree most", self.ui4.rankingLabel.text)

    def test_a_case_whose_image_is_gone_is_told(self):
        self.showRun(second)
        self.rank()
        case = self.results.ranking[1]
        image = Path(case.image)
        image.rename(image.with_suffix(".away"))
        try:
            self.ui4.rankingTable.selectRow(1)
            self.click(self.ui4.openCaseButton)
            self.waitForIdle()
            self.assertIn("is not there any more", self.ui.messageLabel.text)
            self.assertIsNone(nodeOfCase(case))
        finally:
            image.with_suffix(".away").rename(image)

    def test_overlapping_segments_are_not_added_and_empty_ones_are_those_of_a_healthy_patient(self):
        self.showRun(second)
        self.rank()
        row = next(n for n, cells in enumerate(self.cells(self.ui4.rankingTable)) if cells[3] != "added")
        _case, node = self.openCase(row)
        (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        segmentation = node.GetSegmentation()
        one, two = (segmentation.GetNthSegmentID(number) for number in range(2))
        labels = slicer.util.arrayFromSegmentBinaryLabelmap(node, one, volume)
        labels[:] = 0
        labels[10:14, 10:14, 10:14] = 1
        segmentation.SeparateSegmentLabelmap(two)
        for id in (one, two):
            slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, id, volume)
        self.click(self.ui4.addCaseButton)
        self.waitForIdle()
        self.assertIn("overlap", self.ui.messageLabel.text)
        self.assertNotEqual(self.cells(self.ui4.rankingTable)[row][3], "added")
        labels[:] = 0
        for id in (one, two):
            slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, id, volume)
        self.click(self.ui4.addCaseButton)
        self.waitForIdle()
        self.assertEqual(self.cells(self.ui4.rankingTable)[row][3], "added")

    def test_closing_the_scene_while_a_case_is_open(self):
        self.showRun(second)
        case, _node = self.openCase()
        slicer.mrmlScene.Clear(False)
        processEvents(50)
        self.showRun(second)
        self.rank()
        self.assertIsNone(nodeOfCase(case))
        self.ui4.rankingTable.selectRow(0)
        processEvents(20)
        self.assertFalse(self.ui4.addCaseButton.enabled)
        self.assertIn("Open the case first", self.ui4.addCaseButton.toolTip)

    def test_closing_the_window_ends_what_it_has_started(self):
        self.showRun(first)
        for file in (first / "ranking").glob("**/*.json"):
            file.unlink()
        self.click(self.ui4.rankButton)
        processEvents(300)
        process = self.results._task._process
        self.closeWindow()
        self.assertFalse(process.isRunning())


class LargeRankingTest(ResultTestCase):
    def test_thousands_of_cases_do_not_hold_up_the_window(self):
        run = self.folder / "run"
        many_cases.rankedRun(run)
        with rowsAtEachTurn(self.ui4.rankingTable) as rows:
            self.showRun(run)
            waitUntil(lambda: rows[-1] == 3000, 120, "the ranking")
        self.assertIsNotNone(self.ui4.rankingTable.item(2999, 3))
        self.assertLessEqual(max(np.diff(rows)), 2)


if __name__ == "__main__":
    unittest.main()
