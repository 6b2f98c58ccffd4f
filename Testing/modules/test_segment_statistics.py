"""The table of organ volumes, by Slicer's own Segment Statistics module where it is there."""

import unittest

import numpy as np
import slicer
from DINOMixSegmentLib.logic import DINOMixSegmentLogic
from DINOMixSegmentLib.statistics import hasStatistics
from segment_fakes import LIVER, SPLEEN, FakeClient, FakeInstaller, addVolume

from dinomix.errors import DinomixError
from dinomix_slicer.segmentations import addSegmentation


class StatisticsTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        self.logic = DINOMixSegmentLogic(FakeClient(), FakeInstaller())
        labels = np.ones((4, 5, 6), np.uint8)
        labels[0, 0, :4] = 4
        self.segmentation = addSegmentation(addVolume(), labels, [LIVER, SPLEEN])

    @unittest.skipIf(hasStatistics(), "Segment Statistics is there")
    def test_without_the_module_a_sentence(self):
        with self.assertRaisesRegex(DinomixError, "Segment Statistics module"):
            self.logic.makeVolumeTable(self.segmentation)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLTableNode"), [])

    @unittest.skipUnless(hasStatistics(), "needs Slicer's Segment Statistics module")
    def test_volumes_in_ml(self):
        table = self.logic.makeVolumeTable(self.segmentation)
        rows = {table.GetCellText(row, 0): float(table.GetCellText(row, 1)) for row in range(table.GetNumberOfRows())}
        voxel = 1.5 * 2.0 * 2.5 / 1000  # ml
        self.assertAlmostEqual(rows["liver"], 116 * voxel, places=5)
        self.assertAlmostEqual(rows["spleen"], 4 * voxel, places=5)

    @unittest.skipUnless(hasStatistics(), "needs Slicer's Segment Statistics module")
    def test_nothing_else_is_left_in_the_scene(self):
        before = slicer.mrmlScene.GetNumberOfNodes()
        self.logic.makeVolumeTable(self.segmentation)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before + 1)
