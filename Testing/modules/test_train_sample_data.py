"""The cohort of phantoms: offered in Slicer's Sample Data module, made without a network, and taken by the page Cases."""

import sys
import types
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import slicer
from cohort_window import CohortTestCase
from DINOMixTrainLib.sample_data import LABELED, SPACING, UNLABELED, addPhantoms, registerSampleData

from dinomix.demo.phantom import phantom_case


def fakeSampleData(sources, hasCategories=True):
    """A module like Slicer's Sample Data that records what is registered, with a category's title only since 5.12."""
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: sources.append(source))
    if hasCategories:
        logic.registerCustomSampleDataCategory = lambda category, title: None
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = logic
    return mock.patch.dict(sys.modules, SampleData=module)


class RegisteringTest(unittest.TestCase):
    def test_is_offered_with_a_picture_when_slicer_has_started(self):
        for hasCategories in (True, False):
            sources = []
            with fakeSampleData(sources, hasCategories):
                slicer.modules.DINOMixTrainInstance.onStartupCompleted()
            self.assertEqual(len(sources), 1)
            self.assertEqual(sources[0]["uris"], [], "nothing can be asked of a network")
            self.assertTrue(Path(sources[0]["thumbnailFileName"]).is_file())
            self.assertTrue(callable(sources[0]["customDownloader"]))

    def test_without_the_module_nothing_is_registered(self):
        with mock.patch.dict(sys.modules, SampleData=None):
            registerSampleData("")


class PhantomsTest(CohortTestCase):
    def test_the_page_cases_takes_them(self):
        addPhantoms()
        self.settle()
        self.assertEqual(len(self.sceneNames()), LABELED + UNLABELED)
        self.click(self.ui.sceneAllButton)
        self.assertEqual(self.ui.sceneLabel.text, f"{LABELED} labeled, {UNLABELED} unlabeled.")
        addPhantoms()
        self.settle()
        self.assertEqual(len(self.sceneNames()), LABELED + UNLABELED, "what is there is not made again")
        self.chooseStudy()
        self.check()
        self.assertIn("The cases are good", self.ui.checkStatusLabel.text)

    def test_voxels_lie_where_the_engine_has_them(self):
        image, labels = phantom_case((0, 0), SPACING)
        with mock.patch.multiple("DINOMixTrainLib.sample_data", LABELED=1, UNLABELED=0):
            addPhantoms()
        volume = slicer.util.getNode("Phantom 1")
        matrix = slicer.util.arrayFromVTKMatrix(volume_matrix(volume))
        np.testing.assert_allclose(matrix, image.geometry.affine_ras)
        np.testing.assert_allclose(slicer.util.arrayFromVolume(volume), image.array, atol=0.5)
        segmentation = slicer.util.getNode("Phantom 1 organs")
        liver = segmentation.GetSegmentation().GetSegmentIdBySegmentName("liver")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, liver, volume)
        np.testing.assert_array_equal(found > 0, labels.array == 6)


def volume_matrix(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix
