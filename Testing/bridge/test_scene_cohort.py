"""Cases of the scene: pairing, and files that the engine reads back voxel for voxel, whatever transforms lie above."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
import vtk
from large_case import largeCase

from dinomix.cohort.checking import check_cohort
from dinomix.images.reading import read_image, read_label
from dinomix_slicer import task
from dinomix_slicer.scene import case_files, scene_cohort, scene_export
from dinomix_slicer.scene.scene_cohort import SceneCase, proposedSegmentations, sceneCases, stateOf
from dinomix_slicer.scene.scene_export import SceneExport
from dinomix_slicer.scene.volumes import imagesOfScene
from dinomix_slicer.task import Steps
from host import processEvents, waitUntil

SHAPE = (14, 18, 22)
LIVER_BOX, SPLEEN_BOX = (3, 9, 4, 9, 5, 15), (4, 9, 10, 14, 7, 13)  # first and last k, j, i
LIVER = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
)


def addVolume(name="CT", shape=SHAPE, dtype=np.int16, seed=0, place=(30, -40, 15)):
    array = (np.random.default_rng(seed).normal(0, 300, shape)).astype(dtype)
    node = slicer.util.addVolumeFromArray(array, name=name)
    # Oblique, left-handed, of uneven spacing.
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-1.2, 0.9, 2.5])
    matrix[:3, 3] = place
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


def addSegmentation(volume, name="Organs", segments=(("liver", LIVER_BOX), ("spleen", SPLEEN_BOX))):
    """A segmentation with boxes (k, k, j, j, i, i) as segments, referring to the volume."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    for number, (segment, box) in enumerate(segments):
        id = node.GetSegmentation().AddEmptySegment(segment, segment, [1.0, number / 4, 0.25])
        slicer.util.updateSegmentBinaryLabelmapFromArray(boxArray(box), node, id, volume)
    # As Slicer stores them: in one layer, unless they overlap.
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return node


def boxArray(box):
    array = np.zeros(SHAPE, np.uint8)
    array[box[0] : box[1], box[2] : box[3], box[4] : box[5]] = 1
    return array


def addTransform(name="Transform", angle=0.0, shift=(0, 0, 0)):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    transform = vtk.vtkTransform()
    transform.Translate(*shift)
    transform.RotateWXYZ(angle, 1, 2, 3)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def addBending():
    transform = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (50, 50, 50)):
        source.InsertNextPoint(point)
        target.InsertNextPoint(*(value * 1.1 + value**2 / 500 for value in point))
    transform.SetSourceLandmarks(source)
    transform.SetTargetLandmarks(target)
    transform.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "bending")
    node.SetAndObserveTransformToParent(transform)
    return node


class Heard:
    def __init__(self, export):
        self.ends, self.progress = [], []
        for name in ("finished", "failed", "cancelled"):
            getattr(export, name).connect(lambda *arguments, name=name: self.ends.append((name, *arguments)))
        export.progress.connect(lambda *told: self.progress.append(told))


def exported(cases, folder: Path, export=None, leftOut=()):
    export = export or SceneExport()
    heard = Heard(Steps(export.steps(cases, folder, leftOut)))
    waitUntil(lambda: heard.ends)
    assert heard.ends[0][0] == "finished", heard.ends
    return heard.ends[0][1]


def refused(case, folder):
    heard = Heard(Steps(SceneExport().steps([case], folder)))
    waitUntil(lambda: heard.ends)
    assert heard.ends[0][0] == "failed", heard.ends
    assert heard.ends[0][2].endswith(".")
    return heard.ends[0][1]


def expectedLabels(segmentation, volume):
    """What Slicer itself says that each segment is on the volume's grid, transforms included."""
    segments = segmentation.GetSegmentation()
    return {
        segments.GetNthSegment(n).GetName(): slicer.util.arrayFromSegmentBinaryLabelmap(
            segmentation, segments.GetNthSegmentID(n), volume
        )
        != 0
        for n in range(segments.GetNumberOfSegments())
    }


def check(files, volume, segmentation):
    """The engine reads the image on its own grid, and every segment where Slicer sees it."""
    image = read_image(files.image)
    assert np.array_equal(image.array, slicer.util.arrayFromVolume(volume).astype(np.float32))
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    assert np.allclose(image.geometry.affine_ras, slicer.util.arrayFromVTKMatrix(matrix), atol=1e-9)
    labels, names = read_label(files.label)
    assert not image.geometry.difference(labels.geometry)
    found = {name: labels.array == value for value, name in names.items()}
    expected = expectedLabels(segmentation, volume)
    assert set(found) == set(expected)
    for name, voxels in expected.items():
        assert voxels.sum() > 20
        # Under transforms, Slicer's own export loses voxels of the volume's outermost rows.
        inner = (slice(1, -1),) * 3
        different = np.count_nonzero(found[name][inner] != voxels[inner])
        assert not different, f"{name}: {different} voxels differ"


# -- Pairing


def test_segmentations_are_paired_with_the_volume_that_they_refer_to():
    volumes = [addVolume("CT"), addVolume("MR"), addVolume("alone")]
    organs, tumor = addSegmentation(volumes[1], "Organs"), addSegmentation(volumes[1], "Tumor")
    found = {slicer.mrmlScene.GetNodeByID(id): proposals for id, proposals in proposedSegmentations().items()}
    assert [(p.segmentation, p.reason) for p in found[volumes[1]]] == [(organs, "reference"), (tumor, "reference")]
    assert found[volumes[0]] == found[volumes[2]] == []


def test_without_a_reference_those_belong_together_that_are_alone_in_a_folder():
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    pairs = []
    for name in ("one", "two"):
        volume = addVolume(name)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} labels")
        folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), f"patient {name}")
        for node in (volume, segmentation):
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)
        pairs.append((volume, segmentation))
    for volume, segmentation in pairs:
        (proposal,) = proposedSegmentations()[volume.GetID()]
        assert (proposal.segmentation, proposal.reason) == (segmentation, "place")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(addVolume("second of one")), hierarchy.GetItemParent(
        hierarchy.GetItemByDataNode(pairs[0][0])))  # fmt: skip
    assert proposedSegmentations()[pairs[0][0].GetID()] == []
    assert proposedSegmentations()[pairs[1][0].GetID()] != []


def test_nothing_is_guessed_among_nodes_that_lie_loose_in_the_scene():
    volume = addVolume()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loose")
    assert proposedSegmentations() == {volume.GetID(): []}


def test_only_images_are_cases():
    volume = addVolume()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "without voxels")
    slicer.util.addVolumeFromArray(
        np.zeros((3, 3, 3, 3), np.uint8), name="RGB", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    hidden = addVolume("hidden")
    hidden.SetHideFromEditors(True)
    assert imagesOfScene() == [volume]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["CT", "ct", "CT"], ["CT", "ct_2", "CT_3"]),
        (["CT_2", "CT", "CT"], ["CT_2", "CT", "CT_3"]),
        (["5: Thorax/Abdomen <1.5>", "Größe 例"], ["5_ Thorax_Abdomen _1.5", "Größe 例"]),
        (["..", "aux", "", ""], ["volume", "volume_aux", "volume_2", "volume_3"]),
    ],
)
def test_names_are_those_of_files(names, expected):
    volumes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode") for _ in names]
    for volume, name in zip(volumes, names, strict=True):
        volume.SetName(name)
    assert [case.name for case in sceneCases([(volume, None) for volume in volumes])] == expected


# -- Export


def test_a_case_is_read_back_by_the_engine_with_names_colors_and_terminology(tmp_path):
    volume = addVolume("Größe 例")
    segmentation = addSegmentation(volume)
    segment = segmentation.GetSegmentation().GetNthSegment(0)
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), LIVER)
    (files,) = exported([SceneCase("Größe 例", volume, segmentation)], tmp_path / "study ü" / "scene")
    check(files, volume, segmentation)
    loaded = slicer.util.loadSegmentation(str(files.label))
    again = loaded.GetSegmentation().GetNthSegment(0)
    assert scene_cohort.terminologyOf(again) == LIVER
    assert np.allclose(again.GetColor(), segment.GetColor(), atol=1e-5)
    assert expectedLabels(loaded, volume)["spleen"].sum() == expectedLabels(segmentation, volume)["spleen"].sum()
    assert not list(files.image.parent.glob(".partial*"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.float32, np.float64])
def test_all_kinds_of_numbers(tmp_path, dtype):
    volume = addVolume(dtype=dtype)
    (files,) = exported([SceneCase("case", volume)], tmp_path)
    assert files.label is None
    assert np.array_equal(read_image(files.image).array, slicer.util.arrayFromVolume(volume).astype(np.float32))


TRANSFORMS = {
    "none": (None, None),
    "the same": ("a", "a"),
    "of the volume": ("a", None),
    "of the segmentation": (None, "b"),
    "different": ("a", "b"),
}


@pytest.mark.parametrize("which", TRANSFORMS)
def test_segmentations_under_other_transforms_are_brought_to_the_volumes_grid(tmp_path, which):
    volume = addVolume()
    segmentation = addSegmentation(volume)
    transforms = {"a": addTransform("a", 3, (2, -1, 3)), "b": addTransform("b", -2, (1, 2, -2)), None: None}
    for node, name in zip((volume, segmentation), TRANSFORMS[which], strict=True):
        node.SetAndObserveTransformNodeID(transforms[name].GetID() if name else None)
    (files,) = exported([SceneCase("case", volume, segmentation)], tmp_path)
    check(files, volume, segmentation)
    labels, _ = read_label(files.label)
    for id, box in enumerate((LIVER_BOX, SPLEEN_BOX), 1):
        assert np.array_equal(labels.array == id, boxThroughWorld(box, volume, segmentation))


def boxThroughWorld(box, volume, segmentation):
    """Where the box of a segment drawn on the volume's voxels is seen, voxel by voxel through world coordinates."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    toRas = slicer.util.arrayFromVTKMatrix(matrix)
    toWorld = []
    for node in (volume, segmentation):
        matrix.Identity()
        if node.GetParentTransformNode() is not None:
            node.GetParentTransformNode().GetMatrixTransformToWorld(matrix)
        toWorld.append(slicer.util.arrayFromVTKMatrix(matrix))
    k, j, i = np.indices(SHAPE).reshape(3, -1)
    world = toWorld[0] @ toRas @ np.stack([i, j, k, np.ones_like(i)])
    i, j, k = np.rint((np.linalg.inv(toRas) @ np.linalg.inv(toWorld[1]) @ world)[:3])
    inside = (k >= box[0]) & (k < box[1]) & (j >= box[2]) & (j < box[3]) & (i >= box[4]) & (i < box[5])
    return inside.reshape(SHAPE)


def test_a_segmentation_of_another_grid_is_brought_to_the_volumes(tmp_path):
    fine = addVolume("fine", (28, 36, 44))
    matrix = vtk.vtkMatrix4x4()
    fine.GetIJKToRASMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    affine[:3, :3] /= 2.2
    fine.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "fine")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(fine)
    array = np.zeros((28, 36, 44), np.uint8)
    array[5:20, 8:30, 10:40] = 1
    id = segmentation.GetSegmentation().AddEmptySegment("organ", "organ")
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, id, fine)
    volume = addVolume("coarse")
    (files,) = exported([SceneCase("case", volume, segmentation)], tmp_path)
    check(files, volume, segmentation)


def test_a_segmentation_that_reaches_out_of_the_volume_is_cut(tmp_path):
    volume = addVolume()
    segmentation = addSegmentation(volume)
    transform = addTransform("shift", 0, (8, 5, 9))
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    (files,) = exported([SceneCase("case", volume, segmentation)], tmp_path)
    labels, _ = read_label(files.label)
    assert 0 < np.count_nonzero(labels.array) < sum(boxArray(b).sum() for b in (LIVER_BOX, SPLEEN_BOX))
    expected = expectedLabels(segmentation, volume)
    assert np.array_equal(labels.array == 1, expected["liver"])


def test_surfaces_become_label_maps_on_the_volumes_grid_and_stay_surfaces_in_the_scene(tmp_path):
    volume = addVolume()
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1.0, 1.0, 1.0])))
    segmentation = addSegmentation(volume, segments=())
    for name, center in (("one", (5, 6, 5)), ("two", (15, 11, 9))):
        ball = vtk.vtkSphereSource()
        ball.SetCenter(*center)
        ball.SetRadius(3.2)
        ball.SetThetaResolution(40)
        ball.SetPhiResolution(40)
        ball.Update()
        segmentation.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), name, [1, 0, 0])
    segments = segmentation.GetSegmentation()
    segments.CreateRepresentation("Closed surface")
    segments.SetSourceRepresentationName("Closed surface")
    segments.RemoveRepresentation("Binary labelmap")
    (files,) = exported([SceneCase("case", volume, segmentation)], tmp_path)
    labels, names = read_label(files.label)
    ball = 4 / 3 * np.pi * 3.2**3
    for value, name in names.items():
        assert abs(np.count_nonzero(labels.array == value) - ball) < 0.15 * ball, name
    middle = np.argwhere(labels.array == 2).mean(axis=0)
    assert np.allclose(middle, (9, 11, 15), atol=0.3)
    assert not segments.ContainsRepresentation("Binary labelmap")


@pytest.mark.parametrize(
    ("problem", "make"),
    [
        (
            "overlap",
            lambda v: addSegmentation(v, segments=(("liver", (3, 9, 4, 9, 5, 9)), ("tumor", (4, 6, 5, 7, 6, 8)))),
        ),
        ("no segment to learn from", lambda v: addSegmentation(v, segments=())),
        ("outside of its volume", lambda v: addSegmentation(addVolume("other", place=(900, 0, 0)))),
    ],
)
def test_segmentations_that_are_no_labels_are_refused_in_a_sentence(tmp_path, problem, make):
    volume = addVolume()
    segmentation = make(volume)
    if problem == "overlap":
        assert segmentation.GetSegmentation().GetNumberOfLayers() == 2
    told = refused(SceneCase("case 1", volume, segmentation), tmp_path)
    assert problem in told
    assert list(tmp_path.iterdir()) == []


def test_segments_in_which_nothing_is_drawn_are_the_label_of_a_healthy_patient(tmp_path):
    cases = []
    for number, box in enumerate((LIVER_BOX, (0, 0, 0, 0, 0, 0))):
        volume = addVolume(f"CT {number}", seed=number)
        cases.append(SceneCase(f"case {number}", volume, addSegmentation(volume, segments=(("liver", box),))))
    _, healthy = exported(cases, tmp_path / "cases")
    labels, names = read_label(healthy.label)
    assert labels.array.shape == SHAPE and not labels.array.any() and list(names.values()) == ["liver"]
    told = []
    cohort = check_cohort([tmp_path / "cases"], [], [], emit=lambda kind, **fields: told.append(fields.get("code")))
    assert [case.voxels[1] > 0 for case in cohort.cases] == [True, False] and "no-structure" in told
    assert all(case.is_whole for case in cohort.cases)


def test_what_is_left_out_may_overlap(tmp_path):
    volume = addVolume()
    segmentation = addSegmentation(volume)
    segmentation.GetSegmentation().AddEmptySegment("body", "body")
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones(SHAPE, np.uint8), segmentation, "body", volume)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 2
    (files,) = exported([SceneCase("case", volume, segmentation)], tmp_path, leftOut=["body"])
    labels, names = read_label(files.label)
    assert set(names.values()) == {"liver", "spleen"}
    assert np.array_equal(labels.array == 1, expectedLabels(segmentation, volume)["liver"])


def test_non_linear_transforms_between_both_are_refused_and_common_ones_left_alone(tmp_path):
    volume = addVolume()
    segmentation = addSegmentation(volume)
    bending = addBending()
    volume.SetAndObserveTransformNodeID(bending.GetID())
    assert "non-linear transform" in refused(SceneCase("case", volume, segmentation), tmp_path)
    segmentation.SetAndObserveTransformNodeID(bending.GetID())
    (files,) = exported([SceneCase("case", volume, segmentation)], tmp_path)
    labels, _ = read_label(files.label)
    assert np.array_equal(labels.array == 1, boxArray(LIVER_BOX) != 0)


# -- Only what has changed


def test_files_are_written_again_only_when_the_nodes_have_changed(tmp_path, monkeypatch):
    volume, other = addVolume("one"), addVolume("two", seed=1)
    segmentation = addSegmentation(volume)
    cases = [SceneCase("one", volume, segmentation), SceneCase("two", other)]
    written, write = [], case_files.write_nrrd
    monkeypatch.setattr(case_files, "write_nrrd", lambda path, *rest: (written.append(path.name), write(path, *rest)))
    export = SceneExport()

    def namesWritten(export):
        written.clear()
        exported(cases, tmp_path, export)
        return sorted(written)

    assert namesWritten(export) == ["one.nrrd", "one.seg.nrrd", "two.nrrd"]
    assert stateOf(cases[0]) == stateOf(cases[0])
    assert namesWritten(export) == []
    # Another session of Slicer compares what the files hold.
    assert namesWritten(SceneExport()) == []
    slicer.util.updateSegmentBinaryLabelmapFromArray(boxArray((3, 10, 4, 9, 5, 15)), segmentation, "liver", volume)
    assert namesWritten(export) == ["one.seg.nrrd"]
    segmentation.GetSegmentation().GetNthSegment(0).SetName("Leber")
    assert namesWritten(export) == ["one.seg.nrrd"]
    slicer.util.arrayFromVolume(other)[3, 3, 3] += 1
    slicer.util.arrayFromVolumeModified(other)
    assert namesWritten(export) == ["two.nrrd"]
    volume.SetOrigin(29, -39, 16)
    assert namesWritten(export) == ["one.nrrd", "one.seg.nrrd"]
    (tmp_path / "two.nrrd").unlink()
    assert namesWritten(export) == ["two.nrrd"]
    (tmp_path / "two.nrrd").write_bytes(b"another program was here")
    assert namesWritten(export) == ["two.nrrd"]
    (tmp_path / "two.nrrd").write_bytes(b"and again")
    assert namesWritten(SceneExport()) == ["two.nrrd"]
    (tmp_path / "scene.json").write_text("{damaged")
    assert namesWritten(SceneExport()) == ["one.nrrd", "one.seg.nrrd", "two.nrrd"]


# -- Beside the window


def test_nothing_blocks_the_window_while_a_large_case_is_written(tmp_path, monkeypatch):
    case = largeCase()
    threads, turns, timer = [], [], qt.QTimer()
    timer.setInterval(0)
    timer.connect("timeout()", lambda: turns.append(bool(threads)))
    timer.start()
    # A step then takes a tick, however fast the computer is.
    monkeypatch.setattr(task, "TICK_SECONDS", -1.0)

    def writeCase(*arguments):
        threads.append(threading.current_thread())
        return case_files.writeCase(*arguments)

    monkeypatch.setattr(scene_export, "writeCase", writeCase)
    (files,) = exported([case], tmp_path)
    timer.stop()
    check(files, case.volume, case.segmentation)
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
    blocks = slicer.util.arrayFromVolume(case.volume).size // scene_cohort.BLOCK_VOXELS
    assert blocks > 5 and turns.count(False) >= blocks, "the window had its turn between blocks"


def test_cancel_leaves_no_half_file(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 1000, (120, 320, 320), np.int16)
    volume = slicer.util.addVolumeFromArray(array, name="large")
    task = Steps(SceneExport().steps([SceneCase("large", volume)], tmp_path))
    heard = Heard(task)
    waitUntil(lambda: list(tmp_path.glob(".partial*")))
    task.cancel()
    assert heard.ends == [("cancelled",)]
    waitUntil(lambda: not list(tmp_path.iterdir()))
    processEvents(50)
    assert heard.ends == [("cancelled",)]


def test_nodes_that_go_while_they_are_copied(tmp_path):
    volume = addVolume()
    segmentation = addSegmentation(volume)
    steps = SceneExport().steps([SceneCase("one", volume, segmentation), SceneCase("two", volume)], tmp_path)
    heard = Heard(Steps(steps))
    slicer.mrmlScene.Clear(False)
    waitUntil(lambda: heard.ends)
    assert heard.ends[0][0] in ("finished", "failed")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    told = refused(SceneCase("case", addVolume()), tmp_path / "scene")
    tmp_path.chmod(0o700)
    assert "cannot be written" in told


def test_a_file_in_place_of_the_folder_is_said_in_a_sentence(tmp_path):
    (tmp_path / "scene").write_text("not a folder")
    assert "cannot be written" in refused(SceneCase("case", addVolume()), tmp_path / "scene")


def test_a_full_disk_is_said_in_a_sentence(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case_files, "write_nrrd", full)
    assert "No space left" in refused(SceneCase("case", addVolume()), tmp_path)
