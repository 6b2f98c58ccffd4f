import os
import stat
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.errors import DinomixError
from dinomix.images.reading import read_geometry, read_label
from dinomix.images.volume import Geometry
from dinomix.images.writing import write_labels
from dinomix.labels import LabelSet

LABELS = LabelSet.from_names({1: "liver", 2: "Right Kidney", 5: "Größe 肝", 9: "spleen"})


def label_map(geometry: Geometry) -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2, 5], size=geometry.size[::-1]).astype(np.uint8)


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "seg.nrrd", "mha"])
def test_what_is_written_is_read_back(tmp_path: Path, oblique: Geometry, ending: str) -> None:
    array = label_map(oblique)
    path = tmp_path / "Ergebnis für 患者" / f"case 1.{ending}"
    write_labels(array, oblique, LABELS, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR
    image = sitk.ReadImage(path)
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    np.testing.assert_allclose(image.GetSpacing(), oblique.spacing, rtol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), oblique.origin, rtol=1e-6)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), oblique.direction, atol=1e-6)
    volume, names = read_label(path)
    assert volume.geometry.difference(oblique) == ""
    assert names == (dict(zip(LABELS.ids, LABELS.names, strict=True)) if ending == "seg.nrrd" else None)


@pytest.mark.parametrize(
    "image",
    [
        "geometry/anisotropic_lefthanded_t2s",
        "geometry/oblique_sag_5_15_30",
        "orientations/AIL",
        "orientations/SLP",
        "ct_spleen/ct",
        "ct_multiorgan/ct",
    ],
)
def test_labels_have_the_affine_of_their_image(test_data: Path, tmp_path: Path, image: str) -> None:
    source = test_data / f"{image}.nii.gz"
    geometry = read_geometry(source)
    write_labels(np.ones(geometry.size[::-1], np.uint8), geometry, LABELS, tmp_path / "labels.nii.gz")
    written = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(written.affine, nibabel.load(source).affine, atol=1e-4)
    np.testing.assert_allclose(written.get_qform(), nibabel.load(source).affine, atol=1e-3)
    assert written.shape == nibabel.load(source).shape[:3]


def test_slicer_finds_names_colors_and_codes(tmp_path: Path, oblique: Geometry) -> None:
    array = np.zeros(oblique.size[::-1], np.uint8)
    array[1:3, 2:6, 4] = 2
    write_labels(array, oblique, LABELS, tmp_path / "case.seg.nrrd")
    image = sitk.ReadImage(tmp_path / "case.seg.nrrd")
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    kidney = LABELS.structures[1]
    assert keys["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert keys["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert keys["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert keys["Segment1_ID"] == "Segment_2"
    assert keys["Segment1_Name"] == "Right Kidney"
    assert keys["Segment1_LabelValue"] == "2"
    assert keys["Segment1_Layer"] == "0"
    assert keys["Segment1_Extent"] == "4 4 2 5 1 2"
    assert keys["Segment0_Extent"] == "0 -1 0 -1 0 -1"
    assert [float(word) * 255 for word in keys["Segment1_Color"].split()] == pytest.approx(kidney.color, abs=0.01)
    assert keys["Segment1_Tags"] == (
        "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^24028007^Right"
        "~Anatomic codes - DICOM master list~^^~^^|"
    )
    assert keys["Segment2_Name"] == "Größe 肝"
    assert "Segment4_ID" not in keys


def test_ids_above_255_are_kept(tmp_path: Path, oblique: Geometry) -> None:
    array = np.full(oblique.size[::-1], 300, np.uint16)
    write_labels(array, oblique, LabelSet.from_names({300: "liver"}), tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "case.nii.gz")[0].array, array)


def test_unknown_endings_and_ids_are_refused(tmp_path: Path, oblique: Geometry) -> None:
    with pytest.raises(DinomixError, match="ending"):
        write_labels(label_map(oblique), oblique, LABELS, tmp_path / "case.jpg")
    with pytest.raises(ValueError, match="7"):
        write_labels(np.full(oblique.size[::-1], 7, np.uint8), oblique, LABELS, tmp_path / "case.nii.gz")
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from dinomix.images.volume import Geometry
from dinomix.images.writing import write_labels
from dinomix.labels import LabelSet

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
array = np.random.default_rng(0).integers(0, 250, (40, 50, 60)).astype(np.uint8)
labels = LabelSet.from_names({n: f"class_{n}" for n in range(1, 250)})
try:
    write_labels(array, Geometry((60, 50, 40), (1, 1, 1), (0, 0, 0), np.eye(3)), labels, Path(sys.argv[1]))
except OSError as error:
    print("errno", error.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes to stand for a full disk")
@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "seg.nrrd", "mha"])
def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path, ending: str) -> None:
    import errno

    path = tmp_path / f"case.{ending}"
    path.write_text("the old one")
    run = [sys.executable, "-c", FULL_DISK, str(path)]
    result = subprocess.run(run, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"errno {errno.EFBIG}"
    assert path.read_text() == "the old one"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder(tmp_path: Path, oblique: Geometry) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_labels(label_map(oblique), oblique, LABELS, tmp_path / "case.nii.gz")
    finally:
        tmp_path.chmod(0o700)
