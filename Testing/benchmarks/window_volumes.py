"""What benchmarks of the window segment: volumes of noise, and labels whose surfaces are smooth. Slicer must be started."""

from collections.abc import Sequence

import numpy as np
import slicer


def noise_volume(name: str, size: Sequence[int], millimeters: float) -> object:
    """A volume node of (i, j, k) voxels of noise, so small that the network has little to do."""
    array = np.random.default_rng(0).integers(-1000, 1000, tuple(size)[::-1], np.int16)
    node = slicer.util.addVolumeFromArray(array, name=name)
    node.SetSpacing(millimeters, millimeters, millimeters)
    return node


def balls(shape: Sequence[int], *places: tuple[float, float]) -> np.ndarray:
    """Labels (k, j, i): 1, 2, ... are balls at these (center, radius), as shares of each side."""
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(tuple(shape), np.uint8)
    for label, (center, radius) in enumerate(places, start=1):
        distance = sum(((axis / n - center) / radius) ** 2 for axis, n in zip((k, j, i), shape, strict=True))
        labels[distance < 1] = label
    return labels
