"""Which cases to draw first, on the page "Cases": proposed by the real engine, shown, and told apart once they are labeled."""

import json
import unittest
from pathlib import Path

import numpy as np
import slicer
from cohort_cases import labeledFolder, labels, unlabeledFolder, write
from cohort_window import CHECK_SECONDS, CohortTestCase
from waiting import processEvents, waitUntil


class FirstCasesTest(CohortTestCase):
    def prepare(self):
        """Ten scans, of which nine are alike."""
        self.scans = unlabeledFolder(self.folder / "scans", 9)
        write(1000 * labels().astype(np.int16), self.scans / "scan900.nrrd")

    @property
    def logicOfFirst(self):
        return self.logic.firstCases

    def openGroup(self):
        self.ui.firstCasesCollapsibleButton.collapsed = False
        processEvents(20)

    def propose(self):
        self.click(self.ui.findFirstCasesButton)
        waitUntil(lambda: self.logicOfFirst.state == "idle", CHECK_SECONDS, "the proposal")
        waitUntil(lambda: self.rows() is not None, what="the rows")
        processEvents(30)

    def rows(self):
        table = self.ui.firstCasesTable
        items = [[table.item(row, column) for column in range(4)] for row in range(table.rowCount)]
        return None if any(None in row for row in items) else [[item.text() for item in row] for row in items]

    def header(self, column):
        return self.ui.firstCasesTable.horizontalHeaderItem(column).text()

    def test_before_anything_is_labeled_the_cases_that_stand_for_the_others_are_proposed_and_shown(self):
        self.assertFalse(self.ui.firstCasesCollapsibleButton.isVisible())
        self.addFolder(self.ui.addUnlabeledButton, self.scans)
        self.openGroup()
        self.assertTrue(self.ui.firstCasesCollapsibleButton.isVisible())
        self.assertFalse(self.ui.findFirstCasesButton.enabled)
        self.assertIn("Choose a study folder", self.ui.findFirstCasesButton.toolTip)
        self.chooseStudy()
        self.assertFalse(self.ui.checkButton.enabled, "there is nothing labeled to check yet")
        self.assertIn("Before there is a model", self.ui.firstCasesLabel.text)
        self.propose()
        rows = self.rows()
        self.assertEqual([self.header(1), self.header(2)], ["Stands for", "Is like"])
        self.assertEqual(len(rows), 3)
        self.assertIn("Draw the first ones", self.ui.firstCasesLabel.text)
        told = json.loads((self.study / "first_cases.json").read_text("utf-8"))["cases"]
        self.assertEqual([row[0] for row in rows], [case["name"] for case in told])
        self.assertEqual([row[1] for row in rows], [str(case["represents"]) for case in told])

        self.ui.firstCasesTable.selectRow(0)
        self.ui.firstCasesTable.cellDoubleClicked(0, 0)
        processEvents(50)
        self.assertEqual(
            Path(self.shownVolume().GetStorageNode().GetFileName()).resolve(), Path(told[0]["image"]).resolve()
        )

        # Another study has none; this one has its own again.
        self.chooseStudy(self.folder / "other")
        self.assertEqual(self.ui.firstCasesTable.rowCount, 0)
        self.chooseStudy()
        waitUntil(lambda: self.rows() == rows, what="the rows of before")

    def test_checked_cases_that_are_labeled_stand_for_theirs(self):
        self.chooseStudy()
        self.addFolder(self.ui.addLabeledButton, labeledFolder(self.folder / "labeled", 2))
        self.addFolder(self.ui.addUnlabeledButton, self.scans)
        self.check()
        self.openGroup()
        self.propose()
        looked = json.loads((self.study / "looked_at.json").read_text("utf-8"))
        self.assertEqual(sorted(case["role"] for case in looked), ["labeled"] * 2 + ["unlabeled"] * 10)
        self.assertEqual(self.rows()[0][0], "scan900", "the only one that no labeled case is like")
        self.assertEqual({row[3] for row in self.rows()}, {""})

        # The first one is labeled now.
        name, image = self.logicOfFirst.cases[0].name, self.logicOfFirst.cases[0].image
        write(labels(), self.study / "corrected" / "label.nrrd")
        entries = [{"name": name, "image": image, "label": "label.nrrd"}]
        (self.study / "corrected" / "cases.json").write_text(json.dumps(entries), "utf-8")
        self.check()
        waitUntil(lambda: self.rows()[0][3] == "labeled", what="the state of the first row")

    def test_an_image_that_cannot_be_read_is_told_and_the_others_are_proposed(self):
        (self.scans / "scan101.nrrd").write_bytes(b"no image")
        self.chooseStudy()
        self.addFolder(self.ui.addUnlabeledButton, self.scans)
        self.openGroup()
        self.propose()
        self.assertIn("1 of 10 cases could not be looked at", self.window.messageLabel.text)
        self.assertIn("scan101", self.window.messageLabel.text)
        self.assertEqual(len(self.rows()), 3)

    def test_cancelled_or_with_the_window_closed_nothing_runs_on(self):
        self.chooseStudy()
        self.addFolder(self.ui.addUnlabeledButton, self.scans)
        self.openGroup()
        self.click(self.ui.findFirstCasesButton)
        self.assertEqual(self.ui.findFirstCasesButton.text, "Cancel")
        self.click(self.ui.findFirstCasesButton)
        waitUntil(lambda: self.logicOfFirst.state == "idle", CHECK_SECONDS, "an end")
        self.assertEqual(self.ui.findFirstCasesButton.text, "Propose cases")
        self.click(self.ui.findFirstCasesButton)
        process = self.logicOfFirst._process
        slicer.mrmlScene.Clear(False)
        processEvents(30)
        self.closeWindow()
        self.assertFalse(process.isRunning())


if __name__ == "__main__":
    unittest.main()
