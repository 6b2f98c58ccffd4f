"""Shapes given by a function that is negative inside, roughly the distance to the surface in mm."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.distance import cdist

Points = NDArray[np.float32]
"""(N, 3): x to the patient's left, y to the back, z to the head, mm."""
Distances = NDArray[np.float32]
Shape = Callable[[Points], Distances]
FAR = np.float32(1e3)


def ellipsoid(center: Sequence[float], radii: Sequence[float], turn: Sequence[float] = (0, 0, 0)) -> Shape:
    """``turn`` in degrees about x, y, z."""
    rotation = rotation_matrix(turn).astype(np.float32)
    middle, radius = np.array(center, np.float32), np.array(radii, np.float32)

    def distances(points: Points) -> Distances:
        local = (points - middle) @ (rotation / radius)
        return (np.sqrt(np.einsum("na,na->n", local, local)) - 1) * radius.min()

    return distances


def tube(path: Sequence[Sequence[float]], radii: Sequence[float], flatten: float = 1.0) -> Shape:
    """A tube along a smooth curve through ``path`` with radii that change smoothly.

    Args:
        path: points (x, y, z) that the curve passes through.
        radii: one for each point of ``path``.
        flatten: height over width; below 1 the tube is flattened from front to back.
    """
    knots = np.arange(len(path))
    fine = np.linspace(0, len(path) - 1, 14 * (len(path) - 1) + 1)
    curve = CubicSpline(knots, np.array(path, float))(fine).astype(np.float32)
    radius = np.interp(fine, knots, radii).astype(np.float32)
    squeeze = np.array([1, 1 / flatten, 1], np.float32)

    def distances(points: Points) -> Distances:
        result = np.full(len(points), FAR)
        margin = radius.max() + 12
        low, high = curve.min(axis=0) - margin, curve.max(axis=0) + margin
        within = (points > low) & (points < high)
        near = np.flatnonzero(within[:, 0] & within[:, 1] & within[:, 2])
        if len(near):
            result[near] = (cdist(points[near] * squeeze, curve * squeeze) - radius).min(axis=1)
        return result

    return distances


def sheet(outline: Sequence[Sequence[float]], bottom: float, top: float, thickness: float, lean: float = 0.0) -> Shape:
    """A thin upright sheet over a broken line, as the limbs of an adrenal gland are.

    Args:
        outline: points (x, y) of the line in the axial plane.
        bottom, top: z where the sheet ends.
        thickness: of the sheet.
        lean: how far y moves to the back for each mm of z.
    """
    line = np.array(outline, np.float32)

    def distances(points: Points) -> Distances:
        z = points[:, 2]
        flat = points[:, :2] - np.stack([np.zeros_like(z), np.float32(lean) * (z - np.float32(bottom))], axis=1)
        best = np.full(len(points), FAR)
        for start, end in pairwise(line):
            along = end - start
            position = np.clip((flat - start) @ along / (along @ along), 0, 1)
            np.minimum(best, np.linalg.norm(flat - start - position[:, None] * along, axis=1), out=best)
        return np.maximum(best - thickness / 2, np.abs(z - (bottom + top) / 2) - (top - bottom) / 2)

    return distances


def union(*shapes: Shape, blend: float = 0.0) -> Shape:
    """All points of any shape; ``blend`` mm round off the creases between them."""

    def distances(points: Points) -> Distances:
        result = shapes[0](points)
        for shape in shapes[1:]:
            other = shape(points)
            rounded = np.maximum(blend - np.abs(result - other), 0) ** 2 / (4 * blend) if blend else 0
            result = np.minimum(result, other) - rounded
        return result

    return distances


def without(shape: Shape, *others: Shape, gap: float = 0.0) -> Shape:
    """``shape`` less the others, which it keeps ``gap`` mm away from."""

    def distances(points: Points) -> Distances:
        result = shape(points)
        for other in others:
            result = np.maximum(result, gap - other(points))
        return result

    return distances


def moved(shape: Shape, center: Sequence[float], shift: Sequence[float], scale: float, turn: Sequence[float]) -> Shape:
    """``shape`` shifted (mm), scaled and turned (degrees) about ``center``."""
    middle, rotation = np.array(center, np.float32), rotation_matrix(turn).astype(np.float32)
    offset = np.array(shift, np.float32)

    def distances(points: Points) -> Distances:
        local = ((points - middle - offset) @ rotation / np.float32(scale) + middle).astype(np.float32)
        return shape(local) * np.float32(scale)

    return distances


def rotation_matrix(degrees: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns about x, then y, then z."""
    a, b, c = np.deg2rad(np.asarray(degrees, dtype=float))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
