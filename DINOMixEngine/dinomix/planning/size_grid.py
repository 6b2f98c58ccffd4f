"""A grid of fixed size, as the released code that protocol `dhc-compat` follows has it, and what it is in millimeters."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case
from dinomix.planning.plan import SizeGrid, SpacingGrid
from dinomix.planning.ras_axes import Spacing


def resized_by_floor(labels: NDArray[Any], size: tuple[int, int, int]) -> torch.Tensor:
    """Labels on a grid of another size along the same axes, by PyTorch's "nearest": voxel floor(index * old / new).

    Up to half a voxel off what nearest to the voxel's center would be, so that only labels resized alike compare.

    Returns:
        int32, of shape ``size``.
    """
    batch = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(batch, size=size, mode="nearest")[0, 0].int()


def spacing_on(grid: SpacingGrid | SizeGrid, case: Case) -> Spacing:
    """mm along (x, y, z) between a case's voxels on the network's grid: of a fixed size, each case has its own."""
    if isinstance(grid, SpacingGrid):
        return grid.spacing
    x, y, z = (mm * old / new for mm, old, new in zip(case.spacing, case.size, grid.size, strict=True))
    return x, y, z
