import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dinomix.errors import DinomixError
from dinomix.files import sha256
from dinomix.images import dicom_pixels
from dinomix.images.file_sets import files_of, image_sha256
from dinomix.images.image_headers import is_image_path
from dinomix.images.reading import read_geometry, read_image

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


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("name", ["1.2.3-{:03}.dcm", "IM{:04}", "1.2.3.{}"])
def test_a_slice_that_is_empty_is_missed(tmp_path: Path, place: int, name: str) -> None:
    """The first and the last one too, without which the others still make an even volume."""
    write_series(tmp_path / "series", [0, 3, 6, 9, 12])
    files = sorted((tmp_path / "series").iterdir())
    for number, file in enumerate(files):
        file.rename(file.with_name(name.format(number)))
    slice_ = tmp_path / "series" / name.format(place)
    whole = slice_.read_bytes()
    for data, words in ((b"", "is empty"), (whole[:100], "is no DICOM file"), (b"\0" * len(whole), "is no DICOM file")):
        slice_.write_bytes(data)
        for read in (read_image, read_geometry):
            line = refusal(tmp_path / "series", read)
            assert f"{slice_.name} {words}" in line
    slice_.write_bytes(whole)
    for beside in ("LICENSE", "README.txt", ".DS_Store", "._1.2.3-000.dcm"):
        (tmp_path / "series" / beside).touch()
    assert read_image(tmp_path / "series").geometry.size == (6, 5, 5)


@pytest.mark.parametrize("length", [140, 200, 400, -200, -59, -2])
def test_a_slice_that_is_cut_off(tmp_path: Path, length: int) -> None:
    write_series(tmp_path / "series", [0, 3, 6, 9])
    last = tmp_path / "series" / "1.2.3-003.dcm"
    last.write_bytes(last.read_bytes()[:length])
    assert last.name in refusal(tmp_path / "series")
    assert last.name in refusal(tmp_path / "series", read_geometry)


def element(number: int, value: bytes) -> bytes:
    """An element of the group 0028, as it is written without the kinds of its values."""
    value += b" " * (len(value) % 2)
    return b"\x28\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (element(0x10, b"\x05\0"), element(0x10, b"\x06\0"), "bytes of pixels"),
        (element(0x11, b"\x06\0"), element(0x11, b"\xff\xff"), "bytes of pixels"),
        (element(0x11, b"\x06\0"), element(0x11, b"\0\0"), "0 x 5 pixels"),
        (element(0x100, b"\x10\0"), element(0x100, b"\x11\0"), "17 bits"),
        (element(0x100, b"\x10\0"), element(0x101, b"\x10\0"), "(0028|0100) is missing"),
        (element(0x10, b"\x05\0"), element(0x10, b"\x05\0\0\0"), "(0028|0010) has 4 bytes"),
        (element(0x10, b"\x05\0"), b"\x28\0\x10\0\xff\xff\xff\xff", "in a sequence"),
        (element(0x1053, b"2"), element(0x1053, b"x"), "scales its pixels by what is no number"),
        (element(0x1053, b"2"), element(0x1053, b"0"), "scales its pixels by what is no number"),
        (element(0x1052, b"-7"), element(0x1052, b"na"), "scales its pixels by what is no number"),
        (b"1\\0\\0\\0\\1\\0", b"1\\0\\0\\0\\2\\0", "directions of its rows and columns"),
        (b"1\\0\\0\\0\\1\\0", b"1\\0\\0\\1\\0\\0", "directions of its rows and columns"),
        (b"\xe0\x7f\x10\0", b"\xe0\x7f\x11\0", "holds no pixels"),
    ],
)
def test_headers_that_say_what_is_not_there(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    write_series(tmp_path / "series", [0, 3, 6, 9])
    last = tmp_path / "series" / "1.2.3-003.dcm"
    data = last.read_bytes()
    assert data.count(old) == 1
    last.write_bytes(data.replace(old, new))
    line = refusal(tmp_path / "series")
    assert last.name in line
    assert words in line


def test_spacings_that_no_scanner_makes(tmp_path: Path) -> None:
    write_series(tmp_path / "far", [0, 300, 600])
    assert "no scanner makes" in refusal(tmp_path / "far")


def test_one_file_of_a_series_stands_for_all_its_slices(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_series(folder, [0, 3, 6], values=[1, 2, 3])
    write_series(folder, [0, 3, 6, 9], uid="1.2.4", values=[4, 5, 6, 7])
    first, second = folder / "1.2.3-001.dcm", folder / "1.2.4-000.dcm"
    assert [file.name for file in files_of(first)] == ["1.2.3-000.dcm", "1.2.3-001.dcm", "1.2.3-002.dcm"]
    before, of_folder = (image_sha256(first), image_sha256(second)), image_sha256(folder)
    assert of_folder == sha256(folder) and len(files_of(folder)) == 7
    write_series(folder, [0, 3, 6], values=[1, 2, 9])
    assert image_sha256(first) != before[0] and image_sha256(second) == before[1]
    assert image_sha256(first) == image_sha256(folder / "1.2.3-000.dcm")


def test_a_damaged_stream_names_its_slice(test_data: Path, tmp_path: Path) -> None:
    shutil.copytree(test_data / "dicom" / "compressed_j2k" / "001", tmp_path / "series")
    damaged = sorted((tmp_path / "series").iterdir())[2]
    data = bytearray(damaged.read_bytes())
    start = data.index(b"\xff\x4f\xff\x51")  # where JPEG 2000 begins
    data[start : start + 400] = bytes(400)
    damaged.write_bytes(data)
    assert damaged.name in refusal(tmp_path / "series")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("kill -SEGV $$", "ended by signal 11"),
        ("exit 7", "ended with 7"),
        ("echo Traceback >&2; exit 1", "ended with 1"),
        ("exec sleep 60", "takes longer than 0 seconds"),
    ],
)
def test_a_decoder_that_dies_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    """The decoder is a process of its own, so that its end is one line and a cohort's check goes on."""
    write_series(tmp_path / "series", [0, 3, 6])
    decoder = tmp_path / "python-that-decodes"
    decoder.write_text(f"#!/bin/sh\n{program}\n")
    decoder.chmod(0o755)
    monkeypatch.setattr(dicom_pixels.sys, "executable", str(decoder))
    monkeypatch.setattr(dicom_pixels, "LONGEST_SLICE", 0.3)
    line = refusal(tmp_path / "series")
    assert words in line
    assert "1.2.3-000.dcm" in line


def test_a_decoder_that_takes_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "series", [0, 3, 6])
    monkeypatch.setattr(dicom_pixels, "MOST_MEMORY", 2**20)
    assert "takes more than 0.0 GB of memory" in refusal(tmp_path / "series")


def test_the_decoder_is_python_also_within_slicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = dicom_pixels.sys.executable
    (tmp_path / "PythonSlicer").symlink_to(python)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(dicom_pixels.sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    assert dicom_pixels._python() == str(tmp_path / "PythonSlicer")
    monkeypatch.setattr(dicom_pixels.sys, "executable", python)
    assert dicom_pixels._python() == python
