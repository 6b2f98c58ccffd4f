"""How thick a structure is: what a grid must resolve to show it.

A ball of the same volume says little of that: an adrenal gland has the volume of a ball of 20 mm and is 5 mm thick.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, maximum_filter

from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.images.volume import thick_axis

MOST_VOXELS = 2**18
"""A structure whose box has more is measured on every second or third voxel; it is seldom the thin one."""


def thicknesses(labels: NDArray[np.generic], spacing: Sequence[float]) -> dict[int, float]:
    """mm, for each value of a label map but 0; see ``thickness``.

    Args:
        labels: unsigned integers.
        spacing: mm along the axes of ``labels``.
    """
    boxes = bounding_boxes(labels)
    return {value: thickness(labels[box] == value, spacing) for value, box in boxes.items()}


def thickness(structure: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """The diameter, mm, of the largest balls inside a structure: the median, each ball by its volume.

    Across thick slices, which no grid makes coarser, it is not measured: balls are disks of a slice then.

    Args:
        structure: True inside; its box, with or without a border.
        spacing: mm along the axes of ``structure``.
    """
    coarse, lengths = _on_fewer_voxels(_without_gaps(structure), np.array(spacing, dtype=float))
    if not coarse.any():
        return round(float(lengths.min()), 2)  # thinner than what was left out, wherever it was
    # Of half a voxel's size, since the distance between voxels' centers is that to the surface then: else structures
    # of 1 and 2 voxels, and of 3 and 4, would be equally thick.
    halves = np.pad(coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2), 1)
    across = thick_axis(lengths.tolist())
    sampling = [1e6 * length if axis == across else length for axis, length in enumerate(lengths / 2)]
    radius = distance_transform_edt(halves, sampling=sampling)
    reach = [1 if axis == across else 3 for axis in range(3)]
    radii = np.sort(radius[(radius > 0) & (radius == maximum_filter(radius, reach))])
    volume = np.cumsum(radii**3)
    return round(float(2 * radii[np.searchsorted(volume, volume[-1] / 2)]), 2)


def _without_gaps(structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The structure without planes that are far from it, so that a stray voxel does not make its box a large one."""
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        near = maximum_filter(structure.any(axis=others), 3)
        structure = np.compress(near, structure, axis)
    return structure


def _on_fewer_voxels(
    structure: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The structure on a grid of at most ``MOST_VOXELS``, of which the finest axes are made coarser; and its spacing."""
    step = np.ones(3, dtype=int)
    while np.prod(-(-np.array(structure.shape) // step)) > MOST_VOXELS:
        step[np.argmin(spacing * step)] += 1
    x, y, z = step
    return structure[x // 2 :: x, y // 2 :: y, z // 2 :: z], spacing * step
