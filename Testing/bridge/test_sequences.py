"""Sequences: every frame is segmented on its own voxels, and the result moves with the frames."""

import numpy as np
import pytest
import slicer
from test_segmentations import OBLIQUE, SHAPE, STRUCTURES, asMatrix, rotation, transformNode

from dinomix_slicer.scene import undo
from dinomix_slicer.scene.sequences import SegmentationSequence, framesOf, imageOfFrame


@pytest.fixture
def frames():
    """A browser over three frames that differ in their voxels."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for number in range(3):
        volume = slicer.util.addVolumeFromArray(np.full(SHAPE, number * 10, np.int16), name="heart")
        volume.SetIJKToRASMatrix(asMatrix(OBLIQUE))
        sequence.SetDataNodeAtValue(volume, str(number * 0.5))
        slicer.mrmlScene.RemoveNode(volume)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    found = framesOf(browser.GetProxyNode(sequence))
    assert found is not None
    return found


def nodeNames():
    """Classes of all nodes, and their names."""
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    return {f"{node.GetClassName()} {node.GetName()}" for node in nodes}


def labelsOf(number):
    labels = np.zeros(SHAPE, np.uint8)
    labels[number : number + 3, 2:6] = 1
    return labels


def test_frames_are_found_and_read(frames):
    assert len(frames) == 3
    for number in range(3):
        image = imageOfFrame(frames, number)
        assert (image.array == number * 10).all()
        np.testing.assert_allclose(image.affineRas, OBLIQUE)
    assert framesOf(slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16))) is None


def test_the_transform_of_the_shown_node_holds_for_all_frames(frames):
    frames.volumeNode.SetAndObserveTransformNodeID(transformNode(rotation(40, (0, 1, 0))).GetID())
    before = slicer.mrmlScene.GetNumberOfNodes()
    np.testing.assert_allclose(imageOfFrame(frames, 2).affineRas, rotation(40, (0, 1, 0)) @ OBLIQUE, atol=1e-9)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_the_segmentation_follows_the_frames_and_undo_removes_it(frames):
    before = nodeNames()
    result = SegmentationSequence(frames)
    for number in range(3):
        result.add(number, labelsOf(number), STRUCTURES)
    segmentation = result.finish()
    for number in (0, 2, 1):
        frames.browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(frames.browser)
        shown = segmentation.GetSegmentation().GetSegmentIdBySegmentName("liver")
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, shown, frames.volumeNode)
        assert np.array_equal(array > 0, labelsOf(number) == 1)
    assert undo.undo(segmentation)
    # Reading a segment as an array leaves display nodes of label maps, in Slicer too.
    assert not [name for name in nodeNames() - before if "LabelMapVolumeDisplay" not in name]


def test_giving_up_leaves_nothing(frames):
    before = slicer.mrmlScene.GetNumberOfNodes()
    result = SegmentationSequence(frames)
    result.add(0, labelsOf(0), STRUCTURES)
    result.discard()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
