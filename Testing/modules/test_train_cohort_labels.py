"""Labels that leave something open on the page "Cases", driven as a person drives it, with the real engine."""

import json
import unittest

import numpy as np
import qt
import slicer
from cohort_cases import addSceneCase, labeledFolder, labels, write
from cohort_window import CohortTestCase
from waiting import processEvents, waitUntil

SAYS = 2  # column of the table of structures
STEP = 3


def without(structure, seed):
    array = labels(seed)
    array[array == structure] = 0
    return array


def everyThirdSlice():
    """A box through the whole volume, drawn in the slices 1, 4, 7, 10."""
    array = np.zeros(labels().shape, np.uint8)
    array[1::STEP, 3:9, 2:9] = 1
    array[1::STEP, 10:12, 11:13] = 2
    return array


class LabelsTestCase(CohortTestCase):
    """``case2`` lacks the spleen, ``case3`` the liver."""

    def setUp(self):
        super().setUp()
        self.labeled = labeledFolder(self.folder / "labeled", 4)
        write(without(2, 2), self.labeled / "labels" / "case2.nii.gz")
        write(without(1, 3), self.labeled / "labels" / "case3.nii.gz")

    def checkFolder(self):
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.labeled)
        self.check()

    # -- What a person does

    def say(self, structure, what):
        """Choose in the table of structures, and wait until the cases are checked again."""
        self.choose(self.ui.labelsTable.cellWidget(self.structures().index(structure), SAYS), what)
        self.awaitCheck()

    def awaitCheck(self):
        waitUntil(
            lambda: self.cohort.state == "idle" and self.cohort.isUpToDate(self.parameters), 90, "the check by itself"
        )
        # The table is filled after the check has ended, some events later.
        waitUntil(lambda: not any("Decided" in state[1] for state in self.states().values()), 10, "the checked states")
        self.settle()

    def fromMenu(self, text):
        """Choose an entry of the context menu of the chosen cases."""
        table = self.ui.casesTable
        table.customContextMenuRequested(qt.QPoint(5, 5))
        processEvents(10)
        menu = table.findChildren(qt.QMenu)[-1]
        action = next(action for action in menu.actions() if action.text == text)
        self.assertTrue(action.enabled)
        action.trigger()
        menu.close()
        self.awaitCheck()

    # -- What is shown

    def structures(self):
        return [self.ui.labelsTable.item(row, 0).text() for row in range(self.ui.labelsTable.rowCount)]

    def shown(self):
        """Structure -> its state in the chosen cases, and what is said of it."""
        table = self.ui.labelsTable
        return {
            table.item(row, 0).text(): (table.item(row, 1).text(), table.cellWidget(row, SAYS).currentText)
            for row in range(table.rowCount)
        }

    def state(self, name):
        return self.states()[name][1]

    def case(self, name):
        """Of the cohort file."""
        return next(case for case in self.cohortFile()["cases"] if case["name"] == name)

    def listed(self):
        return json.loads((self.study / "cases.json").read_text(encoding="utf-8"))


class OneCaseTest(LabelsTestCase):
    def test_what_is_undecided_stands_out_and_is_explained(self):
        self.checkFolder()
        self.assertReady()
        self.assertEqual(self.state("case0"), "Good")
        self.assertEqual(self.state("case2"), "Undecided: spleen")
        table = self.ui.casesTable
        row = next(row for row in range(4) if table.item(row, 0).text() == "case2")
        self.assertTrue(table.item(row, 2).font().bold())
        self.assertIn("Drawn: liver.", table.item(row, 2).toolTip())
        self.assertIn("Say under What was drawn", self.ui.noticesLabel.text)
        self.assertNotIn("--", self.ui.noticesLabel.text)
        self.choose(self.ui.checkedFilterComboBox, "Undecided")
        self.assertEqual(self.shownRows(), ["case2", "case3"])
        self.selectCases("case2")
        self.assertEqual(
            self.shown(), {"spleen": ("undecided", "(nothing said)"), "liver": ("drawn", "(nothing said)")}
        )
        self.assertIn("Undecided, so that nothing is learned of it", self.ui.caseDetailLabel.text)

    def test_a_structure_is_absent_and_that_is_taken_back(self):
        self.checkFolder()
        self.selectCases("case2")
        self.say("spleen", "absent")
        self.assertReady()
        self.assertEqual(self.listed(), [{"name": "case2", "absent": ["spleen"]}])
        self.assertEqual(self.state("case2"), "Good; absent: spleen")
        self.assertEqual((self.case("case2")["drawn"], self.case("case2")["undecided"]), (None, []))
        self.assertEqual(self.shown()["spleen"], ("absent", "absent"), "the case is still chosen")
        self.say("spleen", "(nothing said)")
        self.assertEqual(self.state("case2"), "Undecided: spleen")
        self.assertEqual(self.parameters.decisions, "")

    def test_a_structure_that_is_there_was_drawn_only_in_part(self):
        self.checkFolder()
        self.selectCases("case0")
        box = self.ui.labelsTable.cellWidget(self.structures().index("liver"), SAYS)
        self.assertEqual([box.itemText(row) for row in range(box.count)], ["(nothing said)", "drawn in part"])
        self.say("liver", "drawn in part")
        self.assertEqual(self.state("case0"), "Good; not drawn: liver")
        self.assertEqual(self.case("case0")["drawn"], [2])
        self.click(self.ui.takeBackButton)
        self.awaitCheck()
        self.assertEqual(self.state("case0"), "Good")

    def test_the_context_menu_decides_for_several_cases(self):
        self.checkFolder()
        self.selectCases("case2", "case3")
        self.assertIn("2 cases: case2, case3", self.ui.labelsOfLabel.text)
        self.assertEqual(self.shown()["spleen"][0], "undecided in 1, drawn in 1")
        self.fromMenu("Undecided structures were not drawn")
        self.assertEqual([self.state(name) for name in ("case2", "case3")],
                         ["Good; not drawn: spleen", "Good; not drawn: liver"])  # fmt: skip
        self.assertEqual([case.name for case in self.page.cases.chosen], ["case2", "case3"], "they stay chosen")
        self.assertEqual(self.shown()["spleen"][1], "not drawn if lacking")
        self.fromMenu("Take back what was said of its label")
        self.assertEqual(self.state("case3"), "Undecided: liver")

    def test_decisions_one_after_the_other_are_checked_together(self):
        self.checkFolder()
        checks = []
        self.cohort.stateChanged.connect(lambda state: checks.append(state) if state == "exporting" else None)
        for name, structure in (("case2", "spleen"), ("case3", "liver")):
            self.selectCases(name)
            self.choose(self.ui.labelsTable.cellWidget(self.structures().index(structure), SAYS), "not drawn")
            self.assertEqual(self.state(name), "Decided; check to see its state")
        self.awaitCheck()
        self.assertEqual(len(checks), 1)
        self.assertEqual(self.state("case3"), "Good; not drawn: liver")

    def test_a_decision_during_a_check_is_checked_after_it(self):
        self.checkFolder()
        self.selectCases("case2")
        self.click(self.ui.checkButton)
        self.choose(self.ui.labelsTable.cellWidget(self.structures().index("spleen"), SAYS), "not drawn")
        self.awaitCheck()
        self.assertEqual(self.state("case2"), "Good; not drawn: spleen")

    def test_what_is_wrong_stands_at_its_case_and_can_be_taken_back(self):
        self.checkFolder()
        self.selectCases("case2")
        self.say("spleen", "absent")
        write(labels(2), self.labeled / "labels" / "case2.nii.gz")
        self.check()
        self.assertFalse(self.ui.goToTrainingButton.enabled)
        self.assertIn("said to be absent", self.state("case2"))
        self.selectCases("case2")
        self.assertIn("Take back under What was drawn", self.ui.caseDetailLabel.text)
        self.click(self.ui.takeBackButton)
        self.awaitCheck()
        self.assertReady()

    def test_decisions_are_kept_with_the_study_and_follow_a_new_name(self):
        self.checkFolder()
        self.selectCases("case2")
        self.say("spleen", "absent")
        self.closeWindow()
        slicer.mrmlScene.Clear(False)
        self.openWindow()
        self.page, self.cohort = self.widget.pages["cases"], self.logic.cohort
        self.window, self.ui = self.ui, self.page.ui
        self.chooseStudy()
        self.settle()
        self.assertReady()
        self.selectCases("case2")
        self.assertEqual(self.shown()["spleen"], ("absent", "absent"))
        self.rename("spleen", "liver")
        self.rename("spleen", "spleen")
        box = self.ui.namesTable.cellWidget(1, 2)
        box.lineEdit().setText("Milz")
        box.lineEdit().editingFinished()
        self.check()
        self.assertReady()
        self.assertEqual(self.state("case2"), "Good; absent: Milz")

    def test_a_folder_that_is_taken_out_takes_its_decisions_along_and_brings_them_back(self):
        other = labeledFolder(self.folder / "other", 2, first=10)
        write(without(1, 10), other / "labels" / "case10.nii.gz")
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, self.labeled)
        self.addFolder(self.ui.addLabeledButton, other)
        self.check()
        self.selectCases("case10")
        self.say("liver", "not drawn")
        self.parameters.labeledFolders = [str(self.labeled)]
        self.check()
        self.assertReady()
        self.parameters.labeledFolders = [str(self.labeled), str(other)]
        self.check()
        self.assertEqual(self.state("case10"), "Good; not drawn: liver")


class AllCasesTest(LabelsTestCase):
    def test_all_at_once_by_buttons(self):
        self.checkFolder()
        self.assertIn("All 4 labeled cases", self.ui.labelsOfLabel.text)
        self.assertEqual(self.shown()["liver"], ("undecided in 1, drawn in 3", "(nothing said)"))
        self.click(self.ui.notDrawnButton)
        self.awaitCheck()
        self.assertEqual(self.state("case2"), "Good; not drawn: spleen")
        self.assertEqual(self.shown()["liver"][1], "not drawn if lacking")
        self.say("spleen", "absent if lacking")
        self.assertEqual(self.state("case2"), "Good; absent: spleen")
        self.assertEqual(self.state("case3"), "Good; not drawn: liver")
        self.selectCases("case2")
        self.say("spleen", "not drawn")
        self.assertEqual(self.state("case2"), "Good; not drawn: spleen", "what is said of one case comes first")
        self.ui.casesTable.clearSelection()
        processEvents(30)
        self.click(self.ui.takeBackButton)
        self.awaitCheck()
        self.assertEqual(self.state("case2"), "Good; not drawn: spleen")
        self.assertEqual(self.state("case3"), "Undecided: liver")
        self.click(self.ui.absentButton)
        self.awaitCheck()
        self.assertEqual(self.state("case3"), "Good; absent: liver")


class SlicesTest(LabelsTestCase):
    def setUp(self):
        super().setUp()
        write(everyThirdSlice(), self.labeled / "labels" / "case1.nii.gz")

    def test_labeled_slices_are_found_told_and_changed(self):
        self.checkFolder()
        self.assertEqual(self.state("case1"), "Good; 4 of 12 slices labeled")
        self.selectCases("case1")
        self.assertIn("1, 4, 7, 10", self.ui.slicesLabel.text)
        self.choose(self.ui.slicesComboBox, "all")
        self.awaitCheck()
        self.assertEqual(self.state("case1"), "Good")
        self.choose(self.ui.slicesComboBox, "these:")
        self.assertTrue(self.ui.slicesLineEdit.isVisible())
        self.ui.slicesLineEdit.text = "4, some"
        self.ui.slicesLineEdit.editingFinished()
        self.assertIn("4, some are no slices", self.window.messageLabel.text)
        self.ui.slicesLineEdit.text = "10 4,7"
        self.ui.slicesLineEdit.editingFinished()
        self.awaitCheck()
        self.assertEqual(self.state("case1"), "Good; 3 of 12 slices labeled")
        self.assertEqual(self.listed(), [{"name": "case1", "labeled_slices": [4, 7, 10], "slice_axis": "k"}])
        self.ui.slicesLineEdit.text = "4, 12"
        self.ui.slicesLineEdit.editingFinished()
        self.awaitCheck()
        self.assertIn("no slice 12 along k", self.state("case1"))
        self.choose(self.ui.slicesComboBox, "as for all cases")
        self.awaitCheck()
        self.assertEqual(self.state("case1"), "Good; 4 of 12 slices labeled")

    def test_numbers_that_are_being_typed_are_left_alone(self):
        self.checkFolder()
        self.selectCases("case1")
        self.choose(self.ui.slicesComboBox, "these:")
        field = self.ui.slicesLineEdit
        field.text = "7,4"
        field.editingFinished()
        self.awaitCheck()
        self.assertEqual(field.text, "4, 7")
        field.setFocus()
        field.insert(", 10")
        self.widget.update()
        self.assertEqual(field.text, "4, 7, 10")
        field.editingFinished()
        self.awaitCheck()
        self.assertEqual(self.state("case1"), "Good; 3 of 12 slices labeled")
        field.setFocus()
        field.insert(", 1")
        self.choose(self.ui.slicesComboBox, "all")
        self.awaitCheck()
        self.assertFalse(field.isVisible())
        self.assertEqual(self.state("case1"), "Good", "hidden, it loses the focus, which says nothing of the slices")

    def test_all_slices_of_all_cases(self):
        self.checkFolder()
        self.assertIn("Of 1 of these cases only some slices", self.ui.slicesLabel.text)
        self.choose(self.ui.slicesComboBox, "all")
        self.awaitCheck()
        self.assertEqual(self.state("case1"), "Good")
        self.assertIsNone(self.case("case1")["labeled_slices"])


class SceneTest(LabelsTestCase):
    def test_segments_that_are_missing_or_ignored_and_some_slices(self):
        addSceneCase("whole", 1, "a")
        addSceneCase("half", 2, "b", names=("liver",))
        addSceneCase("unsure", 3, "c", names=("liver", "ignore"))
        volume, organs = addSceneCase("sliced", 4, "d")
        for value, id in enumerate(organs.GetSegmentation().GetSegmentIDs(), 1):
            slicer.util.updateSegmentBinaryLabelmapFromArray(
                (everyThirdSlice() == value).astype(np.uint8), organs, id, volume
            )
        self.chooseStudy()
        self.settle()
        self.click(self.ui.sceneAllButton)
        self.check()
        self.assertReady()
        self.assertEqual(
            {name: state for name, (_part, state) in self.states().items()},
            {
                "whole": "Good",
                "half": "Undecided: spleen",
                "unsure": "Undecided: spleen; some voxels ignored",
                "sliced": "Good; 4 of 12 slices labeled",
            },
        )
        self.assertEqual(self.structures(), ["spleen", "liver"], "ignore is none")
        self.selectCases("half")
        self.say("spleen", "absent")
        self.assertEqual(self.state("half"), "Good; absent: spleen")
        (entry,) = [entry for entry in self.listed() if entry.get("absent")]
        self.assertEqual((entry["name"], entry["absent"]), ("half", ["spleen"]))
        self.assertTrue(entry["image"].endswith("half.nrrd"))
        self.tick("half", False)
        self.check()
        self.assertReady()
        self.tick("half")
        self.check()
        self.assertEqual(self.state("half"), "Good; absent: spleen", "what was said was kept")
        slicer.mrmlScene.Clear(False)
        self.chooseStudy()
        self.settle()
        self.assertReady()
        self.check()
        self.assertEqual(self.state("half"), "Good; absent: spleen", "also of the copies of a scene that is closed")

    def test_a_name_of_a_healthy_case_is_told(self):
        write(np.zeros_like(labels()), self.labeled / "labels" / "case1.nii.gz")
        self.checkFolder()
        self.assertEqual(self.state("case1"), "Shows no structure")
        self.assertIn("add them as unlabeled cases", self.ui.noticesLabel.text)


class KeptTest(unittest.TestCase):
    def test_a_damaged_text_says_nothing(self):
        from DINOMixTrainLib.decisions import Decisions, Said

        for text in ("", "rubbish", "[]", '{"other": 1}', '{"cases": 3}', '{"cases": {"a": {"b": 1}}}'):
            self.assertEqual(Decisions.of(text), Decisions(), text)
        said = Decisions(True, ("liver",), "all", {"größe": Said({"spleen": "absent"}, "k:1,2", "/data")})
        self.assertEqual(Decisions.of(said.text), said)


if __name__ == "__main__":
    unittest.main()
