"""Random fields that vary smoothly over space: what makes one body differ from another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]


def smooth_field(shape: Sequence[int], spacing: Sequence[float], distance: float, rng: np.random.Generator) -> Field:
    """A random scalar field with standard deviation 1 over its knots and no structure finer than ``distance``.

    Args:
        shape: voxels along the axes of the result.
        spacing: mm along the same axes.
        distance: mm between the knots of the cubic spline.
    """
    knots = [max(int(np.ceil(n * mm / distance)), 1) + 4 for n, mm in zip(shape, spacing, strict=True)]
    lattice = rng.standard_normal(knots).astype(np.float32)
    along_k, along_j, along_i = (
        _interpolation(knot_count, 1.5 + np.arange(n) * mm / distance)
        for knot_count, n, mm in zip(knots, shape, spacing, strict=True)
    )
    return np.einsum("ck,bj,ai,kji->cba", along_k, along_j, along_i, lattice, optimize=True).astype(np.float32)


def _interpolation(knots: int, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """(positions, knots): what each knot contributes to the cubic spline at each position."""
    return np.stack([
        ndimage.map_coordinates(unit, positions[None], order=3, mode="nearest") for unit in np.eye(knots)
    ], axis=1)  # fmt: skip


def smooth_displacement(
    shape: Sequence[int], spacing: Sequence[float], scales: Sequence[tuple[float, float]], rng: np.random.Generator
) -> Field:
    """A random displacement without folds.

    Args:
        shape: voxels along (k, j, i).
        spacing: mm along (k, j, i).
        scales: (distance between knots, standard deviation), both in mm, for each size of change.

    Returns:
        (3, k, j, i) mm. Where it would fold space, all of it is made smaller until no volume shrinks to less than a
        quarter.
    """
    field = np.stack([
        sum(sigma * smooth_field(shape, spacing, distance, rng) for distance, sigma in scales) for _ in range(3)
    ]).astype(np.float32)  # fmt: skip
    while volume_change(field, spacing).min() < 0.25:
        field *= np.float32(0.9)
    return field


def volume_change(displacement: Field, spacing: Sequence[float]) -> Field:
    """Jacobian determinant of x -> x + displacement, (k, j, i).

    Args:
        displacement: (3, k, j, i) mm.
        spacing: mm along (k, j, i).
    """
    rows = [[np.gradient(displacement[c], spacing[a], axis=a) + (a == c) for a in range(3)] for c in range(3)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
