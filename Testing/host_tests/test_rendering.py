"""Pictures of the real scene."""

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import slicer

from host import rendering


def addScene(start=15):
    """A gray cube of 40 mm with a red cube of 10 mm in it, which begins at ``start`` mm in each direction; shown in all views."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[(slice(start, start + 10),) * 3] = 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    volume = slicer.util.addVolumeFromArray(np.full(labels.shape, 100, np.int16), affine, "Gray")
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    labelNode = slicer.util.addVolumeFromArray(labels, affine, nodeClassName="vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Cube")
    node.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelNode, node)
    slicer.mrmlScene.RemoveNode(labelNode)
    node.GetSegmentation().GetNthSegment(0).SetColor(1, 0, 0)
    node.CreateClosedSurfaceRepresentation()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, node


def redness(picture):
    """Pixels (height, width) that are much redder than green."""
    return picture[..., 0].astype(int) - picture[..., 1] > 40


class RenderingTest(unittest.TestCase):
    def test_slices_show_volume_and_segments(self):
        addScene()
        for name in slicer.app.layoutManager().sliceViewNames():
            view = slicer.app.layoutManager().sliceWidget(name)
            rendering.fitView(view, 200, 200)
            picture = view._picture(200, 200)
            self.assertEqual(picture.shape, (200, 200, 3))
            self.assertLessEqual(abs(int(picture[20, 100, 0]) - 127), 2, name)
            rows, columns = np.nonzero(redness(picture))
            # The cube is a quarter of the 40 mm that the view shows.
            for pixels in (rows, columns):
                self.assertLess(abs(np.ptp(pixels) - 50), 4, name)
                self.assertLess(abs(pixels.mean() - 100), 5, name)

    def test_slices_are_turned_as_in_slicer(self):
        addScene(start=28)
        for name in slicer.app.layoutManager().sliceViewNames():
            view = slicer.app.layoutManager().sliceWidget(name)
            rendering.fitView(view, 200, 200)
            view.mrmlSliceNode().JumpSliceByOffsetting(33, 33, 33)
            rows, columns = np.nonzero(redness(view._picture(200, 200)))
            # Right (axial, coronal) or anterior (sagittal) is to the left; anterior (axial) or superior is above.
            self.assertLess(columns.max(), 80, name)
            self.assertLess(rows.max(), 80, name)

    def test_hidden_segments_are_not_drawn(self):
        _, node = addScene()
        view = slicer.app.layoutManager().sliceWidget("Red")
        self.assertTrue(redness(view._picture(100, 100)).any())
        node.GetDisplayNode().SetVisibility(False)
        self.assertFalse(redness(view._picture(100, 100)).any())

    def test_3d_view_shows_the_surface(self):
        _, node = addScene()
        slicer.app.layoutManager().resetThreeDViews()
        view = slicer.app.layoutManager().threeDWidget(0)
        self.assertGreater(redness(view._picture(200, 200)).mean(), 0.05)
        node.RemoveClosedSurfaceRepresentation()
        node.GetDisplayNode().SetVisibility3D(False)
        self.assertLess(redness(view._picture(200, 200)).mean(), 0.01)

    def test_picture_of_an_empty_scene(self):
        picture = rendering.pictureOfScene(201, 101)
        self.assertEqual(picture.shape, (101, 201, 3))
        self.assertFalse(picture[:48, :98].any(), "the axial slice is not black")
        self.assertGreater(picture[:48, 102:, 2].mean(), 100, "the 3D view has no blue background")

    def test_saved_picture(self):
        addScene()
        picture = rendering.pictureOfScene(300, 200)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "scene.png"
            rendering.savePicture(picture, path)
            from PySide6.QtGui import QImage

            image = QImage(str(path))
            self.assertEqual((image.width(), image.height()), (300, 200))
            color = image.pixelColor(30, 7)
            self.assertEqual([color.red(), color.green(), color.blue()], picture[7, 30].tolist())

    def test_no_main_window_has_no_views(self):
        slicer.app.commandOptions().noMainWindow = True
        self.assertIsNone(slicer.app.layoutManager())
        self.assertIsNone(slicer.util.mainWindow())
