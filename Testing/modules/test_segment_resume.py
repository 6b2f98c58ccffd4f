"""A restart of Slicer leads back to the volume and the model."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import qt
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixSegmentLib.resume import RESUME_SETTING, remember, resumeAfterRestart
from segment_fakes import FakeClient, FakeInstaller, addVolume


class ResumeTest(unittest.TestCase):
    expectsVtkErrors = True  # a file that is no volume

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "scan.nrrd"
        self.logic = DINOMixSegmentLogic(FakeClient(), FakeInstaller())
        self.addCleanup(self.logic.cleanup)

    def rememberChoices(self):
        """The volume of the file, and a model."""
        slicer.mrmlScene.Clear(False)
        parameters = self.logic.getParameterNode()
        parameters.inputVolume, parameters.modelPath = addVolume(), "/models/abdomen"
        slicer.util.saveNode(parameters.inputVolume, str(self.file))
        remember(parameters)

    def restart(self):
        slicer.mrmlScene.Clear(False)
        self.parameters = self.logic.getParameterNode()
        self.parameters.modelPath = ""
        self.problem = resumeAfterRestart(self.parameters)

    def test_volume_and_model_are_chosen_again_once(self):
        self.rememberChoices()
        self.restart()
        self.assertEqual(self.parameters.modelPath, "/models/abdomen")
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(self.parameters.inputVolume).ravel(), np.arange(4 * 5 * 6)
        )
        self.restart()
        self.assertEqual(self.parameters.modelPath, "")

    def test_volume_that_loads_no_more(self):
        for content in (None, b"no volume any more"):
            with self.subTest(content=content):
                self.rememberChoices()
                self.file.unlink()
                if content is not None:
                    self.file.write_bytes(content)
                self.restart()
                self.assertIn(str(self.file), self.problem)
                self.assertIsNone(self.parameters.inputVolume)
                self.assertEqual(self.parameters.modelPath, "/models/abdomen")

    def test_damaged_note(self):
        qt.QSettings().setValue(RESUME_SETTING, "{damaged")
        self.restart()
        self.assertEqual((self.problem, self.parameters.modelPath), ("", ""))
