"""Grids that are not rectangular (a tilted gantry): told from rectangular ones, and resampled onto such."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Headers keep few digits. A grid whose corners move by less than this part of a voxel when its axes are made exactly
# perpendicular is rectangular for every purpose here; it is also what Geometry.difference takes for the same grid.
TOLERANCE = 0.05

SMALLEST_VOXEL, LARGEST_VOXEL = 1e-3, 100.0
"""mm along an axis."""
FARTHEST = 1e6
"""mm from the origin of the patient's space."""

MOST_GROWTH = 4
"""How many times the voxels of a sheared grid the rectangular one around it may have."""


def geometry_of_affine(affine_ras: NDArray[np.float64], size: tuple[int, int, int], path: Path) -> Geometry:
    """The grid of a 4x4 index -> RAS mm affine, its axes made exactly perpendicular within ``TOLERANCE``.

    Raises:
        DinomixError: the grid is sheared, or an axis has no length.
    """
    check_usable(affine_ras, path)
    if is_sheared(affine_ras, size):
        raise DinomixError(
            f"{path} is not on a rectangular grid: its axes are sheared, as after a tilt of the CT gantry.",
            "Resample it onto a rectangular grid first, for example with Resample Image (BRAINS) in 3D Slicer.",
        )
    affine = TO_LPS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Geometry(
        size=size,
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin=(float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])),
        direction=_perpendicular(affine[:3, :3] / spacing),
    )


def tilted_geometry(affine_ras: NDArray[np.float64], size: tuple[int, int, int]) -> Geometry:
    """The grid of an affine as it is: its directions are not perpendicular where it is sheared.

    No volume may lie on such a grid. It says where the voxels of a tilted series lie, for what refers to its slices.
    """
    affine = TO_LPS @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    (width, height, step), (x, y, z) = spacing.tolist(), affine[:3, 3].tolist()
    return Geometry(size, (width, height, step), (x, y, z), affine[:3, :3] / spacing)


def check_usable(affine: NDArray[np.float64], path: Path) -> None:
    """Raises DinomixError when an affine holds NaN, maps the voxels onto a plane, or has voxels of no scanner."""
    with np.errstate(all="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        flat = abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3
    if not np.isfinite(affine).all() or spacing.min() <= 0 or flat or np.abs(affine[:3, 3]).max() > FARTHEST:
        raise DinomixError(f"{path} says nothing usable about voxel sizes and directions.", "Export it again.")
    if spacing.min() < SMALLEST_VOXEL or spacing.max() > LARGEST_VOXEL:
        raise DinomixError(
            "{} has voxels of {:.4g} x {:.4g} x {:.4g} mm, which no scanner makes.".format(path, *spacing),
            "Export it again, with the size of its voxels in millimeters.",
        )


def is_sheared(affine: NDArray[np.float64], size: tuple[int, int, int]) -> bool:
    """Whether making the axes perpendicular moves some corner of the grid by more than ``TOLERANCE`` of a voxel."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    change = (_perpendicular(direction) - direction) * spacing * (np.array(size) - 1)
    # A corner uses each axis or not; the farthest it can move is bounded by the sum over the axes.
    return bool(np.abs(change).sum(axis=1).max() > TOLERANCE * spacing.min())


def resampled(
    array: NDArray[np.float32], affine_ras: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Resample an image from a sheared grid onto the smallest rectangular one around it.

    The new grid keeps the direction of i, turns j and k as little as perpendicularity asks (Gram-Schmidt), and keeps
    the distances between rows and between slices. Linear interpolation; outside is the image's minimum.

    Args:
        array: (k, j, i).
        affine_ras: 4x4, index (i, j, k) -> RAS mm, of ``array``.

    Returns:
        The new array (k, j, i) and its affine, 4x4, RAS mm.

    Raises:
        DinomixError: the axes are so far from perpendicular that the rectangular grid would be huge.
    """
    from scipy.ndimage import affine_transform

    q, r = np.linalg.qr(affine_ras[:3, :3])
    q, spacing = q * np.sign(np.diag(r)), np.abs(np.diag(r))
    size = np.array(array.shape[::-1])
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (size - 1)
    steps = (corners @ affine_ras[:3, :3].T) @ q / spacing
    low, high = np.floor(steps.min(axis=0) + 1e-6), np.ceil(steps.max(axis=0) - 1e-6)
    new = np.eye(4)
    new[:3, :3] = q * spacing
    new[:3, 3] = affine_ras[:3, 3] + new[:3, :3] @ low
    back = np.linalg.inv(affine_ras) @ new
    new_size = tuple(int(n) for n in (high - low + 1)[::-1])
    if math.prod(new_size) > max(MOST_GROWTH * array.size, 2**20):
        raise DinomixError(
            "The axes of the image are too far from perpendicular.", "Resample it onto a rectangular grid first."
        )
    # affine_transform maps output to input indices in array order, which is (k, j, i).
    out = affine_transform(
        array,
        back[:3, :3][::-1, ::-1],
        back[:3, 3][::-1],
        output_shape=new_size,
        order=1,
        mode="grid-constant",  # "constant" would lose voxels of the border that rounding has moved out by 1e-16
        cval=float(array.min()),
    )
    return out, new


def labels_at(
    labels: NDArray[np.generic],
    affine_ras: NDArray[np.float64],
    wanted_ras: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.generic]:
    """The nearest label at each voxel of another grid; 0 outside.

    Args:
        labels: (k, j, i).
        affine_ras: 4x4, index (i, j, k, 1) of ``labels`` -> RAS mm.
        wanted_ras: the same of the wanted grid.
        shape: (k, j, i) of the wanted grid.
    """
    from scipy.ndimage import affine_transform

    to_labels = np.linalg.inv(affine_ras) @ wanted_ras
    # affine_transform maps output to input indices in array order, which is (k, j, i). "constant" would take a voxel of the
    # border that rounding has moved out by 1e-16 for outside.
    result: NDArray[np.generic] = affine_transform(
        labels, to_labels[:3, :3][::-1, ::-1], to_labels[:3, 3][::-1], output_shape=shape, order=0, mode="grid-constant"
    )
    return result


def _perpendicular(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal matrix nearest to ``direction`` (polar decomposition); ``direction`` itself when it is one."""
    if np.abs(direction.T @ direction - np.eye(3)).max() < 1e-6:
        return direction
    u, _, vt = np.linalg.svd(direction)
    return np.asarray(u @ vt)
