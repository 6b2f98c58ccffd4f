"""RT structure sets (RTSTRUCT): contours around structures, put on the voxels of the image that they were drawn on.

A voxel belongs to a structure where its center lies inside. Of several contours in one slice, what is inside an odd number of
them belongs (XOR), so that a contour within another one is a hole, and a contour that runs through a keyhole to its hole leaves
it free. A center exactly on a contour belongs where the structure is on the side of higher indices, so that neighbors along a
line share no voxel.

Contours are polygons; how they are stored is in DICOM PS3.3, C.8.8.6 (ROI Contour Module).
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import ACROSS, ON_ITS_IMAGE, distinct, outside_of_image
from dinomix.images.lattice import enlarged
from dinomix.images.overlaps import LabelMap
from dinomix.images.volume import Geometry, Volume
from dinomix.names import listed

if TYPE_CHECKING:
    from pydicom import Dataset

_AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Kinds of contours that have an inside; points and open lines have none."""
_DIGITS = 5
"""Of a point's place in voxels. Files keep few digits, so that a line through centers would belong here and there."""
_CONTOUR_DATA = 0x30060050
Contours = list[NDArray[np.float64]]


def read_structures(
    dataset: "Dataset", like: Geometry | None, order: Sequence[str], path: Path
) -> tuple[Volume, dict[int, str]]:
    """The label map of a structure set.

    Args:
        dataset: the structure set, from ``dicom_drawn.opened``.
        like: the image's grid; a structure set has no voxels of its own.
        order: names of structures; where some overlap, the later one wins.

    Returns:
        A uint8 or uint16 volume on ``like``, array (k, j, i), and number -> name: ROI numbers where they can be voxel values,
        else counted from 1. Structures without a closed contour are left out, unless nothing at all is drawn, as where a program
        has found none of its structures.

    Raises:
        DinomixError: no grid is given; no closed contour; contours that lie between the image's slices, cross them, or lie
            outside of the image.
        OverlapError: structures overlap, and ``order`` does not settle it.
    """
    if like is None:
        raise DinomixError(
            f"{path} holds contours (RTSTRUCT), which have no voxels of their own.",
            "Give it as a label of the image that it was drawn on, or save it as .seg.nrrd from 3D Slicer.",
        )
    contours, passed_over, names_of_all = _contours_of(dataset)
    if not contours and not passed_over:
        contours = {roi: [] for roi in names_of_all.items()}
    if not contours:
        raise DinomixError(f"{path} holds no closed contour of a structure.", "Draw the structures in it first.")
    if not all(0 < number < 65536 for number, _ in contours):
        contours = {(number, name): drawn for number, ((_, name), drawn) in enumerate(contours.items(), 1)}
    names = distinct(contours, path)
    label = LabelMap(like.size[::-1], names, order, path)
    notices = [f"Points and open lines were passed over ({listed(passed_over)})."] if passed_over else []
    for (number, _), drawn in contours.items():
        if drawn:
            notices += _add(label, like, names[number], number, drawn, path)
    overlaps = label.settled()
    return Volume(label.array, like, (*notices, *label.notices()), overlaps), names


def reaching_grid(dataset: "Dataset", like: Geometry) -> Geometry:
    """``like``, enlarged on its own lattice where contours of a structure set reach beyond it."""
    contours, _, _ = _contours_of(dataset)
    if not contours:
        return like
    points = np.concatenate([_in_voxels(points, like) for drawn in contours.values() for points in drawn])
    return enlarged(like, points.min(axis=0), points.max(axis=0) + 1)


def _contours_of(dataset: "Dataset") -> tuple[dict[tuple[int, str], Contours], list[str], dict[int, str]]:
    """(ROI number, name) -> contours, (n, 3) points in mm, LPS; the names of what has no inside; and number -> name of all."""
    names = {
        int(roi.ROINumber): str(roi.get("ROIName") or "").strip() or f"ROI {roi.ROINumber}"
        for roi in dataset.StructureSetROISequence
    }
    contours: dict[tuple[int, str], Contours] = {}
    passed_over: list[str] = []
    for roi in dataset.get("ROIContourSequence", []):
        number = int(roi.ReferencedROINumber)
        kinds = [(str(item.ContourGeometricType), item) for item in roi.get("ContourSequence", [])]
        points = [_points(item) for kind, item in kinds if kind in _AREAS]
        areas = [contour for contour in points if len(contour) > 2]
        if areas:
            contours[number, names[number]] = areas
        elif kinds:
            passed_over.append(names[number])
    return contours, passed_over, names


def _points(contour: "Dataset") -> NDArray[np.float64]:
    """(n, 3); from the text of the file, since pydicom makes an object of every number."""
    value = contour.get_item(_CONTOUR_DATA).value
    numbers = value.split(b"\\") if isinstance(value, bytes) else list(value)
    points = np.array(numbers, float).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError("a contour with points that are no numbers")
    return points


def _add(label: LabelMap, geometry: Geometry, name: str, number: int, contours: Contours, path: Path) -> list[str]:
    """Draw a structure into a label map; what there is to tell of it."""
    in_voxels: Contours = [_in_voxels(points, geometry) for points in contours]
    across = _axis_across(in_voxels, f'{path} has contours of "{name}"')
    along, down = (axis for axis in range(3) if axis != across)
    slices: dict[int, dict[bytes, NDArray[np.float64]]] = defaultdict(dict)
    for points in in_voxels:
        polygon = np.ascontiguousarray(points[:, [along, down]])
        # A contour that is stored twice would cancel itself.
        slices[round(float(points[:, across].mean()))][polygon.tobytes()] = polygon
    if beyond := [at for at in slices if not 0 <= at < geometry.size[across]]:
        raise outside_of_image(path, f'contours of "{name}" in {len(beyond)} slices')
    size = np.array([geometry.size[along], geometry.size[down]])
    order = [(across, down, along).index(axis) for axis in (2, 1, 0)]
    voxels = cut_off = 0
    for at, polygons in sorted(slices.items()):
        points = np.concatenate(list(polygons.values()))
        cut_off += bool((points < -1).any() or (points > size).any())
        low, high = (np.clip(end, 0, size).astype(int) for end in (np.floor(points.min(0)), np.ceil(points.max(0)) + 1))
        mask = inside([polygon - low for polygon in polygons.values()], tuple(high - low))
        voxels += int(np.count_nonzero(mask))
        box = {across: slice(at, at + 1), along: slice(low[0], high[0]), down: slice(low[1], high[1])}
        label.add(number, mask[None].transpose(order), (box[2], box[1], box[0]))
    told = []
    if not voxels:
        told.append(f'No voxel of the image has its center inside the contours of "{name}".')
    if missing := max(slices) - min(slices) + 1 - len(slices):
        told.append(
            f'"{name}" has no contour in {missing} slices between its first and its last one; there it is empty.'
        )
    if cut_off:
        told.append(f'Contours of "{name}" reach beyond the image in {cut_off} slices and were cut off there.')
    return told


def _in_voxels(points: NDArray[np.float64], grid: Geometry) -> NDArray[np.float64]:
    """(n, 3), mm, LPS -> voxels (i, j, k) of a grid."""
    to_index = np.linalg.inv(grid.direction * grid.spacing)
    return np.asarray(((points - grid.origin) @ to_index.T).round(_DIGITS))


def _axis_across(contours: Contours, whose: str) -> int:
    """The image's axis on whose slices all contours lie. Raises DinomixError when there is none."""
    spread = np.array([np.ptp(points, axis=0) for points in contours])
    across = int(spread.max(axis=0).argmin())
    if spread[:, across].max() > ACROSS:
        raise DinomixError(f"{whose} that do not lie in its image's slices but cross them.", ON_ITS_IMAGE)
    places = np.array([points[:, across].mean() for points in contours])
    off = np.abs(places - np.rint(places)).max()
    if off > ACROSS:
        raise DinomixError(
            f"{whose} that lie between its image's slices, by up to {off:.2g} of their distance.", ON_ITS_IMAGE
        )
    return across


def inside(polygons: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which centers of pixels lie inside an odd number of polygons.

    Each row of pixels is crossed by the polygons' edges; from each crossing on, to the end of the row, inside and outside change
    places. Twenty to thirty times as fast as asking for each center (matplotlib's ``Path.contains_points``), which is its test's
    oracle.

    Args:
        polygons: (n, 2) each, points (x, y) in pixels; the center of the first pixel is (0, 0). The last point is joined to the
            first.
        size: pixels along (x, y).

    Returns:
        (y, x).
    """
    width, height = size
    changes = np.zeros((height, width + 1), bool)
    for points in polygons:
        ends = np.stack([points, np.roll(points, -1, axis=0)])
        # Lower end first, so that an edge that is gone along twice is crossed at exactly the same place.
        ends = np.take_along_axis(ends, ends[:, :, 1].argsort(axis=0, kind="stable")[:, :, None], axis=0)
        (x, y), (to_x, to_y) = ends[0].T, ends[1].T
        first, end = (np.clip(np.ceil(row), 0, height).astype(int) for row in (y, to_y))
        counts = end - first
        edge = np.repeat(np.arange(len(points)), counts)
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        crossing = x[edge] + (rows - y[edge]) * ((to_x - x)[edge] / (to_y - y)[edge])
        columns = np.clip(np.ceil(crossing), 0, width).astype(int)
        np.logical_xor.at(changes, (rows, columns), True)
    return np.logical_xor.accumulate(changes, axis=1)[:, :width]
