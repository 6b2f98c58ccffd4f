"""Dialogs that a test answers."""

import unittest
from unittest import mock

import ctk
import qt
import slicer

from host.qt import dialogs

BOX = qt.QMessageBox


class DialogTest(unittest.TestCase):
    def test_message_boxes(self):
        dialogs.answer(BOX.Yes, "No", BOX.Ok)
        self.assertEqual(BOX.question(None, "Delete", "Delete it?", BOX.Yes | BOX.No), BOX.Yes)
        self.assertEqual(BOX.warning(None, "Delete", "Really?", BOX.Yes | BOX.No, BOX.No), BOX.No)
        self.assertEqual(BOX.information(None, "Done", "It is gone."), BOX.Ok)
        self.assertEqual([asked.text for asked in dialogs.asked], ["Delete it?", "Really?", "It is gone."])

    def test_files_and_texts_are_returned_alone_as_in_pythonqt(self):
        dialogs.answer("/data/scan.nrrd", None, ["/a", "/b"], "name", None)
        self.assertEqual(qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nrrd"), "/data/scan.nrrd")
        self.assertEqual(qt.QFileDialog.getExistingDirectory(None, "Folder"), "")
        self.assertEqual(qt.QFileDialog.getOpenFileNames(None, "Files"), ("/a", "/b"))
        self.assertEqual(qt.QInputDialog.getText(None, "Name", "New name:"), "name")
        self.assertFalse(qt.QColorDialog.getColor().isValid())

    def test_other_dialogs(self):
        dialog = qt.QDialog()
        dialogs.answer(True, False, lambda opened: opened.done(7))
        self.assertEqual([dialog.exec_(), dialog.exec_(), dialog.exec_()], [1, 0, 7])
        qt.QTimer.singleShot(0, dialog.accept)
        self.assertEqual(dialog.exec_(), 1)

    def test_slicers_own_questions(self):
        slicer.app.commandOptions().testingEnabled = False
        dialogs.answer(BOX.Yes, BOX.Cancel)
        with mock.patch.object(slicer.util, "mainWindow", return_value=qt.QWidget()):
            self.assertTrue(slicer.util.confirmYesNoDisplay("Go on?", windowTitle="Question"))
            self.assertFalse(slicer.util.confirmOkCancelDisplay("Go on?"))
        self.assertEqual(dialogs.asked[0], dialogs.Asked("ctkMessageBox", "Question", "Go on?"))

    def test_a_box_that_is_not_to_come_again(self):
        def tick(box):
            box.dontShowAgain = True
            box.button(BOX.Ok).click()

        dialogs.answer(tick)
        for _ in range(2):
            box = ctk.ctkMessageBox()
            box.standardButtons = BOX.Ok
            box.dontShowAgainSettingsKey = "Test/DontShow"
            self.assertEqual(box.exec_(), BOX.Ok)
        self.assertEqual(len(dialogs.asked), 1)

    def test_nobody_answers(self):
        with (
            mock.patch.object(dialogs, "PATIENCE_S", 0.05),
            self.assertRaisesRegex(dialogs.UnansweredDialog, "Delete it"),
        ):
            BOX.question(None, "Delete", "Delete it?")
        with self.assertRaises(dialogs.UnansweredDialog):
            qt.QFileDialog.getSaveFileName(None, "Save")

    def test_an_answer_that_does_not_fit(self):
        dialogs.answer(BOX.Yes)
        with self.assertRaisesRegex(AssertionError, "no button"):
            BOX.information(None, "Done", "It is gone.")
        dialogs.answer(3)
        with self.assertRaisesRegex(AssertionError, "no answer"):
            qt.QFileDialog.getOpenFileName(None, "Open")

    def test_answers_left_over(self):
        dialogs.answer(True)
        self.assertEqual(dialogs.unusedAnswers(), [True])
        dialogs.reset()
        self.assertEqual(dialogs.unusedAnswers(), [])
