"""The scene of the host: nodes, subject hierarchy, and files over Slicer's real storage nodes."""

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import slicer
import vtk


def addVolume(name="Volume"):
    return slicer.util.addVolumeFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4), name=name)


def addSegmentation(volume, name="Segmentation"):
    """A segmentation of ``volume`` with the segments 1 (voxels 10 to 19) and 2 (20 to 23)."""
    labels = (slicer.util.arrayFromVolume(volume) // 10).astype(np.uint8)
    labelNode = slicer.util.addVolumeFromArray(labels, nodeClassName="vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelNode, node)
    slicer.mrmlScene.RemoveNode(labelNode)
    return node


class SceneTest(unittest.TestCase):
    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_scene_is_empty_before_each_test(self):
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLVolumeNode"), [])
        addVolume()

    test_scene_is_empty_before_the_next = test_scene_is_empty_before_each_test

    def test_segments_are_read_voxel_for_voxel(self):
        volume = addVolume()
        node = addSegmentation(volume)
        second = node.GetSegmentation().GetNthSegmentID(1)
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, second, volume)
        np.testing.assert_array_equal(voxels, slicer.util.arrayFromVolume(volume) >= 20)

    def test_closed_surface(self):
        node = addSegmentation(addVolume())
        self.assertTrue(node.CreateClosedSurfaceRepresentation())
        surface = vtk.vtkPolyData()
        node.GetClosedSurfaceRepresentation(node.GetSegmentation().GetNthSegmentID(0), surface)
        self.assertGreater(surface.GetNumberOfCells(), 0)

    def test_segmentation_file(self):
        volume = addVolume()
        path = self.folder / "organs.seg.nrrd"
        self.assertTrue(slicer.util.saveNode(addSegmentation(volume), str(path)))
        loaded = slicer.util.loadSegmentation(str(path))
        self.assertEqual(loaded.GetSegmentation().GetNumberOfSegments(), 2)
        self.assertTrue(loaded.GetDisplayNode())

    def test_volume_file(self):
        path = self.folder / "scan.nrrd"
        slicer.util.saveNode(addVolume(), str(path))
        loaded = slicer.util.loadVolume(str(path))
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded).ravel(), np.arange(24))
        self.assertEqual(loaded.GetName(), "scan")

    def test_bundle_keeps_nodes_and_hierarchy(self):
        volume = addVolume("CT")
        segmentation = addSegmentation(volume, "Organs")
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
        for node in (volume, segmentation):
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), patient)
        path = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(path)))
        slicer.mrmlScene.Clear(False)
        slicer.util.loadScene(str(path))
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        organs = slicer.util.getNode("Organs")
        self.assertEqual(organs.GetSegmentation().GetNumberOfSegments(), 2)
        parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(organs))
        self.assertEqual(hierarchy.GetItemName(parent), "Patient")
        self.assertEqual(parent, hierarchy.GetItemParent(hierarchy.GetItemByDataNode(slicer.util.getNode("CT"))))

    def test_transform_file(self):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
        matrix = np.diag([1.0, 2.0, 3.0, 1.0])
        slicer.util.updateTransformMatrixFromArray(node, matrix)
        path = self.folder / "t.h5"
        slicer.util.saveNode(node, str(path))
        np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(slicer.util.loadTransform(str(path))), matrix)

    def test_sequence_and_browser(self):
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Frames")
        for frame in range(3):
            volume = addVolume(f"Frame {frame}")
            slicer.util.arrayFromVolume(volume)[:] = frame
            sequence.SetDataNodeAtValue(volume, str(frame))
            slicer.mrmlScene.RemoveNode(volume)
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
        browser.AddSynchronizedSequenceNode(sequence)
        logic = slicer.modules.sequences.logic()
        for frame in (2, 1):
            browser.SetSelectedItemNumber(frame)
            proxy = browser.GetProxyNode(sequence)
            self.assertEqual(slicer.util.arrayFromVolume(proxy).max(), frame)
            self.assertIs(logic.GetFirstBrowserNodeForProxyNode(proxy), browser)
        path = self.folder / "frames.seq.nrrd"
        self.assertTrue(slicer.util.saveNode(sequence, str(path)))
        slicer.mrmlScene.Clear(False)
        loaded = slicer.util.loadSequence(str(path))
        self.assertEqual(loaded.GetNumberOfDataNodes(), 3)
        self.assertIsNotNone(logic.GetFirstBrowserNodeForSequenceNode(loaded))

    def test_hierarchy_follows_the_nodes(self):
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        volume = addVolume()
        item = hierarchy.GetItemByDataNode(volume)
        self.assertGreater(item, 0)
        slicer.mrmlScene.RemoveNode(volume)
        self.assertIsNone(hierarchy.GetItemDataNode(item) if item in allItems(hierarchy) else None)
        self.assertEqual(allItems(hierarchy), [])

    def test_hierarchy_after_a_batch(self):
        slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
        volume = addVolume()
        slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
        self.assertGreater(slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(volume), 0)

    def test_unknown_files_are_refused(self):
        with self.assertRaisesRegex(RuntimeError, "does not exist"):
            slicer.util.loadVolume(str(self.folder / "none.nrrd"))
        (self.folder / "notes.xyz").write_text("x")
        with self.assertRaisesRegex(ValueError, "no file type"):
            slicer.util.loadNodeFromFile(str(self.folder / "notes.xyz"))
        with self.assertRaisesRegex(ValueError, "knows no property"):
            slicer.util.loadVolume(str(self.folder), {"colour": 1})
        with self.assertRaisesRegex(ValueError, "cannot be written"):
            slicer.util.saveNode(addVolume(), str(self.folder / "scan.doc"))


class DamagedFileTest(unittest.TestCase):
    expectsVtkErrors = True

    def test_damaged_file(self):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "bad.nrrd"
            path.write_bytes(b"NRRD0004\nnonsense")
            with self.assertRaisesRegex(RuntimeError, "bad.nrrd"):
                slicer.util.loadVolume(str(path))


def allItems(hierarchy):
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return [items.GetId(index) for index in range(items.GetNumberOfIds())]
