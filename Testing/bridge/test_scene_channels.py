"""Volumes of the scene as the images of one case: which belong together, and how they lie beside each other."""

import numpy as np
import pytest
import slicer
from test_segmentations import OBLIQUE, SHAPE, asMatrix, rotation, transformNode

from dinomix.errors import DinomixError
from dinomix.images.channel_files import Channel
from dinomix_slicer.scene.channels import casesOfVolumes, channelsOf, proposedBeside, proposedFirst
from dinomix_slicer.scene.sequences import framesOf, imagesOfFrame
from dinomix_slicer.scene.volumes import imagesOfCase

T1_T2 = (Channel("t1"), Channel("t2"))


def volume(name, value=0, under=None):
    node = slicer.util.addVolumeFromArray(np.full(SHAPE, value, np.int16), name=name)
    node.SetIJKToRASMatrix(asMatrix(OBLIQUE))
    if under is not None:
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), under)
    return node


def folder(name):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    return hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)


def proposedVolumes(channels, volumes, chosen):
    first = proposedFirst(channels, volumes, chosen)
    return [first, *proposedBeside(channels, volumes, first, [])]


def names(case):
    return [node.GetName() if node is not None else None for node in case]


def test_the_channels_of_a_listed_model():
    listed = {"channels": [{"name": "t1", "modality": "MR"}, {"name": "t2", "modality": "MR"}]}
    assert channelsOf(listed) == T1_T2
    assert len(channelsOf({"channels": [{"name": "", "modality": "CT"}]})) == len(channelsOf(None)) == 1


def test_volumes_are_proposed_by_their_names_and_case():
    volumes = [volume(name) for name in ("a_T2w t2", "a_t1", "b_t1", "b_t2", "t1ce", "a_t2")]
    assert names(proposedVolumes(T1_T2, volumes, None)) == ["a_t1", "a_t2"]
    assert names(proposedVolumes(T1_T2, volumes, volumes[2])) == ["b_t1", "b_t2"]
    # The volume chosen so far is another channel's: its case is kept.
    assert names(proposedVolumes(T1_T2, volumes, volumes[3])) == ["b_t1", "b_t2"]
    # A name that tells nothing is a choice that is kept.
    assert names(proposedVolumes(T1_T2, volumes, volumes[4])) == ["t1ce", "a_T2w t2"]
    assert names(proposedVolumes((Channel("pet"), Channel("ct")), volumes, volumes[0])) == ["a_T2w t2", None]
    # What is taken is proposed for no other channel.
    assert names(proposedBeside(T1_T2, volumes, volumes[2], [volumes[3]])) == ["a_T2w t2"]


def test_no_volume_of_another_patient_is_proposed():
    volumes = [volume(name) for name in ("A T1", "A T2", "B T1")]
    assert names(proposedVolumes(T1_T2, volumes, volumes[2])) == ["B T1", None]


def test_volumes_of_equal_names_are_told_by_their_folders():
    one, other = folder("one"), folder("other")
    volumes = [volume("t1", under=one), volume("t1", under=other), volume("t2", under=one), volume("t2", under=other)]
    assert proposedVolumes(T1_T2, volumes, volumes[1]) == [volumes[1], volumes[3]]
    assert casesOfVolumes(volumes, T1_T2) == ([[volumes[0], volumes[2]], [volumes[1], volumes[3]]], [])


def test_cases_of_volumes_and_what_is_left_out():
    volumes = [volume(name) for name in ("a_t2", "b_0001", "a_t1", "c_t1", "b_0000", "scout", "t1-t2")]
    cases, leftOut = casesOfVolumes(volumes, T1_T2)
    assert [names(case) for case in cases] == [["a_t1", "a_t2"], ["b_0000", "b_0001"]]
    assert leftOut == ["scout fits none of t1, t2.", "t1-t2 fits several of t1, t2.", "Beside c_t1 there is no t2."]


def test_a_folder_with_one_volume_of_each_is_a_case_whatever_else_they_are_called():
    study = folder("study")
    volumes = [volume("3: T1 mprage", under=study), volume("5: T2 tse tra", under=study)]
    assert casesOfVolumes(volumes, T1_T2) == ([volumes], [])
    assert casesOfVolumes([*volumes, volume("9: t1 post", under=study)], T1_T2)[0] == []


def test_images_of_a_case_lie_in_the_space_of_the_first():
    first, second = volume("t1"), volume("t2")
    second.SetAndObserveTransformNodeID(transformNode(rotation(40, (0, 1, 0))).GetID())
    images = imagesOfCase([first, second])
    np.testing.assert_allclose(images[0].affineRas, OBLIQUE, atol=1e-9)
    np.testing.assert_allclose(images[1].affineRas, rotation(40, (0, 1, 0)) @ OBLIQUE, atol=1e-9)


def test_a_non_linear_transform_between_images_is_refused_and_one_above_all_is_told_once():
    first, second = volume("t1"), volume("t2")
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    second.SetAndObserveTransformNodeID(grid.GetID())
    with pytest.raises(DinomixError, match="non-linear transform lies between t2 and t1"):
        imagesOfCase([first, second])
    first.SetAndObserveTransformNodeID(grid.GetID())
    images = imagesOfCase([first, second])
    assert [len(image.notices) for image in images] == [1, 0]
    np.testing.assert_allclose(images[1].affineRas, OBLIQUE, atol=1e-9)


def browserOver(name, times, values):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    for time, value in zip(times, values, strict=True):
        node = volume(name, value)
        sequence.SetDataNodeAtValue(node, time)
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(sequence)


def test_frames_of_several_sequences_go_together_by_their_times():
    first, second = browserOver("t1", "012", (1, 2, 3)), browserOver("t2", "210", (30, 20, 10))
    still = volume("t3", 7)
    for number in range(3):
        images = imagesOfFrame(framesOf(first), [second, still], number)
        assert [int(image.array.flat[0]) for image in images] == [number + 1, 10 * (number + 1), 7]
    with pytest.raises(DinomixError, match="t2 has no frame at 3, as t1 has"):
        imagesOfFrame(framesOf(browserOver("t1", "0123", (1, 2, 3, 4))), [second], 3)
