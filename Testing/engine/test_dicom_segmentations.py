"""DICOM segmentations are read voxel for voxel as highdicom wrote them, onto the grid of the series they were drawn on."""

import shutil
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_files import GRID, ORGANS, write_ct, write_seg
from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import check_drawn_on, drawn_file
from dinomix.images.image_headers import is_image_path
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry

SIZE = GRID.size[::-1]
NAMES = dict(enumerate(ORGANS, 1))


def organs() -> np.ndarray:
    """(k, j, i); two slices hold none, so their frames are not stored."""
    array = np.random.default_rng(0).integers(0, 4, SIZE).astype(np.uint8)
    array[[0, 3]] = 0
    return array


@pytest.fixture
def series(tmp_path: Path) -> list[Dataset]:
    return write_ct(tmp_path / "ct", np.random.default_rng(1).integers(-100, 100, SIZE))


def refusal(path: Path, like: Geometry | None = GRID) -> str:
    with pytest.raises(DinomixError) as caught:
        read_label(path, like=like)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def channels(array: np.ndarray) -> np.ndarray:
    """(k, j, i, segment), 0 or 1."""
    return np.stack([array == number for number in NAMES], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("grid", ["straight", "oblique"])
def test_voxels_names_and_place(tmp_path: Path, oblique: Geometry, kind: str, grid: str) -> None:
    """Frames are stored from the last slice to the first, and single bits of 63 pixels begin within bytes."""
    turned = replace(oblique, direction=oblique.direction @ np.diag([1.0, 1.0, -1.0]))  # as series are stored
    geometry = GRID if grid == "straight" else turned
    array = organs()[: geometry.size[2]]
    slices = write_ct(tmp_path / "ct", np.random.default_rng(1).integers(-100, 100, array.shape), geometry)
    image = read_image(tmp_path / "ct")
    assert not image.geometry.difference(geometry)
    drawn = array if kind != "FRACTIONAL" else 0.6 * channels(array)
    path = write_seg(tmp_path / "seg.dcm", slices[::-1], drawn[::-1], kind=kind)
    volume, names = read_label(path, like=image.geometry)
    np.testing.assert_array_equal(volume.array, array)
    assert not volume.geometry.difference(image.geometry)
    assert names == NAMES
    alone, _ = read_label(path)
    np.testing.assert_array_equal(alone.array, array[1:])
    assert alone.geometry.size == (*geometry.size[:2], geometry.size[2] - 1)
    check_drawn_on(path, [tmp_path / "ct"])


def test_it_agrees_with_highdicom(tmp_path: Path, series: list[Dataset]) -> None:
    """Another reader's array and place, of a segmentation without its own first slice."""
    path = write_seg(tmp_path / "seg.dcm", series, organs())
    theirs = highdicom.seg.segread(path).get_volume(combine_segments=True, allow_missing_positions=True)
    theirs = theirs.to_patient_orientation(
        "HPL"
    )  # the axes of slices, rows and columns run to head, back and left, as GRID's
    volume, _ = read_label(path)
    np.testing.assert_array_equal(volume.array, theirs.array)
    np.testing.assert_allclose(volume.geometry.origin, theirs.position)


def test_half_of_a_fractional_segmentation(tmp_path: Path, series: list[Dataset]) -> None:
    parts = np.zeros((*SIZE, 1), np.float32)
    parts[2, 1, :5, 0] = [0.2, 0.49, 0.51, 0.8, 1]
    path = write_seg(tmp_path / "seg.dcm", series, parts, kind="FRACTIONAL", max_fractional_value=200)
    volume, _ = read_label(path, like=GRID)
    assert volume.array[2, 1, :6].tolist() == [0, 0, 1, 1, 1, 0]
    assert any("at least half (100 of 200)" in notice for notice in volume.notices)


def test_run_lengths_are_unpacked(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, organs(), kind="LABELMAP", transfer_syntax_uid=RLELossless)
    np.testing.assert_array_equal(read_label(path, like=GRID)[0].array, organs())


def test_a_part_of_the_slices_and_of_the_pixels(tmp_path: Path, series: list[Dataset]) -> None:
    """Slices 1, 2 and 4 only, and of these a crop that begins at pixel (2, 1) and whose rows run the other way."""
    array = organs()
    array[[0, 3, 5]] = 0
    array[:, 0] = array[:, 5:] = array[:, :, :2] = 0
    path = write_seg(tmp_path / "seg.dcm", series, array)
    data = pydicom.dcmread(path)
    frames = data.pixel_array[:, 1:5, 2:][:, ::-1]
    corner = np.array(GRID.spacing) * [2, 4, 0]
    for item in data.PerFrameFunctionalGroupsSequence:
        place = item.PlanePositionSequence[0]
        place.ImagePositionPatient = [*(np.array(place.ImagePositionPatient, float) + corner)]
    data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
    data.Rows, data.Columns = frames.shape[1:]
    data.PixelData = np.packbits(frames, bitorder="little").tobytes()
    data.save_as(path)
    volume, _ = read_label(path, like=GRID)
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"origin": (10.2, 20.0, -15.0)}, "does not lie on its image's voxels"),
        ({"spacing": (1.5, 1.0, 3.0)}, "does not lie on its image's voxels"),
        ({"origin": (10.0, 20.0, -14.0)}, "does not lie on its image's voxels"),
        ({"origin": (11.5, 20.0, -15.0)}, "labeled voxels outside of its image"),
        ({"origin": (10.0, 20.0, 0.0)}, "labeled voxels outside of its image"),
    ],
)
def test_another_grid_is_refused(tmp_path: Path, series: list[Dataset], change: dict, words: str) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, organs())
    assert words in refusal(path, replace(GRID, **change))


def test_segments_that_overlap(tmp_path: Path, series: list[Dataset]) -> None:
    array = organs()
    array[1, 2, :3] = 1
    masks = channels(array)
    masks[1, 2, :3, 1] = 1
    path = write_seg(tmp_path / "seg.dcm", series, masks)
    line = refusal(path)
    assert "Leber and spleen (" in line
    assert "spleen and Leber" not in line
    for order, top in ((("spleen", "Leber"), 1), (("Leber", "spleen"), 2)):
        volume, _ = read_label(path, like=GRID, order=order)
        assert volume.array[1, 2, :3].tolist() == [top] * 3
        assert {frozenset(pair[:2]) for pair in volume.overlaps} == {frozenset(order)}


def test_several_segments_of_one_name(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, organs(), names=["nodule", "nodule", "liver"])
    assert "several structures named nodule" in refusal(path)


def test_segmentations_that_nobody_here_made() -> None:
    """dcmqi's, of pydicom's own tests: it says 3 frames, and holds the pixels of one."""
    path = Path(get_testdata_file("liver_1frame.dcm"))
    assert drawn_file(path) == path
    assert "1 frames and says where 3 of them lie" in refusal(path, None)


def test_that_file_with_the_frame_that_it_holds(tmp_path: Path) -> None:
    data = pydicom.dcmread(get_testdata_file("liver_1frame.dcm"))
    del data.PerFrameFunctionalGroupsSequence[1:]
    data.save_as(tmp_path / "liver.dcm")
    volume, names = read_label(tmp_path / "liver.dcm")
    assert names == {1: "Liver"}
    assert volume.geometry.size == (512, 512, 1)
    np.testing.assert_allclose(volume.geometry.origin, (-235.2, -226.8, -128.69))
    np.testing.assert_array_equal(volume.array[0], data.pixel_array)
    assert volume.array.any()


def test_damaged_files(tmp_path: Path, series: list[Dataset]) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, organs())
    whole = path.read_bytes()
    for cut in (200, 900, len(whole) - 20):
        path.write_bytes(whole[:cut])
        assert "damaged" in refusal(path) or "cut off" in refusal(path)

    def changed(change) -> str:
        path.write_bytes(whole)
        data = pydicom.dcmread(path)
        change(data)
        data.save_as(path)
        return refusal(path)

    assert "describes no segment of the number 9" in changed(
        lambda d: setattr(
            d.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 9
        )
    )
    assert "does not say where its frames lie" in changed(
        lambda d: delattr(d.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence")
    )
    assert "damaged DICOM file" in changed(lambda d: delattr(d, "SegmentSequence"))
    assert "damaged DICOM file" in changed(lambda d: delattr(d, "SharedFunctionalGroupsSequence"))


def test_pixels_that_are_not_unpacked_here(tmp_path: Path, series: list[Dataset]) -> None:
    from pydicom.uid import JPEGLSLossless

    path = write_seg(tmp_path / "seg.dcm", series, organs(), kind="LABELMAP", transfer_syntax_uid=JPEGLSLossless)
    assert "JPEG-LS" in refusal(path)


def test_a_segmentation_beside_its_slices_is_no_slice(tmp_path: Path, series: list[Dataset]) -> None:
    before = read_image(tmp_path / "ct")
    path = write_seg(tmp_path / "ct" / "seg.dcm", series, organs())
    after = read_image(tmp_path / "ct")
    np.testing.assert_array_equal(before.array, after.array)
    assert drawn_file(tmp_path / "ct") is None
    assert drawn_file(path) == path
    (tmp_path / "alone").mkdir()
    shutil.copy(path, tmp_path / "alone" / "1")
    assert drawn_file(tmp_path / "alone") == tmp_path / "alone" / "1"
    assert not is_image_path(tmp_path / "alone")
    np.testing.assert_array_equal(read_label(tmp_path / "alone", like=GRID)[0].array, organs())


def test_the_series_it_was_drawn_on(tmp_path: Path, series: list[Dataset]) -> None:
    other = np.random.default_rng(5).integers(-100, 100, SIZE)
    write_ct(tmp_path / "ct", other, uid="1.2.3", description="Abdomen 3 mm")
    path = write_seg(tmp_path / "seg.dcm", series, organs())
    own, others = (next((tmp_path / "ct").glob(f"{uid}-*.dcm")) for uid in (series[0].SeriesInstanceUID, "1.2.3"))
    check_drawn_on(path, [own])
    with pytest.raises(DinomixError) as caught:
        check_drawn_on(path, [others])
    for word in (series[0].SeriesInstanceUID, "1.2.3", "Abdomen 3 mm", str(path), str(others)):
        assert word in caught.value.problem


def test_a_segmentation_that_names_no_series(tmp_path: Path, series: list[Dataset]) -> None:
    """Then it belongs to what shares its frame of reference."""
    path = write_seg(tmp_path / "seg.dcm", series, organs())
    data = pydicom.dcmread(path)
    del data.ReferencedSeriesSequence
    for item in data.PerFrameFunctionalGroupsSequence:
        del item.DerivationImageSequence
    data.save_as(path)
    check_drawn_on(path, [tmp_path / "ct"])
    write_ct(tmp_path / "elsewhere", np.random.default_rng(5).integers(-100, 100, SIZE), frame="1.2.10")
    with pytest.raises(DinomixError, match="none that it names"):
        check_drawn_on(path, [tmp_path / "elsewhere"])


def test_an_image_is_no_label(tmp_path: Path, series: list[Dataset]) -> None:
    assert "not exactly one DICOM segmentation" in refusal(tmp_path / "ct")
    first = next((tmp_path / "ct").iterdir())
    assert "neither a segmentation nor a structure set" in refusal(first)
    assert series[0].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
