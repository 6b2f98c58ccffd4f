"""What surrounds the organs of the phantom: fat, muscle, spine, ribs, lungs, heart and bowel; painted as a CT shows them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dinomix.demo.anatomy import COLON, DUODENUM, HEART, Body
from dinomix.demo.shapes import Distances, Points, ellipsoid, tube, union

AIR, LUNG, FAT, SKIN, MUSCLE, BONE, MARROW, DISC = -1000.0, -830.0, -105.0, 10.0, 58.0, 420.0, 170.0, 85.0

VERTEBRA_HEIGHT = 36.0


class Canvas:
    """An image in HU that shapes are painted on, with the soft edges that voxels of finite size give.

    Attributes:
        points: (N, 3) position of each voxel in the body, mm.
        image: (N,) HU.
    """

    def __init__(self, points: Points, spacing: float) -> None:
        self.points, self.spacing = points, np.float32(spacing)
        self.image = np.full(len(points), AIR, np.float32)

    def paint(self, distances: NDArray[np.floating], value: float | NDArray[np.float32]) -> None:
        cover = np.clip(0.5 - distances / self.spacing, 0, 1)
        self.image += cover * (value - self.image)


def paint_surroundings(canvas: Canvas, body: Body, contrast: Callable[[str], float], rng: np.random.Generator) -> None:
    """Everything but the 13 organs, from the skin inward."""
    points = canvas.points
    depth = body.depth(points)
    mm = np.float32(body.half_depth)
    canvas.paint((depth - 1) * mm, SKIN)
    canvas.paint((depth - 1) * mm + 3, FAT)
    canvas.paint((depth - (1 - body.fat)) * mm, MUSCLE)
    canvas.paint(_ribs(points, depth, body), BONE)
    canvas.paint(body.cavity(points), FAT)
    canvas.paint(body.lungs(points), LUNG)
    # The diaphragm itself, and the tissue between both lungs.
    above = np.maximum(HEART(points), body.cavity(points) + 2)
    canvas.paint(above, contrast("heart"))
    _paint_muscles(canvas)
    _paint_spine(canvas)
    _paint_bowel(canvas, body, rng)


def _ribs(points: Points, depth: Distances, body: Body) -> Distances:
    """Ribs in the wall: oblique rings that are open below the costal arch."""
    x, y, z = points.T
    fall = (z - 0.45 * y + 14) % 27
    ring = np.abs(fall - 13.5) - 5.0
    middle = 1 - body.fat - 0.45 * body.wall
    wall = np.abs(depth - middle) * body.half_depth - 4.0
    arch = 22 - 0.95 * y - z
    behind = 30 - np.abs(x)
    return np.maximum.reduce([ring, wall, arch, behind]).astype(np.float32)


def _paint_muscles(canvas: Canvas) -> None:
    points = canvas.points
    for side in (-1, 1):
        back = ellipsoid((side * 31, 78, 0), (25, 17, 900), (0, 0, side * 14))
        canvas.paint(back(points), MUSCLE)
        psoas = tube([(side * 22, 46, 30), (side * 33, 47, -20), (side * 40, 44, -80), (side * 46, 36, -150)],
                     [5, 13, 18, 20])  # fmt: skip
        canvas.paint(psoas(points), MUSCLE)
        lumborum = ellipsoid((side * 66, 66, -90), (20, 8, 80), (0, 0, side * -24))
        canvas.paint(lumborum(points), MUSCLE)


def _paint_spine(canvas: Canvas) -> None:
    points = canvas.points
    x, y, z = points.T
    level = (z + 8) % VERTEBRA_HEIGHT
    between = np.abs(level - VERTEBRA_HEIGHT / 2) - (VERTEBRA_HEIGHT / 2 - 4.5)
    column = ellipsoid((0, 55, 0), (23, 17, 2000))(points)
    canvas.paint(column, DISC)
    canvas.paint(np.maximum(column, between), BONE)
    canvas.paint(np.maximum(column + 4, between + 3), MARROW)
    arch = np.abs(np.hypot(x / 1.25, y - 78) - 10) - 3.5
    canvas.paint(np.maximum(arch, between - 2).astype(np.float32), BONE)
    spinous = np.maximum.reduce([np.abs(x) - 3.5, np.abs(y - 97) - 9, np.abs(level - 14) - 10])
    transverse = np.maximum.reduce([np.abs(x) - 38, np.abs(y - 74) - 3.5, np.abs(level - 20) - 5])
    outside = 9.5 - np.hypot(x / 1.25, y - 78)
    canvas.paint(np.maximum(np.minimum(spinous, transverse), outside).astype(np.float32), BONE)
    canvas.paint((np.hypot(x / 1.25, y - 78) - 8).astype(np.float32), 25.0)


def _paint_bowel(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Duodenum, colon with gas, and loops of small bowel: what makes organs hard to tell from their neighbors."""
    points = canvas.points
    inside = body.cavity(points) + 4
    loops = []
    for _ in range(6):
        middle = np.array([rng.uniform(-45, 55), rng.uniform(-55, -10), rng.uniform(-105, -45)])
        way = middle + np.cumsum(rng.normal(0, 17, (4, 3)), axis=0) - 17
        loops.append(tube(way.tolist(), rng.uniform(8, 12, 4).tolist()))
    small = np.maximum(union(*loops)(points), inside)
    canvas.paint(small, 62.0)
    canvas.paint(small + 5, rng.uniform(15, 45))
    duodenum = np.maximum(DUODENUM(points), inside)
    canvas.paint(duodenum, 65.0)
    canvas.paint(duodenum + 5.5, rng.uniform(15, 50))
    colon = np.maximum(COLON(points), inside)
    canvas.paint(colon, 55.0)
    canvas.paint(colon + 4, rng.uniform(-60, 30))
    gas = np.maximum(colon + 4, points[:, 1] - rng.uniform(-75, -30))
    canvas.paint(gas, AIR)
