import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.errors import DinomixError
from dinomix.images.reading import is_image_path, read_geometry, read_image, read_label

# What the one line must say of each series.
FAILING = {
    "sliceincrement/001": "lacks slices between IM-0001-0009-0001.dcm and IM-0001-0010-0001.dcm",
    "sliceincrement/002": "lacks slices between IM-0001-0003.dcm and IM-0001-0005.dcm",
    "sliceorientation/001": "2 of its slices lie in one direction, 2 in others",
    "slicecount/001": "only 2 slices",
    "notavolume/001": "several slices lie at one place",
    "gantrytilting/001": "sheared",
}


def write_series(
    folder: Path, depths: list[float], uid: str = "1.2.3", values: list[int] | None = None, **tags
) -> None:
    """CT slices of 6 x 5 pixels at the given depths, of one HU value each, stored with slope 2 and intercept -7."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, depth in enumerate(depths):
        image = sitk.GetImageFromArray(np.full((5, 6), 1 if values is None else values[number], np.int16))
        fields = {
            "0008|0060": "CT",
            "0020|000e": uid,
            "0020|000d": "1.2",
            "0008|0018": f"{uid}.{number + 1}",
            "0020|0013": str(number + 1),
            "0020|0032": f"10\\20\\{depth}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-7",
            "0028|1053": "2",
        } | tags
        image.SetSpacing((0.75, 0.5))
        for key, value in fields.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}-{number:03}.dcm"))
        writer.Execute(image)


def refusal(path: Path, read=read_image) -> str:
    with pytest.raises(DinomixError) as caught:
        read(path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("series", FAILING)
def test_series_that_are_no_volume_are_refused(test_data: Path, series: str) -> None:
    path = test_data / "dicom" / "failing" / series
    assert FAILING[series] in refusal(path)
    assert FAILING[series] in refusal(path, read_geometry)


def test_a_tilted_gantry_is_resampled_on_request(test_data: Path) -> None:
    volume = read_image(test_data / "dicom" / "failing" / "gantrytilting" / "001", resample_sheared=True)
    geometry = volume.geometry
    np.testing.assert_allclose(geometry.direction.T @ geometry.direction, np.eye(3), atol=1e-9)
    # Slices 5 mm apart along the table, tilted by 14 degrees, are 4.85 mm apart along their normal.
    np.testing.assert_allclose(geometry.spacing, (0.41796875, 0.41796875, 5 * 0.970295726276), rtol=1e-5)
    assert any("resampled" in notice for notice in volume.notices)


@pytest.mark.parametrize("kind", ["j2k", "rle", "jpegls"])
def test_compressed_series_are_read(test_data: Path, kind: str) -> None:
    volume = read_image(test_data / "dicom" / f"compressed_{kind}" / "001")
    assert volume.geometry.size == (256, 256, 4)
    other = read_image(test_data / "dicom" / "compressed_rle" / "001")
    np.testing.assert_array_equal(volume.array, other.array)
    assert volume.array.std() > 10


@pytest.mark.parametrize("transfer", ["001", "001_implicit"])
def test_a_plain_series_lies_where_its_headers_say(test_data: Path, transfer: str) -> None:
    path = test_data / "dicom" / "ge_anatomical" / transfer
    volume = read_image(path)
    assert is_image_path(path)
    assert read_geometry(path) == volume.geometry
    for file in path.glob("*.dcm"):
        slice_ = sitk.ReadImage(str(file))
        place = np.array([*map(float, slice_.GetMetaData("0020|0032").split("\\"))])
        index = volume.geometry.direction.T @ (place - volume.geometry.origin) / volume.geometry.spacing
        np.testing.assert_allclose(index, np.rint(index), atol=1e-2)
        np.testing.assert_array_equal(volume.array[round(index[2])], sitk.GetArrayFromImage(slice_)[0])


def test_one_slice_is_no_volume(test_data: Path) -> None:
    assert "only one slice" in refusal(test_data / "dicom" / "ge_anatomical" / "001_single_slice")


def test_a_folder_of_folders_names_them(test_data: Path) -> None:
    line = refusal(test_data / "dicom" / "ge_anatomical")
    assert "no DICOM images" in line
    assert "001, 001_implicit, 001_single_slice" in line


def test_several_series_in_one_folder(test_data: Path, tmp_path: Path) -> None:
    shutil.copytree(test_data / "dicom" / "ge_anatomical" / "001", tmp_path / "mixed")
    write_series(tmp_path / "mixed", [0, 3, 6], **{"0008|103e": "Abdomen 3 mm"})
    line = refusal(tmp_path / "mixed")
    assert 'CT "Abdomen 3 mm", 3 files, e.g. 1.2.3-000.dcm' in line
    assert "4 files" in line
    assert read_image(tmp_path / "mixed" / "1.2.3-001.dcm").geometry.size == (6, 5, 3)
    assert read_image(tmp_path / "mixed" / "IM-0001-0112-0001.dcm").geometry.size == (256, 256, 4)


def test_descriptions_in_an_older_character_set(tmp_path: Path) -> None:
    write_series(tmp_path / "mixed", [0, 3, 6], uid="1.2.3", **{"0008|103e": "Gr##e"})
    write_series(tmp_path / "mixed", [0, 3, 6], uid="1.2.4")
    for file in (tmp_path / "mixed").iterdir():
        file.write_bytes(file.read_bytes().replace(b"Gr##e", "Größe".encode("latin-1")))
    assert 'CT "Größe"' in refusal(tmp_path / "mixed")


def test_values_are_rescaled_and_slices_sorted_by_place(tmp_path: Path) -> None:
    folder = tmp_path / "Größe 画像"
    write_series(folder, [6, 0, 3, 9], values=[53, 13, 33, 73])
    assert np.full(30, 30, np.int16).tobytes() in (folder / "1.2.3-000.dcm").read_bytes()
    volume = read_image(folder)
    np.testing.assert_array_equal(volume.array[:, 0, 0], [13, 33, 53, 73])
    assert volume.array.dtype == np.float32
    assert volume.geometry.spacing == pytest.approx((0.75, 0.5, 3))
    assert volume.geometry.origin == pytest.approx((10, 20, 0))


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    """As in PET: the first slice's scale and number type say nothing about the others."""
    write_series(tmp_path / "series", [0, 3, 6], values=[13, 33, 53])
    last = tmp_path / "series" / "1.2.3-002.dcm"
    slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"
    assert slope + b"2 " in last.read_bytes()
    last.write_bytes(last.read_bytes().replace(slope + b"2 ", slope + b".5"))
    stored = (53 + 7) / 2
    np.testing.assert_array_equal(read_image(tmp_path / "series").array[:, 0, 0], [13, 33, stored * 0.5 - 7])


@pytest.mark.parametrize(
    ("depths", "words"),
    [
        ([0, 3, 6, 10, 14, 18], "uneven"),
        ([0, 3, 6, 12, 15], "lacks slices"),
        ([0, 3, 3, 6], "several slices lie at one place"),
    ],
)
def test_uneven_missing_and_repeated_slices(tmp_path: Path, depths: list[float], words: str) -> None:
    write_series(tmp_path / "series", depths)
    assert words in refusal(tmp_path / "series")


def test_rounded_positions_are_even_enough(tmp_path: Path) -> None:
    write_series(tmp_path / "series", [round(n * 2 / 3, 2) for n in range(12)])
    assert read_image(tmp_path / "series").geometry.spacing[2] == pytest.approx(2 / 3, abs=1e-3)


def test_dicom_without_a_place_and_without_images(tmp_path: Path) -> None:
    write_series(tmp_path / "lost", [0, 3, 6])
    for file in (tmp_path / "lost").iterdir():
        # Image Position (0020,0032) becomes an element that has no meaning any more.
        file.write_bytes(file.read_bytes().replace(b"\x20\x00\x32\x00", b"\x20\x00\x31\x00"))
    assert "does not say where it lies" in refusal(tmp_path / "lost")
    (tmp_path / "empty").mkdir()
    assert "no DICOM" in refusal(tmp_path / "empty")
    assert not is_image_path(tmp_path / "empty")


def test_labels_are_not_read_from_dicom(test_data: Path) -> None:
    assert "for images only" in refusal(test_data / "dicom" / "ge_anatomical" / "001", read_label)
