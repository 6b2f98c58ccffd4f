"""A case of the scene that takes long to copy and write."""

import numpy as np
import slicer

from dinomix_slicer.scene.scene_cohort import SceneCase

SHAPE = (160, 320, 320)  # k, j, i


def largeCase() -> SceneCase:
    """A volume of noise and a segmentation of three balls, in the scene."""
    array = np.random.default_rng(0).integers(-1000, 1000, SHAPE, np.int16)
    volume = slicer.util.addVolumeFromArray(array, name="large")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for number in range(3):
        ball = ((k - 80) ** 2 + (j - 80 - 70 * number) ** 2 + (i - 160) ** 2 < 34**2).astype(np.uint8)
        segmentation.GetSegmentation().AddEmptySegment(f"ball {number}")
        slicer.util.updateSegmentBinaryLabelmapFromArray(ball, segmentation, f"ball {number}", volume)
    return SceneCase("large", volume, segmentation)
