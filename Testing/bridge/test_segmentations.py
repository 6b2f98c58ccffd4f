"""Labels in the scene: on the volume's own voxels, whatever its axes and transforms, with names, colors and terminology."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinomix.errors import DinomixError
from dinomix_slicer.scene import undo
from dinomix_slicer.scene.segmentations import addSegmentation, writeIntoSegmentation
from dinomix_slicer.scene.surfaces import surfaceSteps
from dinomix_slicer.scene.unsure import unsureSegments
from dinomix_slicer.scene.volumes import imageOfNode
from dinomix_slicer.task import WAIT

LIVER = "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"  # noqa: E501
STRUCTURES = [
    {"id": 1, "name": "liver", "color": [221, 130, 101], "terminology_entry": LIVER},
    {"id": 7, "name": "Milz groß", "color": [157, 108, 162], "terminology_entry": ""},
    {"id": 9, "name": "absent", "color": [1, 2, 3], "terminology_entry": "", "voxels": 0},
]
SHAPE = (11, 13, 17)


def makeVolume(matrix=None, shape=SHAPE, name="scan"):
    array = np.random.default_rng(0).normal(0, 100, shape).astype(np.int16)
    node = slicer.util.addVolumeFromArray(array, name=name)
    if matrix is not None:
        node.SetIJKToRASMatrix(asMatrix(matrix))
    return node


def makeLabels(shape=SHAPE):
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 3:9, 1:12] = 1
    labels[6:10, 1:5, 5:16] = 7
    return labels


def asMatrix(array):
    matrix = vtk.vtkMatrix4x4()
    for row, column in itertools.product(range(4), range(4)):
        matrix.SetElement(row, column, float(array[row][column]))
    return matrix


def transformNode(array):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(asMatrix(array))
    return node


def segmentArray(segmentation, name, volume):
    identifier = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    assert identifier, f"there is no segment {name}"
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, volume) > 0


def names(segmentation):
    inside = segmentation.GetSegmentation()
    return [inside.GetNthSegment(n).GetName() for n in range(inside.GetNumberOfSegments())]


def assertOnVolume(segmentation, volume, labels):
    """The label map lies on the volume's grid exactly: same voxels, same matrix, same world positions."""
    labelMap = segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    matrix, expected = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    labelMap.GetImageToWorldMatrix(matrix)
    volume.GetIJKToRASMatrix(expected)
    np.testing.assert_allclose(
        slicer.util.arrayFromVTKMatrix(matrix), slicer.util.arrayFromVTKMatrix(expected), atol=1e-6
    )
    assert segmentation.GetParentTransformNode() == volume.GetParentTransformNode()
    for structure in STRUCTURES[:2]:
        assert np.array_equal(segmentArray(segmentation, structure["name"], volume), labels == structure["id"])


def rotation(degrees, axis):
    matrix = np.eye(4)
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(degrees, *axis)
    matrix[:3, :3] = slicer.util.arrayFromVTKMatrix(transform.GetMatrix())[:3, :3]
    return matrix


OBLIQUE = rotation(31, (0.3, 1, 0.2)) @ np.diag([-0.7, -0.7, 5.0, 1]) + np.array([[0, 0, 0, -50], [0, 0, 0, 20], [0, 0, 0, 7], [0] * 4])  # noqa: E501  # fmt: skip
SHEARED = np.array([[-0.8, 0, 0, 3], [0, -0.8, 0.9, 4], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
AXES = [
    np.diag([*signs, 1.0]) @ np.eye(4)[[*order, 3]]
    for order in itertools.permutations(range(3))
    for signs in ((1, 1, 1), (-1, -1, 1), (1, -1, 1))
]


@pytest.mark.parametrize("matrix", [*AXES, OBLIQUE, SHEARED], ids=lambda m: str(m[:3, :3].round(1).tolist()))
def test_a_segmentation_lies_on_its_volume(matrix):
    volume, labels = makeVolume(matrix), makeLabels()
    assertOnVolume(addSegmentation(volume, labels, STRUCTURES), volume, labels)


@pytest.mark.parametrize(
    "matrix",
    [rotation(90, (0, 0, 1)), np.diag([2.0, 0.5, 1.5, 1]), rotation(20, (1, 1, 0))],
    ids=["turned", "scaled", "tilted"],
)
def test_a_parent_transform_is_kept_and_seen_by_the_engine(matrix):
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    volume.SetAndObserveTransformNodeID(transformNode(matrix).GetID())
    np.testing.assert_allclose(imageOfNode(volume).affineRas, matrix @ OBLIQUE, atol=1e-9)
    assertOnVolume(addSegmentation(volume, labels, STRUCTURES), volume, labels)


def test_under_a_nonlinear_transform_the_scanned_grid_is_segmented_and_the_user_told():
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    warp = vtk.vtkThinPlateSplineTransform()
    points, moved = vtk.vtkPoints(), vtk.vtkPoints()
    for place in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (40, 40, 40)):
        points.InsertNextPoint(place)
        moved.InsertNextPoint([value * 1.1 + 3 for value in place[:2]] + [place[2] + place[0] ** 2 / 500])
    warp.SetSourceLandmarks(points)
    warp.SetTargetLandmarks(moved)
    warp.SetBasisToR()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(warp)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    image = imageOfNode(volume)
    np.testing.assert_allclose(image.affineRas, OBLIQUE)
    assert "non-linear" in image.notices[0]
    segmentation = addSegmentation(volume, labels, STRUCTURES)
    assert segmentation.GetParentTransformNode() == transform
    labelMap = segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    assert labelMap.GetDimensions() == volume.GetImageData().GetDimensions()


def test_real_orientations(test_data):
    for path in sorted((test_data / "orientations").glob("*.nii.gz")):
        volume = slicer.util.loadVolume(str(path))
        shape = slicer.util.arrayFromVolume(volume).shape
        labels = np.zeros(shape, np.uint8)
        labels[: shape[0] // 2, : shape[1] // 3] = 1
        labels[shape[0] // 2 :, :, : shape[2] // 4] = 7
        assertOnVolume(addSegmentation(volume, labels, STRUCTURES), volume, labels)


def test_names_colors_terminology_place_and_reference_geometry():
    volume = makeVolume(OBLIQUE)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    segmentation = addSegmentation(volume, makeLabels(), STRUCTURES)
    assert names(segmentation) == ["liver", "Milz groß"], "a structure without a voxel is left out"
    liver = segmentation.GetSegmentation().GetNthSegment(0)
    np.testing.assert_allclose(liver.GetColor(), [221 / 255, 130 / 255, 101 / 255])
    tag = vtk.mutable("")
    assert liver.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    assert str(tag) == LIVER
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(segmentation)) == study
    geometry = segmentation.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert geometry.endswith("0;16;0;12;0;10;")
    assert segmentation.GetNodeReference("referenceImageGeometryRef") == volume
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1


@pytest.mark.parametrize("ending", [".seg.nrrd", ".mrb"])
def test_all_of_it_survives_saving(tmp_path, ending):
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    segmentation = addSegmentation(volume, labels, STRUCTURES)
    path = tmp_path / f"saved ü{ending}"
    if ending == ".mrb":
        assert slicer.util.saveScene(str(path))
        slicer.mrmlScene.Clear(False)
        slicer.util.loadScene(str(path))
        volume = slicer.util.getFirstNodeByClassByName("vtkMRMLScalarVolumeNode", "scan")
        loaded = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    else:
        assert slicer.util.saveNode(segmentation, str(path))
        loaded = slicer.util.loadSegmentation(str(path))
    assert sorted(names(loaded)) == ["Milz groß", "liver"]
    for structure in STRUCTURES[:2]:
        assert np.array_equal(segmentArray(loaded, structure["name"], volume), labels == structure["id"])
    segment = loaded.GetSegmentation().GetSegment(loaded.GetSegmentation().GetSegmentIdBySegmentName("liver"))
    np.testing.assert_allclose(segment.GetColor(), [221 / 255, 130 / 255, 101 / 255], atol=1e-4)
    tag = vtk.mutable("")
    segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    assert "SCT^10200004^Liver" in str(tag)


def addOther(segmentation, volume, name="drawn by hand"):
    """A segment that a person has drawn: a box across the liver's border."""
    array = np.zeros(SHAPE, np.uint8)
    array[4:8, 4:7, 3:9] = 1
    identifier = segmentation.GetSegmentation().AddEmptySegment("", name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, identifier, volume)
    return array > 0


@pytest.mark.parametrize("place", ["same", "other transform", "other grid"])
def test_other_segments_stay_untouched_unless_asked(place):
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    grid = OBLIQUE @ np.diag([0.9, 0.9, 0.9, 1]) if place == "other grid" else OBLIQUE
    drawnOn = volume if place == "same" else makeVolume(grid, name="other")
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    output.SetReferenceImageGeometryParameterFromVolumeNode(drawnOn)
    drawn = addOther(output, drawnOn)
    if place == "other transform":
        volume.SetAndObserveTransformNodeID(transformNode(rotation(90, (0, 1, 0))).GetID())
    writeIntoSegmentation(output, volume, labels, STRUCTURES)
    assert np.array_equal(segmentArray(output, "drawn by hand", drawnOn), drawn)
    assert names(output) == ["drawn by hand", "liver", "Milz groß"]
    for structure in STRUCTURES[:2]:
        assert np.array_equal(segmentArray(output, structure["name"], volume), labels == structure["id"])


def test_others_give_way_when_asked_and_only_where_the_new_ones_are():
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    output.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    drawn = addOther(output, volume)
    writeIntoSegmentation(output, volume, labels, STRUCTURES, replaceOthers=True)
    assert np.array_equal(segmentArray(output, "drawn by hand", volume), drawn & (labels == 0))


def test_segments_of_the_same_name_are_replaced_and_keep_their_color():
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    output = addSegmentation(volume, labels, STRUCTURES)
    output.GetSegmentation().GetNthSegment(0).SetColor(0.1, 0.2, 0.3)
    changed = np.roll(labels, 2, axis=2)
    writeIntoSegmentation(output, volume, changed, STRUCTURES)
    assert sorted(names(output)) == ["Milz groß", "liver"]
    assert np.array_equal(segmentArray(output, "liver", volume), changed == 1)
    segment = output.GetSegmentation().GetSegment(output.GetSegmentation().GetSegmentIdBySegmentName("liver"))
    np.testing.assert_allclose(segment.GetColor(), [0.1, 0.2, 0.3], atol=1e-6)


def test_segments_that_go_leave_the_others_of_their_label_map():
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    output = addSegmentation(volume, labels, STRUCTURES)
    writeIntoSegmentation(output, volume, np.roll(labels, 3, axis=2), STRUCTURES[:1])
    assert sorted(names(output)) == ["Milz groß", "liver"]
    assert np.array_equal(segmentArray(output, "liver", volume), np.roll(labels, 3, axis=2) == 1)
    assert np.array_equal(segmentArray(output, "Milz groß", volume), labels == 7)
    # Voxels left behind would come back as soon as another segment gets their number.
    inside = output.GetSegmentation()
    labelMap = inside.GetSegment(inside.GetSegmentIdBySegmentName("Milz groß")).GetRepresentation("Binary labelmap")
    assert set(np.unique(vtk_to_numpy(labelMap.GetPointData().GetScalars()))) == {0, 7}


def test_segments_are_not_copied_out_of_their_label_map_before_they_go():
    """Slicer would copy all voxels for each segment: seconds in a large volume, in one step of the window."""
    volume, labels = makeVolume(), makeLabels()
    output = addSegmentation(volume, labels, STRUCTURES)
    segmentation, separated = output.GetSegmentation(), []
    segmentation.AddObserver(segmentation.SourceRepresentationModified, lambda *_: separated.append(1))
    undo.saveState(output)
    writeIntoSegmentation(output, volume, labels, STRUCTURES)
    undo.undo(output)
    assert not separated
    undo.undo(output)
    assert segmentation.GetNumberOfSegments() == 0 and not separated
    other = addSegmentation(volume, labels, STRUCTURES).GetSegmentation()
    other.AddObserver(other.SourceRepresentationModified, lambda *_: separated.append(1))
    other.RemoveSegment("liver")
    assert separated, "Slicer does not do this any more"


def test_a_segmentation_of_surfaces_is_kept_when_labels_come_in():
    volume, labels = makeVolume(), makeLabels()
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
    output.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(8, 6, 5)
    sphere.SetRadius(3)
    sphere.Update()
    output.GetSegmentation().SetSourceRepresentationName("Closed surface")
    output.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", [1, 0, 0])
    writeIntoSegmentation(output, volume, labels, STRUCTURES)
    assert names(output) == ["ball", "liver", "Milz groß"]
    assert segmentArray(output, "ball", volume).sum() > 50
    assert np.array_equal(segmentArray(output, "liver", volume), labels == 1)


def test_writing_where_surfaces_are_makes_none_in_the_same_step():
    volume, labels = makeVolume(), makeLabels()
    output = addSegmentation(volume, labels, STRUCTURES)
    output.CreateClosedSurfaceRepresentation()
    undo.saveState(output)
    writeIntoSegmentation(output, volume, labels, [{**STRUCTURES[0], "name": "another"}])
    assert [surfaceNumber(output, n) for n in range(3)] == [None] * 3
    assert undo.undo(output)
    assert names(output) == ["liver", "Milz groß"]
    assert surfaceNumber(output, 0).GetNumberOfCells() > 0


def test_what_the_model_is_unsure_of_is_saved_with_the_segmentation(tmp_path):
    told = [{"predicted_dice": 0.914, "unsure": False}, {"predicted_dice": 0.5512, "unsure": True}, {}]
    structures = [{**structure, **more} for structure, more in zip(STRUCTURES, told, strict=True)]
    node = addSegmentation(makeVolume(), makeLabels(), structures)
    assert unsureSegments(node) == [("Milz groß", "0.55")]
    file = str(tmp_path / "saved.seg.nrrd")
    assert slicer.util.saveNode(node, file)
    assert unsureSegments(slicer.util.loadSegmentation(file)) == [("Milz groß", "0.55")]


def test_undo_of_a_new_segmentation_removes_it():
    volume = makeVolume()
    segmentation = addSegmentation(volume, makeLabels(), STRUCTURES)
    assert undo.undo(segmentation)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_undo_restores_every_voxel():
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    output.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    drawn = addOther(output, volume)
    undo.saveState(output)
    writeIntoSegmentation(output, volume, labels, STRUCTURES, replaceOthers=True)
    undo.saveState(output)
    writeIntoSegmentation(output, volume, np.roll(labels, 3, 0), STRUCTURES, replaceOthers=True)
    assert undo.undo(output)
    assert np.array_equal(segmentArray(output, "liver", volume), labels == 1)
    assert undo.undo(output)
    assert names(output) == ["drawn by hand"]
    assert np.array_equal(segmentArray(output, "drawn by hand", volume), drawn)
    assert not undo.undo(output)


WAYS = [
    {},
    {"Smoothing factor": "0.0"},
    {"Smoothing factor": "0.8", "Decimation factor": "0.6"},
    {"Compute surface normals": "0"},
]


@pytest.mark.parametrize("parameters", WAYS)
def test_surfaces_are_those_that_slicer_makes(parameters):
    volume, labels = makeVolume(OBLIQUE), makeLabels()
    labels[:3, :4, :5] = 1  # as far as the corner of the volume
    segmentation, expected = (addSegmentation(volume, labels, STRUCTURES) for _ in range(2))
    for node in (segmentation, expected):
        for name, value in parameters.items():
            node.GetSegmentation().SetConversionParameter(name, value)
    assert namesOf(surfaceSteps(segmentation)) == ["liver", "Milz groß"]
    expected.CreateClosedSurfaceRepresentation()
    for number in range(2):
        mine, theirs = (surfaceNumber(node, number) for node in (segmentation, expected))
        assert theirs.GetNumberOfCells() > 0
        assert np.array_equal(pointsOf(mine), pointsOf(theirs))
        assert np.array_equal(*(vtk_to_numpy(surface.GetPolys().GetData()) for surface in (mine, theirs)))
        assert arraysOf(mine) == arraysOf(theirs)
    assert segmentation.GetDisplayNode().GetVisibility3D()


def test_surfaces_made_in_another_way_than_slicers_default_are_made_in_that_way():
    segmentation, expected, byDefault = (addSegmentation(makeVolume(), makeLabels(), STRUCTURES) for _ in range(3))
    for node in (segmentation, expected):
        node.GetSegmentation().SetConversionParameter("Conversion method", "1")  # surface nets
    list(surfaceSteps(segmentation))
    for node in (expected, byDefault):
        node.CreateClosedSurfaceRepresentation()
    mine, theirs, other = (pointsOf(surfaceNumber(node, 0)) for node in (segmentation, expected, byDefault))
    assert np.array_equal(mine, theirs)
    assert not np.array_equal(mine, other)


def namesOf(steps):
    return [step for step in steps if step is not WAIT]


def pointsOf(surface):
    return vtk_to_numpy(surface.GetPoints().GetData())


def surfaceNumber(segmentation, number):
    return segmentation.GetSegmentation().GetNthSegment(number).GetRepresentation("Closed surface")


def arraysOf(surface):
    data = surface.GetPointData()
    return {data.GetArrayName(n): vtk_to_numpy(data.GetArray(n)).tolist() for n in range(data.GetNumberOfArrays())}


def test_a_segment_without_voxels_gets_an_empty_surface():
    volume, labels = makeVolume(), makeLabels()
    segmentation = addSegmentation(volume, labels, [*STRUCTURES, {**STRUCTURES[0], "id": 9, "name": "not here"}])
    assert namesOf(surfaceSteps(segmentation)) == ["liver", "Milz groß", "not here"]
    assert surfaceNumber(segmentation, 1).GetNumberOfCells() > 0
    assert surfaceNumber(segmentation, 2).GetNumberOfCells() == 0


def test_surfaces_come_all_at_once_and_no_sooner():
    segmentation = addSegmentation(makeVolume(), makeLabels(), STRUCTURES)
    steps = surfaceSteps(segmentation)
    for name in steps:
        assert surfaceNumber(segmentation, 0) is None
        if name == "Milz groß":
            break
    assert list(steps) == []
    assert surfaceNumber(segmentation, 0).GetNumberOfCells() > 0


def test_surfaces_of_what_was_edited_meanwhile_are_the_new_ones():
    volume, labels = makeVolume(), makeLabels()
    segmentation = addSegmentation(volume, labels, STRUCTURES)
    for name in surfaceSteps(segmentation):
        if name == "liver":
            labelMap = segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
            scalars = labelMap.GetPointData().GetScalars()
            vtk_to_numpy(scalars)[:] = np.where(np.arange(scalars.GetNumberOfTuples()) % 7 == 3, 1, 0)
            scalars.Modified()
            labelMap.Modified()
    segmentation.CreateClosedSurfaceRepresentation()  # as a 3D view does
    assert surfaceNumber(segmentation, 0).GetNumberOfCells() > 1000
    assert surfaceNumber(segmentation, 1).GetNumberOfCells() == 0


def test_surfaces_that_are_given_up_leave_nothing():
    segmentation = addSegmentation(makeVolume(), makeLabels(), STRUCTURES)
    steps = surfaceSteps(segmentation)
    next(steps)
    steps.close()
    assert not segmentation.GetSegmentation().ContainsRepresentation("Closed surface")


def test_what_is_no_image_is_refused_in_one_sentence():
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    data = vtk.vtkImageData()
    data.SetDimensions(4, 4, 1)
    data.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colors.SetAndObserveImageData(data)
    labelMap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    for node, words in [
        (colors, "3 numbers per voxel"),
        (labelMap, "label map"),
        (empty, "no voxels"),
        (None, "not a volume"),
    ]:
        with pytest.raises(DinomixError, match=words):
            imageOfNode(node)
    flat, transformed = makeVolume(np.diag([1.0, 1.0, 0.0, 1.0])), makeVolume()
    transformed.SetAndObserveTransformNodeID(transformNode(np.diag([1.0, 0.0, 1.0, 1.0])).GetID())
    for node in (flat, transformed, makeVolume(np.diag([1.0, np.nan, 1.0, 1.0]))):
        with pytest.raises(DinomixError, match="span no volume"):
            imageOfNode(node)
    with pytest.raises(DinomixError, match="has changed"):
        addSegmentation(makeVolume(), makeLabels((5, 5, 5)), STRUCTURES)


@pytest.fixture
def test_data():
    folder = os.environ.get("DINOMIX_TEST_DATA")
    if not folder:
        pytest.skip("DINOMIX_TEST_DATA is not set, so nothing is tested on real scans")
    return Path(folder).resolve()
