import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.images.image_headers import is_image_path
from dinomix.images.reading import read_geometry, read_image, read_label
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.labels import LabelSet
from image_files import refused

ORDERS = ["AIL", "ASR", "IPL", "IRA", "LAS", "LIA", "LPS", "PIR", "RAS", "RPI", "SAR", "SLP"]


@pytest.mark.parametrize("order", ORDERS)
def test_each_axis_order_is_the_same_volume(test_data: Path, order: str) -> None:
    volume = read_image(test_data / "orientations" / f"{order}.nii.gz")
    stored = nibabel.load(test_data / "orientations" / f"{order}.nii.gz")
    assert nibabel.aff2axcodes(volume.geometry.affine_ras) == tuple(order)
    np.testing.assert_allclose(volume.geometry.affine_ras, stored.affine, atol=1e-4)
    np.testing.assert_array_equal(volume.array.T, stored.get_fdata(dtype=np.float32))
    ras = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.array.T, volume.geometry.affine_ras))
    reference = nibabel.load(test_data / "orientations" / "RAS.nii.gz")
    np.testing.assert_allclose(ras.get_fdata(), reference.get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(ras.affine, reference.affine, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["oblique_cor_5_15_30", "oblique_sag_5_15_30", "oblique_trans_5_15_30", "anisotropic_lefthanded_t2s"]
)
def test_oblique_and_left_handed_grids_are_read_as_nibabel_reads_them(test_data: Path, name: str) -> None:
    path = test_data / "geometry" / f"{name}.nii.gz"
    geometry = read_geometry(path)
    np.testing.assert_allclose(geometry.affine_ras, nibabel.load(path).affine, atol=1e-3)
    np.testing.assert_allclose(geometry.direction.T @ geometry.direction, np.eye(3), atol=1e-5)
    assert read_image(path).geometry.difference(geometry) == ""


def test_shear_that_itk_hides_behind_the_qform_is_refused(test_data: Path) -> None:
    path = test_data / "geometry" / "gantry_tilt_sheared_affine.nii.gz"
    refused(path, "sheared")
    refused(path, "sheared", read=read_geometry)
    refused(path, "sheared", read=lambda p: read_label(p))


def sheared_image() -> tuple[np.ndarray, np.ndarray]:
    """A linear function of the position in the patient, sampled on a sheared grid: (i, j, k) and RAS affine."""
    affine = np.array([[1.0, 0, 0, -5], [0, 1.5, 0, 7], [0, 0.5, 2.0, 3], [0, 0, 0, 1]])
    i, j, k = np.mgrid[:12, :14, :10]
    x, y, z = np.einsum("ab,bijk->aijk", affine[:3, :3], np.array([i, j, k])) + affine[:3, 3][:, None, None, None]
    return (100 + x + 2 * y + 3 * z).astype(np.float32), affine


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_a_sheared_image_is_resampled_where_it_lies_in_the_patient(write_nifti, tmp_path: Path, ending: str) -> None:
    array, affine = sheared_image()
    path = write_nifti(array, affine)
    nifti = nibabel.load(path)
    nifti.set_qform(None, 0)
    nibabel.save(nifti, path)
    if ending == "nrrd":
        image = sitk.GetImageFromArray(array.T)
        path = tmp_path / "image.nrrd"
        sitk.WriteImage(image, path)
        text = path.read_bytes()
        start = text.index(b"space directions")
        end = text.index(b"\n", text.index(b"space origin"))
        path.write_bytes(
            text[:start]
            + b"space directions: (-1,0,0) (0,-1.5,0.5) (0,0,2)\nkinds: domain domain domain\nendian: little\n"
            + b"encoding: raw\nspace origin: (5,-7,3)"
            + text[end:]
        )
    refused(path, "sheared")
    volume = read_image(path, resample_sheared=True)
    assert any("resampled" in notice for notice in volume.notices)
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.size), indexing="ij"), -1)
    place = index @ volume.geometry.affine_ras[:3, :3].T + volume.geometry.affine_ras[:3, 3]
    expected = 100 + place @ [1, 2, 3]
    back = (place - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    inside = ((back > 0.01) & (back < np.array(array.shape) - 1.01)).all(axis=-1)
    assert inside.sum() > 500
    np.testing.assert_allclose(volume.array.T[inside], expected[inside], atol=1e-3)


def test_the_sform_counts_where_it_differs_from_the_qform(write_nifti) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    path = write_nifti(np.zeros((4, 5, 6), np.int16), affine)
    nifti = nibabel.load(path)
    moved = affine.copy()
    moved[:3, 3] = [10, 20, 30]
    nifti.set_qform(moved, 1)
    nibabel.save(nifti, path)
    volume = read_image(path)
    np.testing.assert_allclose(volume.geometry.affine_ras, affine)
    assert any("sform" in notice for notice in volume.notices)


def test_a_file_without_orientation_says_so(write_nifti) -> None:
    path = write_nifti(np.zeros((4, 5, 6), np.int16))
    nifti = nibabel.load(path)
    nifti.set_qform(None, 0)
    nifti.set_sform(None, 0)
    nibabel.save(nifti, path)
    assert any("right, anterior, superior" in notice for notice in read_image(path).notices)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_formats_and_paths_with_any_characters(tmp_path: Path, oblique: Geometry, ending: str) -> None:
    array = np.random.default_rng(0).normal(size=oblique.size[::-1]).astype(np.float32)
    plain = tmp_path / f"Größe 画像 é{ending}"
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(oblique.spacing)
    image.SetOrigin(oblique.origin)
    image.SetDirection(oblique.direction.ravel().tolist())
    sitk.WriteImage(image, plain)
    volume = read_image(plain)
    assert is_image_path(plain)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.difference(oblique) == ""
    assert read_geometry(plain).difference(oblique) == ""


def test_damaged_and_false_files(write_nifti, tmp_path: Path, oblique: Geometry) -> None:
    whole = write_nifti(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)).read_bytes()
    cases = {
        "half.nii.gz": whole[: len(whole) // 2],
        "nearly.nii.gz": whole[:-6],
        "half.nii": gzip.decompress(whole)[:8000],
        "text.nii.gz": b"This is not an image.\n" * 30,
        "text.nrrd": b"This is not an image.\n" * 30,
        "empty.nii.gz": b"",
        "flipped.nii.gz": whole[:9000] + bytes([whole[9000] ^ 255]) + whole[9001:],
    }
    for ending in (".nrrd", ".mha"):
        path = tmp_path / f"whole{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(20, 20, 20))), path, True)
        data = path.read_bytes()
        cases[f"half{ending}"] = data[: len(data) // 2]
        cases[f"flipped{ending}"] = data[:9000] + bytes([data[9000] ^ 255]) + data[9001:]
    path = tmp_path / "plain.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((20, 20, 20), np.uint16)), path)
    cases["cut.mha"] = path.read_bytes()[:-1]
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name)
    refused(tmp_path / "missing.nii.gz", "no file")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "not an image")
    assert not is_image_path(tmp_path / "notes.txt")


def test_not_one_volume_of_numbers(write_nifti, tmp_path: Path) -> None:
    refused(write_nifti(np.zeros((6, 6), np.int16), name="flat.nii.gz"), "2D")
    refused(write_nifti(np.full((6, 6, 6), np.nan, np.float32), name="nan.nii.gz"), "216 voxels", "NaN")
    refused(write_nifti(np.zeros((6, 6, 6), np.complex64), name="complex.nii.gz"), "complex")
    rgb = np.zeros((6, 6, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(write_nifti(rgb, name="rgb.nii.gz"), "color")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((6, 6, 6, 3), np.uint8), isVector=True), tmp_path / "rgb.nrrd")
    refused(tmp_path / "rgb.nrrd", "3 numbers per voxel")


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_a_file_with_several_volumes_is_refused_or_one_is_chosen(tmp_path: Path, ending: str) -> None:
    frames = [np.full((4, 5, 6), n, np.int16) for n in range(3)]
    path = tmp_path / f"series.{ending}"
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in frames]), path)
    refused(path, "4D", "3 volumes")
    refused(path, "4D", read=read_label)
    volume = read_image(path, frame=2)
    np.testing.assert_array_equal(volume.array, frames[2])
    refused(path, "no volume 3", read=lambda p: read_image(p, frame=3))


def test_a_single_volume_stored_as_4d_is_read(write_nifti) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1)
    np.testing.assert_array_equal(read_image(write_nifti(array)).array.T, array[..., 0])


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stored", ["u1", "i2", "u2", "i4", "f4", "f8", "i1", "u4"])
def test_all_number_types_are_read_as_nibabel_reads_them(tmp_path: Path, kind: str, order: str, stored: str) -> None:
    header = getattr(nibabel, kind).header_class(endianness=order)
    array = np.arange(60).reshape(3, 4, 5).astype(order + stored)
    image = getattr(nibabel, kind)(array, np.diag([1.0, 2.0, 3.0, 1.0]), header)
    image.header.set_slope_inter(0.37, -1024)
    nibabel.save(image, tmp_path / "scaled.nii")
    volume = read_image(tmp_path / "scaled.nii")
    expected = nibabel.load(tmp_path / "scaled.nii").get_fdata().astype(np.float32)
    np.testing.assert_array_equal(volume.array.T, expected)
    assert volume.geometry.spacing == (1, 2, 3)
    image.header.set_slope_inter(1, 0)
    nibabel.save(image, tmp_path / "plain.nii")
    np.testing.assert_array_equal(read_label(tmp_path / "plain.nii")[0].array.T, array)


def test_nan_in_a_nrrd_file(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[1, 2, 3] = np.inf
    sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / "image.nrrd")
    refused(tmp_path / "image.nrrd", "1 voxels")


def test_labels_are_whole_numbers_in_the_smallest_type(write_nifti) -> None:
    array = np.arange(60).reshape(3, 4, 5)
    for stored in (np.int16, np.float32, np.float64):
        volume, names = read_label(write_nifti(array.astype(stored)))
        assert volume.array.dtype == np.uint8
        assert names is None
        np.testing.assert_array_equal(volume.array.T, array)
    assert read_label(write_nifti((array * 100).astype(np.int16)))[0].array.dtype == np.uint16
    refused(write_nifti((array / 2).astype(np.float32)), "not whole", read=read_label)
    refused(write_nifti((array - 1).astype(np.int16)), "-1", read=read_label)
    refused(write_nifti((array * 5000).astype(np.int32)), "295000", read=read_label)


def segmentation(path: Path, layers: np.ndarray, segments: list[dict[str, str]]) -> Path:
    """A ``.seg.nrrd`` as Slicer writes it: ``layers`` (k, j, i) or, where segments overlap, (k, j, i, layer)."""
    image = sitk.GetImageFromArray(layers, isVector=layers.ndim == 4)
    for number, segment in enumerate(segments):
        for key, value in segment.items():
            image.SetMetaData(f"Segment{number}_{key}", value)
    sitk.WriteImage(image, path, True)
    if layers.ndim == 4:
        data = path.read_bytes()
        assert b"kinds: vector" in data
        path.write_bytes(data.replace(b"kinds: vector", b"kinds: list", 1))
    return path


def test_segmentations_with_layers(tmp_path: Path) -> None:
    layers = np.zeros((4, 5, 6, 2), np.uint8)
    layers[0, ..., 0] = 1
    layers[2, ..., 1] = 1
    segments = [
        {"ID": "a", "Name": "Leber", "LabelValue": "1", "Layer": "0"},
        {"ID": "b", "Name": "肝", "LabelValue": "1", "Layer": "1"},
    ]
    volume, names = read_label(segmentation(tmp_path / "apart.seg.nrrd", layers, segments))
    assert names == {1: "Leber", 2: "肝"}
    assert volume.notices
    np.testing.assert_array_equal(volume.array, layers[..., 0] + 2 * layers[..., 1])
    old = [{"ID": "a", "Name": "Leber"}, {"ID": "b", "Name": "肝"}]
    volume, _ = read_label(segmentation(tmp_path / "old.seg.nrrd", layers, old))
    np.testing.assert_array_equal(volume.array, layers[..., 0] + 2 * layers[..., 1])
    layers[2, 0, 0, 0] = 1
    refused(segmentation(tmp_path / "over.seg.nrrd", layers, segments), "Leber", "肝", "1 voxel", read=read_label)


def test_segmentations_that_are_no_label_maps(tmp_path: Path) -> None:
    zeros = np.zeros((4, 5, 6), np.uint8)
    names = [{"ID": "a", "Name": "tumor", "LabelValue": "1"}, {"ID": "b", "Name": "tumor", "LabelValue": "2"}]
    refused(segmentation(tmp_path / "names.seg.nrrd", zeros, names), "several segments named tumor", read=read_label)
    for kind, array, words in (
        ("Binary labelmap", zeros[:1, :1, :1], "empty"),
        ("Fractional labelmap", zeros, "Fractional labelmap"),
    ):
        image = sitk.GetImageFromArray(array)
        image.SetMetaData("Segmentation_MasterRepresentation", kind)
        sitk.WriteImage(image, tmp_path / "other.seg.nrrd")
        refused(tmp_path / "other.seg.nrrd", words, read=read_label)


def test_names_in_an_older_character_set(tmp_path: Path) -> None:
    array = np.ones((4, 5, 6), np.uint8)
    path = segmentation(tmp_path / "case.seg.nrrd", array, [{"ID": "a", "Name": "Gr##e", "LabelValue": "1"}])
    path.write_bytes(path.read_bytes().replace(b"Gr##e", "Größe".encode("latin-1")))
    assert read_label(path)[1] == {1: "Größe"}


def test_a_cropped_segmentation_is_put_back_on_its_image(tmp_path: Path, oblique: Geometry) -> None:
    array = np.zeros(oblique.size[::-1], np.uint8)
    array[1:4, 2:5, 3:8] = 1
    affine = oblique.affine_ras
    corner = np.diag([-1, -1, 1]) @ (affine[:3, :3] @ [2, 1, 1] + affine[:3, 3])
    cropped = array[1:5, 1:6, 2:9]
    grid = Geometry(cropped.shape[::-1], oblique.spacing, tuple(corner), oblique.direction)
    path = tmp_path / "case.seg.nrrd"
    write_labels(cropped, grid, LabelSet.from_names({1: "liver"}), path)
    volume, names = read_label(path, like=oblique)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry == oblique
    assert names == {1: "liver"}
    small = Geometry((5, 5, 5), oblique.spacing, oblique.origin, oblique.direction)
    refused(path, "outside", read=lambda p: read_label(p, like=small))
    elsewhere = Geometry(oblique.size, oblique.spacing, tuple(corner + 0.3), oblique.direction)
    assert read_label(path, like=elsewhere)[0].geometry.size == grid.size


def test_images_are_written_as_they_are(tmp_path: Path, oblique: Geometry) -> None:
    array = np.random.default_rng(0).normal(size=oblique.size[::-1]).astype(np.float32)
    write_image(Volume(array, oblique), tmp_path / "image.nii.gz")
    volume = read_image(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.geometry.difference(oblique) == ""
