"""The outlines of a mask as polygons, half-way between pixels inside and outside; holes are joined to what is around them."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BESIDE = (0.3, 0.2)
"""Pixels (x, y) by which a cut keeps away from its ends and from the centers in its row: whose a center on a line is, is open."""


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Polygons whose insides hold the centers of a mask's pixels and no others.

    Each connected part is one polygon. A hole is cut open to its left, there and back along one line, as DICOM's closed planar
    contours want it (PS3.3, C.8.8.6.3): read by any rule of filling, the hole stays.

    Args:
        mask: (y, x).

    Returns:
        (n, 2) each, points (x, y) in pixels; the center of the first pixel is (0, 0). The last point is not the first again.
    """
    from contourpy import FillType, contour_generator

    padded = np.pad(mask, 1)
    generator: Any = contour_generator(z=padded.astype(np.float64), fill_type=FillType.OuterOffset)
    found = []
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        # The last point of each loop is its first again.
        loops = [points[start : end - 1] for start, end in pairwise(offsets)]
        found.append((_joined(loops, padded) if len(loops) > 1 else _without_straight(loops[0])) - 1)
    return found


def _joined(loops: list[NDArray[np.float64]], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One polygon of an outer loop and its holes.

    Each hole is cut open from its leftmost point along a row of the mask, up to the first border there: that of a loop that lies
    farther to the left and so, from left to right, is joined already. Loops are rings of points that know the next one.
    """
    points: list[tuple[float, float]] = [(x, y) for loop in loops for x, y in loop.tolist()]
    starts = np.cumsum([0, *map(len, loops)]).tolist()
    following = [*range(1, len(points) + 1)]
    for start, end in pairwise(starts):
        following[end - 1] = start
    place = {point: number for number, point in enumerate(points)}
    of_cuts: set[int] = set()
    leftmost = [start + int(loop[:, 0].argmin()) for start, loop in zip(starts[1:], loops[1:], strict=False)]
    for number, here in sorted(enumerate(leftmost, 1), key=lambda hole: points[hole[1]]):
        x, y = points[here]
        left = int(np.flatnonzero(~mask[int(y), : int(x)])[-1]) + 0.5
        there = place[left, y]
        last = here - 1 if here > starts[number] else starts[number + 1] - 1
        cut = [(left + BESIDE[0], y + BESIDE[1]), (x - BESIDE[0], y + BESIDE[1])]
        new = len(points)
        points += [*cut, points[here], *reversed(cut), points[there]]
        following += [new + 1, here, new + 3, new + 4, new + 5, following[there]]
        following[there], following[last] = new, new + 2
        of_cuts |= {here, there, *range(new, new + 6)}
    order, at = [0], following[0]
    while at != 0:
        order.append(at)
        at = following[at]
    # The ends of a cut stay, so that the way back is the way there.
    return _without_straight(np.array(points)[order], np.isin(order, list(of_cuts)))


def _without_straight(points: NDArray[np.float64], kept: NDArray[np.bool_] | bool = False) -> NDArray[np.float64]:
    """A polygon without the points within its straight lines, but for those to keep."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return points[turns | kept]
