"""Plans for cohorts of thick slices: as many slices and as much of the plane as a patch can show, and a U-Net that respects them.

With voxels of 1.5 x 1.5 x 10 mm, a cube of voxels is a chimney of tissue, and a network that halves and mixes all axes alike has
lost the slices before it has seen the organ.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case
from dinomix.planning.ras_axes import Spacing, median_size
from dinomix.planning.topology import Topology, topology

Floats = NDArray[np.float64]

CONTEXT = 0.25
"""Share of the median case that a patch shows at least: with less, a network cannot tell where in the body it is."""
LEAST_ACROSS = 3
"""Voxels across the smallest structure that coarsening leaves."""
LEAST_SIDE, LEAST_SIDE_IN_PLANE = 8, 16
"""Voxels of a patch; in the plane the network halves it twice at least."""


@dataclass(frozen=True)
class ThickSlices:
    """Fields of a plan, and why they are so."""

    spacing: Spacing
    patch: tuple[int, int, int]
    network: dict[str, Any]
    fkd_stage: str
    why_spacing: str
    why_patch: str
    why_network: str


def plan_thick_slices(cases: list[Case], spacing: Spacing, limit: int, channels: int) -> ThickSlices:
    """Plan for cases whose slices are thick at ``spacing``.

    Args:
        spacing: mm along (x, y, z), with a ``topology.thick_axis``.
        limit: most voxels of a patch.
        channels: of the network's first level.
    """
    thick = int(np.argmax(spacing))
    coarse, why_spacing = _spacing_that_sees(cases, spacing, thick, limit)
    patch, levels, why_patch = _patch(cases, coarse, thick, limit)
    network, stage = _network(levels, channels)
    why_network = (
        f"a U-Net of {len(levels.strides)} levels and {channels} start channels; slices are halved and mixed only once they are "
        "less than twice as thick as its voxels"
    )
    return ThickSlices(coarse, patch, network, stage, why_spacing, why_patch, why_network)


def _spacing_that_sees(cases: list[Case], spacing: Spacing, thick: int, limit: int) -> tuple[Spacing, str]:
    """Thick slices with their plane coarsened until a patch of ``limit`` voxels shows the share ``CONTEXT`` of the median case.

    The plane is never made coarser than the slices are thick, nor than a third of the smallest structure's diameter.
    """
    plane = [axis for axis in range(3) if axis != thick]
    shown = limit / median_size(cases, spacing).prod()
    factor = max((CONTEXT / shown) ** 0.5, 1.0)
    coarsest = min(spacing[thick], _smallest_structure(cases) / LEAST_ACROSS)
    coarse = list(spacing)
    for axis in plane:
        coarse[axis] = round(max(spacing[axis], min(spacing[axis] * factor, coarsest)), 4)
    x, y, z = coarse
    if (x, y, z) == spacing:
        return spacing, ""
    return (
        x,
        y,
        z,
    ), f"; coarser in the plane, so that a patch shows {CONTEXT:.0%} of the median case or comes nearer to it"


def _smallest_structure(cases: list[Case]) -> float:
    """Diameter, mm, of a ball as large as the smallest structure of the labeled cases, by the median of each; else infinite."""
    volumes: dict[int, list[float]] = {}
    for case in cases:
        for structure, count in case.voxels.items():
            volumes.setdefault(structure, []).append(count * float(np.prod(case.spacing)))
    if not volumes:
        return float("inf")
    return float((6 / np.pi * min(np.median(each) for each in volumes.values())) ** (1 / 3))


def _patch(cases: list[Case], spacing: Spacing, thick: int, limit: int) -> tuple[tuple[int, int, int], Topology, str]:
    """All slices of the median case where they fit, and as much of the plane as ``limit`` allows; with the network's levels."""
    median = median_size(cases, spacing)
    least = np.where(np.arange(3) == thick, LEAST_SIDE, LEAST_SIDE_IN_PLANE).astype(float)
    sides = _shortened(np.maximum(median, least), least, np.array(spacing), limit)
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


def _network(levels: Topology, channels: int) -> tuple[dict[str, Any], str]:
    """MONAI's DynUNet with the strides and kernels of ``levels``, and the stage that FKD taps: that at an eighth of the plane."""
    network = {
        "_target_": "monai.networks.nets.DynUNet",
        "kernel_size": [list(kernel) for kernel in levels.kernels],
        "strides": [list(stride) for stride in levels.strides],
        "upsample_kernel_size": [list(stride) for stride in levels.strides[1:]],
        "filters": [min(channels * 2**level, 16 * channels) for level in range(len(levels.strides))],
        "norm_name": "INSTANCE",
        "res_block": False,
    }
    deepest = len(levels.strides) - 1
    return network, "bottleneck" if deepest <= 3 else "downsamples.2"
