"""A restart of Slicer leads back to the volume and the model."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixSegmentLib.resume import remember, resume
from segment_fakes import FakeClient, FakeInstaller, addVolume

from dinomix.errors import DinomixError


class ResumeTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "scan.nrrd"
        self.logic = DINOMixSegmentLogic(FakeClient(), FakeInstaller())
        self.addCleanup(self.logic.cleanup)
        self.parameters = self.logic.getParameterNode()
        self.parameters.modelPath = "/models/abdomen"

    def restart(self):
        slicer.mrmlScene.Clear(False)
        self.parameters = self.logic.getParameterNode()
        self.parameters.modelPath = ""
        return resume(self.parameters)

    def test_volume_and_model_are_chosen_again_once(self):
        slicer.util.saveNode(addVolume(), str(self.file))
        self.parameters.inputVolume = slicer.util.loadVolume(str(self.file))
        remember(self.parameters)
        self.assertTrue(self.restart())
        self.assertEqual(self.parameters.modelPath, "/models/abdomen")
        np.testing.assert_array_equal(
            slicer.util.arrayFromVolume(self.parameters.inputVolume).ravel(), np.arange(4 * 5 * 6)
        )
        self.assertFalse(self.restart())

    def test_volume_without_a_file(self):
        self.parameters.inputVolume = addVolume()
        remember(self.parameters)
        self.assertTrue(self.restart())
        self.assertIsNone(self.parameters.inputVolume)
        self.assertEqual(self.parameters.modelPath, "/models/abdomen")

    def test_volume_whose_file_is_gone(self):
        slicer.util.saveNode(addVolume(), str(self.file))
        self.parameters.inputVolume = slicer.util.loadVolume(str(self.file))
        remember(self.parameters)
        self.file.unlink()
        with self.assertRaisesRegex(DinomixError, "scan.nrrd could not be loaded again"):
            self.restart()
        self.assertEqual(self.parameters.modelPath, "/models/abdomen")
