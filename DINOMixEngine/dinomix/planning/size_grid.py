"""A grid of fixed size, as the released code that protocol `dhc-compat` follows has it, and what it is in millimeters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case
from dinomix.planning.plan import SizeGrid, SpacingGrid
from dinomix.planning.ras_axes import Spacing


def resized_by_floor(labels: NDArray[Any], size: tuple[int, int, int]) -> NDArray[Any]:
    """Labels on a grid of another size along the same axes, by PyTorch's "nearest": voxel floor(index * old / new).

    Up to half a voxel off what nearest to the voxel's center would be, so that only labels resized alike compare.

    Returns:
        Of shape ``size``.
    """
    voxels = []
    for old, new in zip(labels.shape, size, strict=True):
        # In float32, as PyTorch has it: where old / new is no binary fraction, this decides some of the voxels.
        step = np.float32(old) / np.float32(new)
        voxels.append(np.minimum(np.arange(new, dtype=np.float32) * step, old - 1).astype(np.int64))
    return labels[np.ix_(*voxels)]


def spacing_on(grid: SpacingGrid | SizeGrid, case: Case) -> Spacing:
    """mm along (x, y, z) between a case's voxels on the network's grid: of a fixed size, each case has its own."""
    if isinstance(grid, SpacingGrid):
        return grid.spacing
    x, y, z = (mm * old / new for mm, old, new in zip(case.spacing, case.size, grid.size, strict=True))
    return x, y, z
