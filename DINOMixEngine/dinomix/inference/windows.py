"""Where the windows lie and how much each voxel of them counts; the rules are those of MONAI's ``SlidingWindowInferer``."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, as_numpy, has_torch, namespace
from dinomix.planning.plan import Plan

SIGMA = 0.125
"""Standard deviation of the Gaussian weights, as a part of the window's side."""
SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Layout:
    """The windows over a volume that is padded on both sides to at least a window.

    Attributes:
        size: (x, y, z) of the padded volume.
        before: voxels of padding in front, along (x, y, z).
        starts: the first voxels of the windows, along x, y and z; ascending.
    """

    size: tuple[int, int, int]
    before: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, size: tuple[int, ...], plan: Plan) -> "Layout":
        x, y, z = zip(*(_along(*of_axis) for of_axis in zip(size, plan.patch, plan.overlap, strict=True)), strict=True)
        return cls(x, y, z)

    def __len__(self) -> int:
        x, y, z = map(len, self.starts)
        return x * y * z

    def in_layer(self) -> list[tuple[int, int]]:
        """The first voxels along y and z of the windows that begin at the same x."""
        return list(product(*self.starts[1:]))


def _along(voxels: int, patch: int, overlap: float) -> tuple[int, int, tuple[int, ...]]:
    """Padded size, padding in front, and starts along one axis."""
    size = max(voxels, patch)
    interval = patch if size == patch else max(int(patch * (1 - overlap)), 1)
    # The last window is moved back to end with the volume.
    starts = (*range(0, size - patch, interval), size - patch)
    return size, (size - voxels) // 2, starts


@lru_cache(maxsize=4)
def importance(patch: tuple[int, int, int], blend: str) -> NDArray[np.float32]:
    """The weight of each voxel of a window, (x, y, z); not to be changed by the caller."""
    if blend == "constant":
        return np.ones(patch, np.float32)
    x, y, z = (_gaussian(side) for side in patch)
    weights = x[:, None, None] * y[None, :, None] * z[None, None]
    return np.maximum(weights, np.float32(SMALLEST_WEIGHT))


def _gaussian(side: int) -> NDArray[np.float32]:
    """Computed by PyTorch where it is installed: its exponential differs from NumPy's in the last bit."""
    distance: Array = np.arange(-(side - 1) / 2.0, (side - 1) / 2.0 + 1, dtype=np.float32)
    if has_torch():
        import torch

        distance = torch.from_numpy(distance)
    return as_numpy(namespace(distance).exp(distance**2 / (-2 * (side * SIGMA) ** 2)))
