"""A restart of Slicer leads back to the volume and the model."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixSegmentLib.resume import resumeAfterRestart
from segment_fakes import FakeClient, FakeInstaller, addVolume

from dinomix_slicer.setup.restart import rememberForRestart, takeResumption


class ResumeTest(unittest.TestCase):
    expectsVtkErrors = True  # a file that is no volume

    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "scan.nrrd"
        self.logic = DINOMixSegmentLogic(FakeClient(), FakeInstaller())
        self.addCleanup(self.logic.cleanup)

    def restart(self):
        slicer.mrmlScene.Clear(False)
        self.parameters = self.logic.getParameterNode()
        self.parameters.modelPath = ""
        self.problem = resumeAfterRestart(self.parameters)

    def test_volume_and_model_are_chosen_again_once(self):
        slicer.util.saveNode(addVolume(), str(self.file))
        rememberForRestart("DINOMixSegment", str(self.file), "/models/abdomen")
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
                if content is not None:
                    self.file.write_bytes(content)
                rememberForRestart("DINOMixSegment", str(self.file), "/models/abdomen")
                self.restart()
                self.assertIn(str(self.file), self.problem)
                self.assertIsNone(self.parameters.inputVolume)
                self.assertEqual(self.parameters.modelPath, "/models/abdomen")

    def test_note_of_another_module_is_left_to_it(self):
        rememberForRestart("DINOMixTrain", str(self.file), "/models/abdomen")
        self.restart()
        self.assertEqual(self.parameters.modelPath, "")
        self.assertIsNotNone(takeResumption("DINOMixTrain"))
