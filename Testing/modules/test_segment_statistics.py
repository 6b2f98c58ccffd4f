"""The table of organ volumes, by Slicer's own Segment Statistics module where it is there."""

import unittest

import numpy as np
import slicer
from DINOMixSegmentLib.statistics import hasStatistics, makeVolumeTable
from segment_fakes import LIVER, SPLEEN, addVolume

from dinomix.errors import DinomixError
from dinomix_slicer.scene.segmentations import addSegmentation

NEEDED = "needs Slicer's Segment Statistics module (Testing/README.md: With Slicer's own Python files)"


def addObliqueVolume(shape):
    """A volume on an oblique grid with three different spacings; returns it and the ml of one of its voxels."""
    directions = np.linalg.qr(np.array([[0.9, -0.3, 0.2], [0.4, 0.8, -0.2], [-0.1, 0.3, 0.9]]))[0]
    spacing = np.array([0.7, 0.85, 3.1])
    ijkToRas = np.eye(4)
    ijkToRas[:3, :3] = directions * spacing
    ijkToRas[:3, 3] = 17.0, -40.5, 210.0
    volume = slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), ijkToRAS=ijkToRas, name="oblique")
    return volume, spacing.prod() / 1000


def rowsOf(table):
    """Organ -> ml."""
    return {
        table.GetCellText(row, 0): table.GetTable().GetValue(row, 1).ToDouble()
        for row in range(table.GetNumberOfRows())
    }


class StatisticsTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        labels = np.ones((4, 5, 6), np.uint8)
        labels[0, 0, :4] = 4
        self.segmentation = addSegmentation(addVolume(), labels, [LIVER, SPLEEN])

    @unittest.skipIf(hasStatistics(), "Segment Statistics is there")
    def test_without_the_module_a_sentence(self):
        with self.assertRaisesRegex(DinomixError, "Segment Statistics module"):
            makeVolumeTable(self.segmentation)
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLTableNode"), [])

    @unittest.skipUnless(hasStatistics(), NEEDED)
    def test_volumes_in_ml(self):
        table = makeVolumeTable(self.segmentation)
        rows = rowsOf(table)
        voxel = 1.5 * 2.0 * 2.5 / 1000  # ml
        self.assertAlmostEqual(rows["liver"], 116 * voxel, places=5)
        self.assertAlmostEqual(rows["spleen"], 4 * voxel, places=5)

    @unittest.skipUnless(hasStatistics(), NEEDED)
    def test_nothing_else_is_left_in_the_scene(self):
        before = slicer.mrmlScene.GetNumberOfNodes()
        makeVolumeTable(self.segmentation)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before + 1)

    @unittest.skipUnless(hasStatistics(), NEEDED)
    def test_an_oblique_volume_is_as_large_as_its_voxels_counted(self):
        volume, milliliters = addObliqueVolume((17, 60, 45))
        labels = np.random.default_rng(0).choice([0, 1, 4], size=(17, 60, 45), p=[0.5, 0.45, 0.05]).astype(np.uint8)
        segmentation = addSegmentation(volume, labels, [LIVER, SPLEEN])
        segmentation.GetDisplayNode().SetSegmentVisibility("liver", False)
        rows = rowsOf(makeVolumeTable(segmentation))
        self.assertEqual(list(rows), ["liver", "spleen"])
        for name, label in (("liver", 1), ("spleen", 4)):
            self.assertAlmostEqual(rows[name] / (np.count_nonzero(labels == label) * milliliters), 1, places=12)

    @unittest.skipUnless(hasStatistics(), NEEDED)
    def test_a_scaled_parent_transform_scales_the_volumes(self):
        volume, milliliters = addObliqueVolume((8, 20, 24))
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2.0, 2.0, 2.0, 1.0])))
        volume.SetAndObserveTransformNodeID(transform.GetID())
        labels = np.zeros((8, 20, 24), np.uint8)
        labels[2:6, 3:18, 4:20] = 1
        segmentation = addSegmentation(volume, labels, [LIVER])
        rows = rowsOf(makeVolumeTable(segmentation))
        self.assertAlmostEqual(rows["liver"] / (4 * 15 * 16 * milliliters * 8), 1, places=6)
        self.assertEqual(segmentation.GetTransformNodeID(), transform.GetID())
