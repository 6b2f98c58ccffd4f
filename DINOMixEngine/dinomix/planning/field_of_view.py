"""How much of a case a patch shows: the spacing of the network's grid and the sides of a patch.

A network that sees a few centimeters cannot tell a left kidney from a right one. So context comes first: where a patch of as
many voxels as the device can take shows too little of the median case, the grid is made coarser, its fine axes before the
others, as long as the smallest structure stays some voxels wide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case
from dinomix.images.volume import thick_axis
from dinomix.planning.plan import LONGEST_SIDE
from dinomix.planning.ras_axes import Spacing, median_size
from dinomix.planning.topology import Topology, topology

Floats = NDArray[np.float64]

CONTEXT = 0.25
"""Share of the median case that a patch shows at least: with less, a network cannot tell where in the body it is."""
LEAST_ACROSS = 3
"""Voxels across the smallest structure that coarsening leaves."""
LEAST_SIDE, LEAST_SIDE_OF_THICK_SLICES = 16, 8
"""Voxels of a patch."""


@dataclass(frozen=True)
class FieldOfView:
    """Spacing (mm) and patch (voxels) along (x, y, z), the levels of a U-Net for them, and why they are so."""

    spacing: Spacing
    patch: tuple[int, int, int]
    levels: Topology
    why_spacing: str
    why_patch: str


def field_of_view(cases: list[Case], spacing: Spacing, limit: int) -> FieldOfView:
    """The grid and patch for cases whose own spacing is ``spacing`` (mm along x, y, z), of at most ``limit`` voxels."""
    coarse, why_spacing = _spacing_that_sees(cases, spacing, limit)
    patch, levels, why_patch = patch_of(cases, coarse, limit)
    return FieldOfView(coarse, patch, levels, why_spacing, why_patch)


def _spacing_that_sees(cases: list[Case], spacing: Spacing, limit: int) -> tuple[Spacing, str]:
    """The least coarsening with which a patch of ``limit`` voxels shows the share ``CONTEXT`` of the median case.

    Axes finer than t become t; so thick slices keep theirs while the plane is made coarser.
    """
    fine = np.array(spacing)
    extent = median_size(cases, spacing) * fine
    coarsest = _smallest_structure(cases) / LEAST_ACROSS
    if thick_axis(spacing) is not None:
        coarsest = min(coarsest, max(spacing))

    def shown(t: float) -> float:
        return limit / float(np.prod(extent / np.maximum(fine, t)))

    low, high = min(spacing), max(float(np.cbrt(CONTEXT * extent.prod() / limit)), *spacing)
    if shown(low) >= CONTEXT or coarsest <= low:
        return spacing, ""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) >= CONTEXT else (middle, high)
    x, y, z = (round(float(v), 4) for v in np.maximum(fine, min(high, coarsest)))
    t = min(high, coarsest)
    why = f"; coarser, so that a patch shows {shown(t):.0%} of the median case"
    if t < high:
        why += f", which leaves the smallest structure {LEAST_ACROSS} voxels"
    return (x, y, z), why


def _smallest_structure(cases: list[Case]) -> float:
    """Diameter, mm, of a ball as large as the smallest structure of the labeled cases; else infinite.

    Of each structure, by the median of the cases that show it: one that most patients lack is no smaller for it.
    """
    volumes: dict[int, list[float]] = {}
    for case in cases:
        for structure, count in case.voxels.items():
            if count and case.has_drawn(structure):
                volumes.setdefault(structure, []).append(count * float(np.prod(case.spacing)) / _labeled_share(case))
    if not volumes:
        return float("inf")
    return float((6 / np.pi * min(np.median(each) for each in volumes.values())) ** (1 / 3))


def _labeled_share(case: Case) -> float:
    """Of its slices."""
    slices = case.labeled_slices
    return 1.0 if slices is None else len(slices.numbers) / case.size["ijk".index(slices.axis)]


def patch_of(cases: list[Case], spacing: Spacing, limit: int) -> tuple[tuple[int, int, int], Topology, str]:
    """The whole median case where it fits, else what is nearest to a cube of tissue; with the network's levels."""
    median, thick = median_size(cases, spacing), thick_axis(spacing)
    least = np.where(np.arange(3) == thick, LEAST_SIDE_OF_THICK_SLICES, LEAST_SIDE).astype(float)
    sides = _shortened(np.clip(median, least, LONGEST_SIDE), least, np.array(spacing), limit)
    levels = topology(sides.tolist(), spacing)
    multiple = np.array(levels.multiple)
    patch = multiple * np.ceil(np.round(sides, 2) / multiple)
    while patch.prod() > limit:
        above = np.where(patch - multiple >= least, patch - sides, 0)
        if above.max() <= 0:
            break
        patch[above.argmax()] -= multiple[above.argmax()]
    x, y, z = (int(side) for side in patch)
    reason = f"median size {tuple(int(v) for v in median.round())} voxels, at most {limit:,} voxels in a patch"
    return (x, y, z), levels, reason


def _shortened(sides: Floats, least: Floats, spacing: Floats, limit: int) -> Floats:
    """Sides, voxels, of which the longest in millimeters are cut to one length, so that there are at most ``limit`` voxels."""
    short, long = 0.0, float((sides * spacing).max())
    if sides.prod() <= limit:
        return sides
    for _ in range(60):  # halved as often as a double has digits
        middle = (short + long) / 2
        if np.clip(middle / spacing, least, sides).prod() <= limit:
            short = middle
        else:
            long = middle
    return np.clip(short / spacing, least, sides)
