"""Labels written as DICOM segmentations and structure sets: read back equal, by ourselves and by programs of others."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset
from scipy.ndimage import gaussian_filter

from dicom_files import GRID, write_ct
from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import check_drawn_on
from dinomix.images.dicom_results import Maker
from dinomix.images.dicom_structures import inside
from dinomix.images.dicom_writing import write_dicom_labels
from dinomix.images.formats import DICOM_RESULTS, Format
from dinomix.images.outlines import outlines
from dinomix.images.overlaps import OTHERS
from dinomix.images.reading import read_codes, read_image, read_label
from dinomix.images.shear import labels_at, tilted_geometry
from dinomix.images.volume import Geometry
from dinomix.inference.outputs import Output
from dinomix.labels import LabelSet
from dinomix.report.read_again import read_again
from dinomix.terminology import terminology_entry

LABELS = LabelSet.from_names({2: "liver", 5: "left kidney", 300: "Läsion 肝"})
WITH_REGIONS = LABELS.with_regions({"organs": [2, 5]})
NUMBERS = {1: "liver", 2: "left kidney", 3: "Läsion 肝"}
MAKER = Maker("abdomen of 2026", "0123456789abcdef", {"liver": "livers\\a"})
BOTH = pytest.mark.parametrize("format", DICOM_RESULTS)


def drawn(size: tuple[int, int, int] = GRID.size) -> np.ndarray:
    """Ids (k, j, i): single voxels, holes, diagonals; the first and the fourth slice are empty."""
    array = np.random.default_rng(0).choice([0, 2, 2, 5, 300], size[::-1]).astype(np.uint16)
    array[[0, 3]] = 0
    return array


def numbered(array: np.ndarray) -> np.ndarray:
    """Ids as the numbers that segments have in the file."""
    return np.searchsorted([0, 2, 5, 300], array)


def series(folder: Path, grid: Geometry = GRID, **tags: object) -> list[Dataset]:
    """A CT series whose headers have these values, too; None takes an element away."""
    slices = write_ct(folder, np.random.default_rng(1).integers(-100, 100, grid.size[::-1]), grid, description="Thorax")
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        for keyword, value in tags.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
        data.save_as(file)
    return slices


def written(folder: Path, format: Format, array: np.ndarray | None = None, labels: LabelSet = LABELS) -> Path:
    """The result for ``folder``/ct, of labels on the grid that it is read on."""
    image = read_image(folder / "ct", resample_sheared=True)
    array = drawn(image.geometry.size) if array is None else array
    path = folder / f"result{DICOM_RESULTS[format]}"
    write_dicom_labels(array, image.geometry, labels, folder / "ct", MAKER, format, path)
    return path


def program(name: str) -> str:
    """A program of the test extra's packages; where CI does not have it, nothing was validated."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        assert not os.environ.get("CI"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed: pip install '.[test]'")
    return found


def check_conforms(path: Path, odd_in_source: str = "nothing") -> None:
    """By dciodvfy of David Clunie's dicom3tools, which knows what each kind of file must hold."""
    told = subprocess.run([program("dciodvfy"), "-new", str(path)], capture_output=True, text=True).stderr
    assert [line for line in told.splitlines() if line.startswith("Error") and odd_in_source not in line] == []
    assert told.splitlines()[-1] in ("Segmentation", "RTStructureSet")


@BOTH
@pytest.mark.parametrize("grid", ["straight", "oblique"])
def test_labels_are_read_back_voxel_for_voxel(tmp_path: Path, oblique: Geometry, format: Format, grid: str) -> None:
    turned = replace(oblique, direction=oblique.direction @ np.diag([1.0, 1.0, -1.0]))  # as series are stored
    series(tmp_path / "ct", GRID if grid == "straight" else turned)
    path = written(tmp_path, format)
    image = read_image(tmp_path / "ct")
    volume, names = read_label(path, like=image.geometry)
    np.testing.assert_array_equal(volume.array, numbered(drawn(image.geometry.size)))
    assert names == NUMBERS
    check_drawn_on(path, [tmp_path / "ct"])
    assert read_codes(path) == {s.name: terminology_entry(s.terminology) for s in LABELS.structures}


def test_highdicom_pydicom_and_itk_read_the_segmentation(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    path, array = written(tmp_path, "dicom-seg"), numbered(drawn())
    theirs = highdicom.seg.segread(path).get_pixels_by_source_instance(
        [slice_.SOPInstanceUID for slice_ in slices], combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(theirs, array)
    # Segment by segment, each from its last slice to its first.
    frames = np.stack([mask for n in NUMBERS for mask in (array == n)[::-1] if mask.any()])
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, frames)
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) != 0
    np.testing.assert_array_equal(by_itk[:-1], frames[:-1])  # it loses bits of a last byte that is not full


def test_the_program_of_slicers_dicom_import_reads_the_segmentation(tmp_path: Path) -> None:
    """dcmqi, which the extension QuantitativeReporting calls."""
    series(tmp_path / "ct")
    path = written(tmp_path, "dicom-seg")
    command = [
        program("segimage2itkimage"),
        "--inputDICOM",
        str(path),
        "--outputDirectory",
        str(tmp_path),
        "-t",
        "nrrd",
    ]
    subprocess.run(command, check=True, capture_output=True)
    for number in NUMBERS:
        mask = sitk.ReadImage(str(tmp_path / f"{number}.nrrd"))
        # It has the slices between the first and the last that hold anything.
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask) != 0, numbered(drawn())[1:] == number)
        assert mask.GetSpacing() == pytest.approx(GRID.spacing)


@BOTH
@pytest.mark.parametrize("what", ["structures", "regions", "nothing"])
def test_results_conform_to_the_standard(tmp_path: Path, format: Format, what: str) -> None:
    series(tmp_path / "ct", StudyID="7", PatientAge="061Y", PatientWeight="72.5")
    array = drawn() * (what != "nothing")
    check_conforms(written(tmp_path, format, array, WITH_REGIONS if what == "regions" else LABELS))


@BOTH
def test_a_result_says_whose_it_is_and_what_made_it(tmp_path: Path, format: Format) -> None:
    told = {
        "PatientID": "77",
        "AccessionNumber": "A-1",
        "StudyDescription": "staging",
        "SeriesNumber": 4,
        "StudyID": "S",
    }
    series(tmp_path / "ct", **told, StudyDate="20260102", StudyTime="101112.5", IssuerOfPatientID="clinic")
    source = pydicom.dcmread(next((tmp_path / "ct").iterdir()))
    result = pydicom.dcmread(written(tmp_path, format))
    for keyword in (*told, "PatientName", "StudyInstanceUID", "StudyTime", "IssuerOfPatientID", "FrameOfReferenceUID"):
        if keyword != "SeriesNumber":
            assert result[keyword].value == source[keyword].value, keyword
    assert result.SeriesInstanceUID != source.SeriesInstanceUID and result.SOPInstanceUID != source.SOPInstanceUID
    assert result.SeriesNumber in (1004, 2004)
    assert result.SeriesDescription.endswith("by DINOMix: abdomen of 2026") and result.Manufacturer == "DINOMix"
    described = result.get("SegmentSequence") or result.StructureSetROISequence
    for item in described:
        by = (
            item.get("SegmentationAlgorithmIdentificationSequence") or item.ROIDerivationAlgorithmIdentificationSequence
        )
        name = "livers/a" if (item.get("SegmentLabel") or item.ROIName) == "liver" else MAKER.title
        assert (by[0].AlgorithmName, by[0].AlgorithmVersion) == (name, MAKER.version)


def test_frames_name_their_slices_and_segments_their_colors(tmp_path: Path) -> None:
    slices = series(tmp_path / "ct")
    result = highdicom.seg.segread(written(tmp_path, "dicom-seg"))
    referred = result.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == slices[0].SeriesInstanceUID
    assert {i.ReferencedSOPInstanceUID for i in referred.ReferencedInstanceSequence} == {
        s.SOPInstanceUID for s in slices
    }
    places = {slice_.SOPInstanceUID: list(slice_.ImagePositionPatient) for slice_ in slices}
    for frame in result.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == places[image.ReferencedSOPInstanceUID]
    for number, structure in enumerate(LABELS.structures, 1):
        value = result.get_segment_description(number).RecommendedDisplayCIELabValue
        color = highdicom.color.CIELabColor.from_dicom_value(tuple(value)).to_rgb()
        assert np.abs(np.subtract(color, structure.color)).max() <= 2


@pytest.mark.parametrize("grid", ["straight", "oblique"])
def test_contours_lie_in_the_slices_that_they_name(tmp_path: Path, oblique: Geometry, grid: str) -> None:
    """Filled by matplotlib, as each slice's own header places them, they give the labels."""
    turned = replace(oblique, direction=oblique.direction @ np.diag([1.0, 1.0, -1.0]))
    slices = series(tmp_path / "ct", GRID if grid == "straight" else turned)
    of_uid = {slice_.SOPInstanceUID: (k, slice_) for k, slice_ in enumerate(slices)}
    result = pydicom.dcmread(written(tmp_path, "rtstruct"))
    array = drawn((slices[0].Columns, slices[0].Rows, len(slices)))
    centers = np.stack(np.indices(array.shape[1:])[::-1], -1).reshape(-1, 2)
    for roi, structure in zip(result.ROIContourSequence, LABELS.structures, strict=True):
        found = np.zeros(array.shape, bool)
        for contour in roi.ContourSequence:
            k, slice_ = of_uid[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            places = np.reshape(contour.ContourData, (-1, 3)).astype(float) - slice_.ImagePositionPatient
            along, down = np.reshape(slice_.ImageOrientationPatient, (2, 3)).astype(float)
            np.testing.assert_allclose(places @ np.cross(along, down), 0, atol=1e-4)
            points = np.stack([places @ along, places @ down], -1) / np.array(slice_.PixelSpacing, float)[::-1]
            assert len(points) == contour.NumberOfContourPoints
            found[k] |= (
                Polygon(np.vstack([points, points[:1]]), closed=True).contains_points(centers).reshape(found[k].shape)
            )
        np.testing.assert_array_equal(found, array == structure.id)
        assert list(roi.ROIDisplayColor) == list(structure.color)


@BOTH
def test_regions_lie_over_their_structures(tmp_path: Path, format: Format) -> None:
    series(tmp_path / "ct")
    path, array = written(tmp_path, format, labels=WITH_REGIONS), drawn()
    volume, names = read_label(path, like=GRID, order=("organs", OTHERS))
    np.testing.assert_array_equal(volume.array, numbered(array))
    assert names == {**NUMBERS, 4: "organs"}
    above, _ = read_label(path, like=GRID, order=(OTHERS, "organs"))
    np.testing.assert_array_equal(above.array == 4, np.isin(array, (2, 5)))


@BOTH
def test_where_nothing_was_found_the_structures_are_named(tmp_path: Path, format: Format) -> None:
    series(tmp_path / "ct")
    volume, names = read_label(written(tmp_path, format, drawn() * 0), like=GRID)
    assert names == NUMBERS and not volume.array.any()


@BOTH
def test_a_tilted_series_has_its_result_on_its_own_slices(tmp_path: Path, format: Format) -> None:
    """The gantry was tilted by 20 degrees; the engine sees the series on a rectangular grid."""
    slices = series(tmp_path / "ct")
    shift = np.tan(np.radians(20)) * GRID.spacing[2]
    for k, file in enumerate(sorted((tmp_path / "ct").iterdir())):
        data = pydicom.dcmread(file)
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, float(y) + k * shift, z]
        data.save_as(file)
    seen = read_image(tmp_path / "ct", resample_sheared=True).geometry
    array = np.zeros(seen.size[::-1], np.uint16)
    array[2, 5:10, 2:7] = 2
    array[3, 7:12, 3:6] = 5
    path = written(tmp_path, format, array)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.array(
        [[0.75, 0, 0, 10], [0, 0.5, shift, 20], [0, 0, 3, -15], [0, 0, 0, 1]]
    )
    expected = labels_at(array, seen.affine_ras, affine, GRID.size[::-1])
    assert expected.any()
    volume, _ = read_label(path, like=tilted_geometry(affine, GRID.size))
    np.testing.assert_array_equal(volume.array, numbered(expected))
    if format == "dicom-seg":
        uids = [slice_.SOPInstanceUID for slice_ in slices]
        theirs = highdicom.seg.segread(path).get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(theirs, numbered(expected))
    again = read_again(Output("ct", (tmp_path / "ct",), path), LABELS, seen)
    np.testing.assert_array_equal(again.array, array)


@BOTH
def test_what_the_source_says_oddly_is_carried_over_as_it_is(tmp_path: Path, format: Format) -> None:
    kanji = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    series(
        tmp_path / "ct", SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=kanji, SliceThickness=None, StudyID=None,
        StudyDate=None, ReferringPhysicianName=None,
    )  # fmt: skip
    for file in (tmp_path / "ct").iterdir():
        data = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            data.PatientSex, data.PatientBirthDate = "unknown", "1950"
            data.save_as(file)
    result = pydicom.dcmread(written(tmp_path, format))
    assert str(result.PatientName) == kanji and result.SpecificCharacterSet == "ISO_IR 192"
    assert (result.PatientSex, result.PatientBirthDate, result.StudyDate) == ("unknown", "1950", "")


@BOTH
def test_what_no_result_can_refer_to_is_refused(tmp_path: Path, format: Format) -> None:
    series(tmp_path / "ct", SeriesInstanceUID=None)
    with pytest.raises(DinomixError, match="has no SeriesInstanceUID") as caught:
        written(tmp_path, format)
    assert caught.value.code == "dicom-source" and "seg.nrrd" in caught.value.remedy
    shutil.rmtree(tmp_path / "ct")
    series(tmp_path / "ct")
    for name in ("kidney\\left", "n" * 65):
        with pytest.raises(DinomixError, match="DICOM has no names like") as caught:
            written(tmp_path, format, drawn() * 0, LabelSet.from_names({1: name}))
        assert caught.value.code == "dicom-name"
    assert not list(tmp_path.glob("*.dcm"))


@BOTH
@pytest.mark.parametrize(
    "name", ["ge_anatomical/001", "ge_anatomical/001_implicit", "compressed_j2k/001", "compressed_rle/001"]
)
def test_real_series(test_data: Path, tmp_path: Path, format: Format, name: str) -> None:
    shutil.copytree(test_data / "dicom" / name, tmp_path / "ct")
    image = read_image(tmp_path / "ct")
    smooth = gaussian_filter(image.array, (0, 6, 6))
    array = np.digitize(smooth, np.percentile(smooth, [60, 85, 99])).astype(np.uint16)
    array = np.array([0, 2, 5, 0], np.uint16)[array]
    path = written(tmp_path, format, array)
    np.testing.assert_array_equal(read_label(path, like=image.geometry)[0].array, numbered(array))
    check_conforms(path, odd_in_source="PatientAge")  # an age of 0Y, which the source says


def masks() -> list[np.ndarray]:
    """(y, x): grains of all densities, with holes in them and parts within the holes, and the rims of the picture."""
    random = np.random.default_rng(3)
    grains = [random.random((23, 17)) < density for density in (0.1, 0.4, 0.5, 0.6, 0.8, 0.95)]
    y, x = np.indices((21, 25)) - np.array([10, 12])[:, None, None]
    rings = np.hypot(x, y).astype(int) % 4 < 2
    return [*grains, rings, np.ones((3, 5), bool), np.ones((1, 1), bool)]


@pytest.mark.parametrize("number", range(len(masks())))
def test_outlines_hold_the_centers_of_a_mask_by_any_rule(number: int) -> None:
    mask = masks()[number]
    centers = np.stack(np.indices(mask.shape)[::-1], -1).reshape(-1, 2)
    union, winding = np.zeros(mask.size, bool), np.zeros(mask.size, int)
    for points in outlines(mask):
        union |= Polygon(np.vstack([points, points[:1]]), closed=True).contains_points(centers)  # even and odd
        (x, y), (to_x, to_y) = points.T[..., None], np.roll(points, -1, axis=0).T[..., None]
        side = (to_x - x) * (centers[:, 1] - y) - (centers[:, 0] - x) * (to_y - y)
        winding += ((y <= centers[:, 1]) & (to_y > centers[:, 1]) & (side > 0)).sum(0)
        winding -= ((y > centers[:, 1]) & (to_y <= centers[:, 1]) & (side < 0)).sum(0)
    np.testing.assert_array_equal(union.reshape(mask.shape), mask)
    np.testing.assert_array_equal((winding != 0).reshape(mask.shape), mask)


def test_an_outline_has_no_needless_points_and_is_where_the_pixels_end() -> None:
    mask = np.zeros((8, 12), bool)
    mask[2:6, 3:10] = True
    (points,) = outlines(mask)
    assert len(points) == 8  # a rectangle without its very corners
    np.testing.assert_allclose([points.min(0), points.max(0)], [[2.5, 1.5], [9.5, 5.5]])
    mask[3:5, 5:7] = False
    (points,) = outlines(mask)
    assert (
        len(points) == 8 + 8 + 1 + 2 + 4
    )  # the hole, the cut's end within an edge, both ends again, and its four bends


def test_a_mask_full_of_holes_takes_no_longer_than_its_points() -> None:
    mask = np.random.default_rng(0).random((400, 400)) < 0.75
    began = time.process_time()
    polygons = outlines(mask)
    assert time.process_time() - began < 10  # 0.3 s; asking each hole for the nearest point takes minutes
    np.testing.assert_array_equal(inside(polygons, mask.shape[::-1]), mask)
