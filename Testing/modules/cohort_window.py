"""What tests of the page "Cases" share: a window over the real engine, and what a person does in it."""

import json
from unittest.mock import patch

import qt
import slicer
from train_window import TrainWindowTestCase
from waiting import processEvents, waitUntil

CHECK_SECONDS = 90


class CohortTestCase(TrainWindowTestCase):
    """Opens the window on the page "Cases"; ``self.study`` is a folder that is not there yet."""

    def setUp(self):
        super().setUp()
        self.study = self.folder / "Studie ü 例"
        self.page = self.widget.pages["cases"]
        self.cohort = self.logic.cohort
        self.window, self.ui = self.ui, self.page.ui

    # -- What a person does

    def chooseStudy(self, path=None):
        self.ui.studyPathEdit.currentPath = str(path or self.study)
        waitUntil(lambda: self.parameters.studyFolder == str(path or self.study), what="the study folder")
        processEvents(30)

    def addFolder(self, button, folder):
        with patch("DINOMixTrainLib.folder_table.askForFolder", lambda *asked: str(folder)):
            self.click(button)
        processEvents(30)

    def tick(self, name, isChosen=True):
        item = self.ui.sceneTable.item(self.sceneRow(name), 0)
        item.setCheckState(qt.Qt.Checked if isChosen else qt.Qt.Unchecked)
        processEvents(30)

    def segmentationBox(self, name):
        return self.ui.sceneTable.cellWidget(self.sceneRow(name), 1)

    def check(self):
        """Check, and wait for what is found."""
        self.click(self.ui.checkButton)
        waitUntil(lambda: self.cohort.state == "idle", CHECK_SECONDS, "the check")
        self.settle()

    def selectCases(self, *names):
        table = self.ui.casesTable
        table.clearSelection()
        table.setSelectionMode(qt.QAbstractItemView.MultiSelection)
        for row in range(table.rowCount):
            if table.item(row, 0).text() in names:
                table.selectRow(row)
        table.setSelectionMode(qt.QAbstractItemView.ExtendedSelection)
        processEvents(10)

    def rename(self, name, target):
        """Choose what a structure is called."""
        for row in range(self.ui.namesTable.rowCount):
            if self.ui.namesTable.item(row, 0).text() == name:
                self.choose(self.ui.namesTable.cellWidget(row, 2), target)
                self.settle()
                return
        self.fail(f"no structure {name} is shown")

    def settle(self):
        """Let the window show what has happened."""
        processEvents(30)
        waitUntil(lambda: not self.page.cases.isFilling(), what="the rows")
        processEvents(30)

    # -- What is shown

    def sceneNames(self):
        return [self.ui.sceneTable.item(row, 0).text() for row in range(self.ui.sceneTable.rowCount)]

    def sceneRow(self, name):
        self.assertIn(name, self.sceneNames())
        return self.sceneNames().index(name)

    def row(self, name):
        """Case, part, state and image of a case."""
        table = self.ui.casesTable
        for row in range(table.rowCount):
            if table.item(row, 0).text() == name:
                return [table.item(row, column).text() for column in range(4)]
        return None

    def states(self):
        """Case -> (part, state)."""
        table = self.ui.casesTable
        return {
            table.item(row, 0).text(): (table.item(row, 1).text(), table.item(row, 2).text())
            for row in range(table.rowCount)
        }

    def shownRows(self):
        table = self.ui.casesTable
        return [table.item(row, 0).text() for row in range(table.rowCount) if not table.isRowHidden(row)]

    @property
    def status(self):
        return self.ui.checkStatusLabel.text

    def cohortFile(self):
        return json.loads((self.study / "cohort.json").read_text(encoding="utf-8"))

    def assertReady(self):
        self.assertIn("The cases are good", self.status)
        self.assertTrue(self.ui.goToTrainingButton.enabled)

    def shownVolume(self):
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        return slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
