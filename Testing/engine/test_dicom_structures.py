"""RT structure sets are put on the voxels of their series: a voxel belongs where its center lies inside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from dicom_files import GRID, in_patient, write_ct, write_structures
from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import check_drawn_on
from dinomix.images.dicom_structures import inside
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Geometry

SIZE = GRID.size[::-1]


@pytest.fixture
def series(tmp_path: Path) -> list[Dataset]:
    return write_ct(tmp_path / "ct", np.random.default_rng(1).integers(-100, 100, SIZE))


def rectangle(i: tuple[float, float], j: tuple[float, float], k: float, grid: Geometry = GRID) -> np.ndarray:
    """Corners in mm of a rectangle in a slice, given in voxels."""
    return in_patient([(i[0], j[0], k), (i[1], j[0], k), (i[1], j[1], k), (i[0], j[1], k)], grid)


def refusal(path: Path, like: Geometry | None = GRID) -> str:
    with pytest.raises(DinomixError) as caught:
        read_label(path, like=like)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_center_inside_an_odd_number_of_polygons() -> None:
    """Against matplotlib, on stars that cross themselves and each other and reach beyond the pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :50]
    centers = np.stack([x.ravel(), y.ravel()], axis=1)
    for count in (1, 2, 5):
        for points in (3, 8, 40):
            polygons = [rng.uniform(-10, 60, (points, 2)) for _ in range(count)]
            if count == 1:  # matplotlib fills what a polygon goes around twice
                angle = np.sort(rng.uniform(0, 2 * np.pi, points))
                radius = rng.uniform(5, 30, points)
                polygons = [25 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)]
            expected = np.zeros(len(centers), bool)
            for polygon in polygons:
                expected ^= Polygon(polygon, closed=False).contains_points(centers)
            np.testing.assert_array_equal(inside(polygons, (50, 40)), expected.reshape(40, 50))


@pytest.mark.parametrize("grid", ["straight", "oblique"])
def test_contours_become_voxels(tmp_path: Path, oblique: Geometry, grid: str) -> None:
    """Two contours in a slice, a hole, and a structure beside it that shares an edge through centers."""
    geometry = GRID if grid == "straight" else replace(oblique, direction=oblique.direction @ np.diag([1.0, 1.0, -1.0]))
    array = np.random.default_rng(1).integers(-100, 100, geometry.size[::-1])
    slices = write_ct(tmp_path / "ct", array, geometry)
    drawn = {
        "Leber ü": [
            rectangle((0.6, 4), (1.6, 5.4), 1, geometry),
            rectangle((1.6, 2.4), (2.6, 3.4), 1, geometry),
            rectangle((6.6, 7.4), (0.6, 5.4), 1, geometry),
            rectangle((0.6, 4), (1.6, 5.4), 2, geometry),
        ],
        "spleen": [rectangle((4, 5.4), (1.6, 5.4), 1, geometry)],
    }
    path = write_structures(tmp_path / "rt.dcm", slices, drawn)
    image = read_image(tmp_path / "ct")
    expected = np.zeros(array.shape, np.uint8)
    expected[1:3, 2:6, 1:4] = 1
    expected[1, 3, 2] = 0
    expected[1, 1:6, 7] = 1
    expected[1, 2:6, 4:6] = 2
    volume, names = read_label(path, like=image.geometry)
    np.testing.assert_array_equal(volume.array, expected)
    assert names == {1: "Leber ü", 2: "spleen"}
    assert not volume.notices
    assert not volume.geometry.difference(image.geometry)
    check_drawn_on(path, [tmp_path / "ct"])


def test_a_keyhole_leaves_its_hole_free(tmp_path: Path, series: list[Dataset]) -> None:
    """One contour that goes in along a line, around the hole, and back along the same line."""
    outer = [(0.5, 0.5), (7.5, 0.5), (7.5, 5.5), (0.5, 5.5)]
    hole = [(2.7, 1.3), (2.7, 4.6), (5.3, 4.6), (5.3, 1.3)]
    line = [*outer, outer[0], *hole, hole[0]]
    path = write_structures(tmp_path / "rt.dcm", series, {"organ": [in_patient([(x, y, 2) for x, y in line])]})
    expected = np.zeros(SIZE, np.uint8)
    expected[2, 1:6, 1:8] = 1
    expected[2, 2:5, 3:6] = 0
    np.testing.assert_array_equal(read_label(path, like=GRID)[0].array, expected)


def test_contours_in_sagittal_slices(tmp_path: Path, series: list[Dataset]) -> None:
    contours = [in_patient([(i, 0.5, 0.5), (i, 4.5, 0.5), (i, 4.5, 3.5), (i, 0.5, 3.5)]) for i in (2, 3, 4)]
    path = write_structures(tmp_path / "rt.dcm", series, {"organ": contours})
    expected = np.zeros(SIZE, np.uint8)
    expected[1:4, 1:5, 2:5] = 1
    np.testing.assert_array_equal(read_label(path, like=GRID)[0].array, expected)


def test_what_is_told(tmp_path: Path, series: list[Dataset]) -> None:
    twice = rectangle((0.5, 3.5), (0.5, 3.5), 0)
    drawn = {
        "sparse": [twice, twice, rectangle((0.5, 3.5), (0.5, 3.5), 3)],
        "thin": [rectangle((5.2, 5.6), (0.5, 3.5), 1)],
        "wide": [rectangle((4.5, 20), (3.5, 5.5), 4)],
    }
    volume, names = read_label(write_structures(tmp_path / "rt.dcm", series, drawn), like=GRID)
    expected = np.zeros(SIZE, np.uint8)
    expected[[0, 3], 1:4, 1:4] = 1
    expected[4, 4:6, 5:] = 3
    np.testing.assert_array_equal(volume.array, expected)
    assert list(names.values()) == ["sparse", "thin", "wide"]
    told = " ".join(volume.notices)
    assert '"sparse" has no contour in 2 slices between' in told
    assert 'inside the contours of "thin"' in told
    assert 'of "wide" reach beyond the image in 1 slices' in told


def test_roi_numbers_that_are_no_voxel_values(tmp_path: Path, series: list[Dataset]) -> None:
    drawn = {"a": [rectangle((0.5, 2.5), (0.5, 3.5), 0)], "b": [rectangle((3.5, 5.5), (0.5, 3.5), 0)]}
    assert read_label(write_structures(tmp_path / "rt.dcm", series, drawn, first=7), like=GRID)[1] == {7: "a", 8: "b"}
    volume, names = read_label(write_structures(tmp_path / "rt.dcm", series, drawn, first=0), like=GRID)
    assert names == {1: "a", 2: "b"}
    assert (volume.array == 2).sum() == 6


def test_what_is_refused(tmp_path: Path, series: list[Dataset]) -> None:
    def refused(drawn: dict, like: Geometry | None = GRID, **more) -> str:
        return refusal(write_structures(tmp_path / "rt.dcm", series, drawn, **more), like)

    square = rectangle((0.5, 3.5), (0.5, 3.5), 1)
    between = refused({"cord": [rectangle((0.5, 3.5), (0.5, 3.5), 1.4)]})
    assert 'contours of "cord" that lie between its image\'s slices, by up to 0.4' in between
    crossing = in_patient([(0, 0, 0), (5, 0, 2), (5, 5, 4)])
    assert "cross them" in refused({"cord": [crossing]})
    assert 'contours of "cord" in 1 slices outside of its image' in refused({"cord": [rectangle((0, 3), (0, 3), 9)]})
    overlap = refused({"a": [square], "b": [rectangle((2.5, 5.5), (0.5, 3.5), 1)]})
    assert "a and b" in overlap
    assert "3 voxels" in overlap
    assert "no closed contour" in refused({"iso": [square[:1]]}, kind="POINT")
    assert "no voxels of their own" in refused({"cord": [square]}, None)
    data = pydicom.dcmread(tmp_path / "rt.dcm")
    data.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"]
    data.save_as(tmp_path / "rt.dcm")
    assert "damaged DICOM file" in refusal(tmp_path / "rt.dcm")


def test_a_structure_set_that_nobody_here_made(tmp_path: Path) -> None:
    """pydicom's own: a box of three slices 10 mm apart, and two isocenters."""
    data = pydicom.dcmread(get_testdata_file("rtstruct.dcm"), force=True)
    data.save_as(tmp_path / "rt.dcm", implicit_vr=True, little_endian=True, enforce_file_format=True)
    grid = Geometry((50, 40, 8), (10.0, 10.0, 10.0), (-245.0, -195.0, -220.0), np.eye(3))
    volume, names = read_label(tmp_path / "rt.dcm", like=grid)
    assert names == {1: "patient"}
    expected = np.zeros((8, 40, 50), np.uint8)
    expected[2:5, 5:35, 5:45] = 1  # 400 mm x 300 mm
    np.testing.assert_array_equal(volume.array, expected)
    assert any("Isocenter 1, Isocenter 2" in notice for notice in volume.notices)
    every = replace(grid, spacing=(10.0, 10.0, 5.0), size=(50, 40, 16))
    assert any("no contour in 2 slices" in notice for notice in read_label(tmp_path / "rt.dcm", like=every)[0].notices)
