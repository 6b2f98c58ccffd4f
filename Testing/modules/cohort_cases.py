"""Cases for tests of DINOMix Train: small generated ones, and real ones of the test data."""

import os
import unittest
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer

SHAPE = (12, 14, 16)
NAMES = {1: "liver", 2: "spleen"}


def image(seed):
    return np.random.default_rng(seed).normal(0, 100, SHAPE).astype(np.int16)


def labels(seed=0):
    """A large and a small box, moved a little by the seed."""
    array = np.zeros(SHAPE, np.uint8)
    array[2:8, 3:9, 2 + seed % 3 : 9] = 1
    array[9:11, 10:12, 11:13] = 2
    return array


def write(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = sitk.GetImageFromArray(array)
    file.SetSpacing((1.5, 1.0, 2.0))
    sitk.WriteImage(file, str(path))


def labeledFolder(folder: Path, count=3, names=True, first=0) -> Path:
    """images/ and labels/, with the structures' names in a dataset.json."""
    for number in range(first, first + count):
        write(image(number), folder / "images" / f"case{number}.nii.gz")
        write(labels(number), folder / "labels" / f"case{number}.nii.gz")
    if names:
        (folder / "dataset.json").write_text(
            '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}', encoding="utf-8"
        )
    return folder


def unlabeledFolder(folder: Path, count=2, first=100) -> Path:
    for number in range(first, first + count):
        write(image(number), folder / f"scan{number}.nrrd")
    return folder


def dicomSeries(folder: Path, seed=7) -> np.ndarray:
    """A CT series of SHAPE; returns its voxels (k, j, i)."""
    folder.mkdir(parents=True)
    array = image(seed)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, plane in enumerate(array):
        file = sitk.GetImageFromArray(plane)
        file.SetSpacing((1.5, 1.0))
        fields = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0060": "CT", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{k + 1}", "0020|0013": str(k + 1), "0020|0032": f"0\\0\\{2 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "2",
        }  # fmt: skip
        for key, value in fields.items():
            file.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"slice{k:03}.dcm"))
        writer.Execute(file)
    return array


def addSceneCase(name, seed, segmentation="Organs", names=("liver", "spleen"), transform=None):
    """A volume node, and unless ``segmentation`` is None a segmentation that was drawn on it."""
    volume = slicer.util.addVolumeFromArray(image(seed), name=name)
    volume.SetSpacing(1.5, 1.0, 2.0)
    volume.SetOrigin(10, -20, 5)
    if transform is not None:
        volume.SetAndObserveTransformNodeID(transform.GetID())
    if segmentation is None:
        return volume, None
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", segmentation)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    for value, segment in enumerate(names, 1):
        id = node.GetSegmentation().AddEmptySegment(segment, segment)
        array = (labels(seed) == value).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, id, volume)
    return volume, node


def realData() -> Path:
    """The folder of real test data; a test that needs it is skipped without."""
    folder = os.environ.get("DINOMIX_TEST_DATA")
    if not folder or not (Path(folder) / "hippocampus").is_dir():
        raise unittest.SkipTest("set DINOMIX_TEST_DATA to the folder of real test data")
    return Path(folder)
