"""DICOM segmentations (SEG): frames in any order, empty ones left out, put on one grid of voxels.

How frames lie and which segment they are of is in DICOM PS3.3, A.51 and C.8.20 (Segmentation IOD and Image Module); pydicom
reads the file and unpacks its pixels. Binary and fractional segmentations have a frame for each segment and slice, label maps
one for each slice.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.dicom_drawn import ACROSS, ON_ITS_IMAGE, distinct, outside_of_image
from dinomix.images.lattice import SAME_PLACE
from dinomix.images.overlaps import Box, LabelMap
from dinomix.images.shear import TO_LPS, geometry_of_affine
from dinomix.images.stored import DAMAGED, check_memory
from dinomix.images.volume import Geometry, Volume

if TYPE_CHECKING:
    from pydicom import Dataset

HALF = 0.5
"""From this part of a fractional segmentation's largest value on, a voxel belongs to the segment."""
_UNPACKED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"}
"""Pixels as they are, the whole file deflated, and run lengths. What a damaged JPEG makes of a decoder is not tried here."""


@dataclass(frozen=True)
class _Frames:
    """Where the frames lie, and of which segments they are.

    Attributes:
        corners: (n, 3), position of each frame's first pixel, mm, LPS.
        steps: (n, 3, 2), the way from a pixel to the next along a row (columns of the image) and along a column, mm, LPS.
        segments: (n,), the numbers of the segments; 0 in a label map, whose pixels say it.
        size: pixels along (rows, columns) of the array of a frame.
        between: mm between slices, as the file says; None where it does not.
    """

    corners: NDArray[np.float64]
    steps: NDArray[np.float64]
    segments: NDArray[np.intp]
    size: tuple[int, int]
    between: float | None


@dataclass(frozen=True)
class _Place:
    """Where a frame lies in a label map.

    Attributes:
        box: (k, j, i), the part of the label map.
        turn: of the frame's (row, column), so that both run as the label map's axes do.
        cut: of the turned frame's (slice, row, column), what lies in the box.
        order: which of these (k, j, i) are.
    """

    box: Box
    turn: tuple[slice, slice]
    cut: tuple[slice, slice, slice]
    order: tuple[int, ...]

    def of(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A frame's (row, column) as (k, j, i) of the box."""
        return mask[self.turn][None][self.cut].transpose(self.order)


def read_segmentation(
    dataset: "Dataset", like: Geometry | None, order: Sequence[str], path: Path
) -> tuple[Volume, dict[int, str]]:
    """The label map of a segmentation.

    Args:
        dataset: the segmentation, from ``dicom_drawn.opened``.
        like: the image's grid; None for the segmentation's own, the smallest that holds all its frames.
        order: names of segments; where some overlap, the later one wins.

    Returns:
        A uint8 or uint16 volume, array (k, j, i), and number -> name.

    Raises:
        DinomixError: frames that do not lie on the voxels of ``like``, or with something drawn outside of it; frames that make no
            grid; compressed pixels.
        OverlapError: segments overlap, and ``order`` does not settle it.
    """
    names = _names_of(dataset, path)
    frames = _frames_of(dataset, path)
    geometry = like if like is not None else _own_geometry(frames, path)
    check_memory(2 * math.prod(geometry.size), path)
    kind, largest = str(dataset.SegmentationType), int(dataset.get("MaximumFractionalValue", 255))
    label, outside = LabelMap(geometry.size[::-1], names, order, path), 0
    for number, pixels in enumerate(_pixels(dataset, path)):
        place = _place(frames, number, geometry, path)
        if kind == "LABELMAP":
            drawn = {int(value): pixels == value for value in np.unique(pixels) if value}
        else:
            drawn = {int(frames.segments[number]): pixels >= HALF * largest if kind == "FRACTIONAL" else pixels != 0}
        for value, mask in drawn.items():
            if value not in names:
                raise DinomixError(f"{path} is damaged: it describes no segment of the number {value}.", DAMAGED)
            inside = place.of(mask)
            outside += int(np.count_nonzero(mask)) - int(np.count_nonzero(inside))
            label.add(value, inside, place.box)
    if outside:
        raise outside_of_image(path, f"{outside} labeled voxels")
    overlaps = label.settled()
    half = f"Of the fractional segmentation, voxels of at least half ({HALF * largest:g} of {largest}) were taken."
    notices = (half,) if kind == "FRACTIONAL" else ()
    return Volume(label.array, geometry, (*notices, *label.notices()), overlaps), names


def own_grid(dataset: "Dataset", path: Path) -> Geometry:
    """The smallest grid that holds all frames of a segmentation. Raises DinomixError where they make none."""
    return _own_geometry(_frames_of(dataset, path), path)


def _names_of(dataset: "Dataset", path: Path) -> dict[int, str]:
    """The segments' numbers and names; without a label map's background, number 0."""
    segments = [
        (int(item.SegmentNumber), str(item.get("SegmentLabel") or "").strip()) for item in dataset.SegmentSequence
    ]
    names = distinct([(number, name or f"segment {number}") for number, name in segments if number != 0], path)
    if not names:
        raise DinomixError(f"{path} describes no segment.", "Segment something in it first.")
    return names


def _frames_of(dataset: "Dataset", path: Path) -> _Frames:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    frames = dataset.PerFrameFunctionalGroupsSequence
    count = int(dataset.get("NumberOfFrames") or 1)
    if count != len(frames):
        raise DinomixError(
            f"{path} is damaged: it has {count} frames and says where {len(frames)} of them lie.", DAMAGED
        )

    def group(frame: "Dataset", name: str) -> Any:
        return frame[name][0] if name in frame else shared[name][0]

    first = group(frames[0], "PixelMeasuresSequence")
    between = first.get("SpacingBetweenSlices") or first.get("SliceThickness")
    is_label_map = dataset.SegmentationType == "LABELMAP"
    segments = [
        0 if is_label_map else int(group(f, "SegmentIdentificationSequence").ReferencedSegmentNumber) for f in frames
    ]
    try:
        corners = [group(frame, "PlanePositionSequence").ImagePositionPatient for frame in frames]
        turns = [group(frame, "PlaneOrientationSequence").ImageOrientationPatient for frame in frames]
    except (KeyError, AttributeError) as error:
        raise DinomixError(f"{path} does not say where its frames lie in the patient.", ON_ITS_IMAGE) from error
    directions = np.array(turns, float).reshape(count, 2, 3).transpose(0, 2, 1)
    spacings = np.array([group(frame, "PixelMeasuresSequence").PixelSpacing for frame in frames], float)
    return _Frames(
        corners=np.array(corners, float).reshape(count, 3),
        # DICOM gives the distance of rows, which is along a column, first.
        steps=directions * spacings[:, None, ::-1],
        segments=np.array(segments),
        size=(int(dataset.Columns), int(dataset.Rows)),
        between=float(between) if between else None,
    )


def _own_geometry(frames: _Frames, path: Path) -> Geometry:
    """The smallest grid that holds all frames; slices that are not stored, between others, are in it."""
    refused = DinomixError(f"{path} has frames that make no regular grid of voxels.", ON_ITS_IMAGE)
    steps = frames.steps[0]
    spacing = np.linalg.norm(steps, axis=0)
    if np.abs(frames.steps - steps).max() > SAME_PLACE * spacing.min() / max(frames.size):
        raise refused
    normal = np.cross(steps[:, 0], steps[:, 1]) / spacing.prod()
    depths = frames.corners @ normal
    order = np.argsort(depths)
    gaps = np.diff(depths[order])
    between = [frames.between] if frames.between else []
    between += [float(gaps[gaps > 1e-3].min())] if (gaps > 1e-3).any() else []
    for step in between:
        index = (depths - depths.min()) / step
        off = frames.corners - frames.corners[order[0]] - np.rint(index)[:, None] * step * normal
        across = np.abs(off @ normal).max()
        along = np.abs(off - np.outer(off @ normal, normal)).max()
        if across <= ACROSS * step and along <= SAME_PLACE * spacing.min():
            affine = np.eye(4)
            affine[:3, :2], affine[:3, 2], affine[:3, 3] = steps, normal * step, frames.corners[order[0]]
            return geometry_of_affine(TO_LPS @ affine, (*frames.size, int(np.rint(index.max())) + 1), path)
    raise refused


def _pixels(dataset: "Dataset", path: Path) -> Iterator[NDArray[np.integer]]:
    """The frames one after another, (row, column)."""
    from pydicom.pixels import iter_pixels, unpack_bits

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _UNPACKED:
        raise DinomixError(
            f"{path} is a segmentation whose pixels are stored as {syntax.name}, which is not read here.",
            "Store it without compression, for example with GDCM or DCMTK, or save it as .seg.nrrd from 3D Slicer.",
        )
    if dataset.BitsAllocated > 1:
        yield from iter_pixels(dataset)
        return
    # pydicom unpacks single bits all at once, a byte each, or frames that begin with a byte.
    shape, bits = (dataset.Rows, dataset.Columns), dataset.Rows * dataset.Columns
    for start in range(0, int(dataset.get("NumberOfFrames") or 1) * bits, bits):
        unpacked = unpack_bits(dataset.PixelData[start // 8 : (start + bits + 7) // 8], as_array=True)
        yield unpacked[start % 8 : start % 8 + bits].reshape(shape)


def _place(frames: _Frames, number: int, geometry: Geometry, path: Path) -> _Place:
    """Where a frame lies in a label map. Raises DinomixError when its pixels do not lie on the grid's voxels."""
    to_index = np.linalg.inv(geometry.direction * geometry.spacing)
    turn = to_index @ frames.steps[number]
    first = to_index @ (frames.corners[number] - geometry.origin)
    along, down = (int(axis) for axis in np.abs(turn).argmax(axis=0))
    across = 3 - along - down
    signs = np.rint(turn).sum(axis=0).astype(int)
    exact = np.zeros((3, 2))
    exact[[along, down], [0, 1]] = signs
    off = np.abs(first - np.rint(first)) > np.where(np.arange(3) == across, ACROSS, SAME_PLACE)
    moved = np.abs(turn - exact) @ (np.array(frames.size) - 1) > SAME_PLACE
    if along == down or (np.abs(signs) != 1).any() or off.any() or moved.any():
        width, height = np.linalg.norm(frames.steps[number], axis=0)
        raise DinomixError(
            f"{path} does not lie on its image's voxels: frame {number + 1}, of {frames.size[0]} x {frames.size[1]} pixels of "
            f"{width:.4g} x {height:.4g} mm, lies beside them or is turned against them.",
            ON_ITS_IMAGE,
        )
    box, cut = [slice(0, 0)] * 3, {}
    for axis, sign, length in ((across, 1, 1), (down, signs[1], frames.size[1]), (along, signs[0], frames.size[0])):
        start = int(np.rint(first[axis])) - (length - 1 if sign < 0 else 0)
        low, high = np.clip([start, start + length], 0, geometry.size[axis]).tolist()
        box[axis], cut[axis] = slice(low, high), slice(low - start, high - start)
    return _Place(
        box=(box[2], box[1], box[0]),
        turn=(slice(None, None, int(signs[1])), slice(None, None, int(signs[0]))),
        cut=(cut[across], cut[down], cut[along]),
        order=tuple((across, down, along).index(axis) for axis in (2, 1, 0)),
    )
