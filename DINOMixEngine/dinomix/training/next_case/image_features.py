"""What an image shows without any network: a coarse picture, how often each brightness is, and how large a box it covers.

All of it is cheap beside reading the file, and the same in each call. Brightness is relative to the image's own, since of most
scans only that means anything; axes are those nearest to RAS, so that the order in which a file stores them makes no difference.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool3d

from dinomix.images.volume import Volume
from dinomix.planning.preprocessing import nearest_to_ras

SIDE = 16
"""Voxels of the picture along each axis."""
BINS = 32
COMPONENTS = 16
"""Of the pictures that are kept, the principal ones."""
DARKEST, BRIGHTEST = 0.5, 99.5
"""Percentiles that become 0 and 1."""


class ImageFeatures(NamedTuple):
    """
    Attributes:
        picture: (SIDE^3,) mean brightness, 0 to 1, of the blocks of a grid over the whole image.
        brightness: (BINS,) the share of voxels that are as bright as the bin or darker.
        extent: (3,) log of the mm along x, y and z.
    """

    picture: NDArray[np.float32]
    brightness: NDArray[np.float32]
    extent: NDArray[np.float32]


def features_of(volume: Volume) -> ImageFeatures:
    """Of an image (k, j, i)."""
    axes = nearest_to_ras(volume.geometry)
    array = np.asarray(axes.forward(volume.array.transpose(2, 1, 0)), np.float32)
    low, high = np.percentile(array, (DARKEST, BRIGHTEST))
    scaled = np.clip((array - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    picture = adaptive_avg_pool3d(torch.from_numpy(np.ascontiguousarray(scaled))[None], SIDE)
    counts = np.histogram(scaled, BINS, (0, 1))[0]
    size_mm = np.array([volume.geometry.size[axis] * volume.geometry.spacing[axis] for axis in axes.axes], np.float32)
    return ImageFeatures(picture.numpy().ravel(), (counts.cumsum() / counts.sum()).astype(np.float32), np.log(size_mm))


def distances(features: Sequence[ImageFeatures]) -> NDArray[np.float64]:
    """(n, n) between n images; picture, brightness and extent count alike, each by how far the images vary in it."""
    groups = [_as_varied(np.array(column, float)) for column in zip(*features, strict=True)]
    points = np.concatenate(groups, 1) if groups else np.empty((0, 1))
    squares = (points**2).sum(1)
    apart: NDArray[np.float64] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    np.fill_diagonal(apart, 0)
    return apart


def _as_varied(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, d) -> (n, COMPONENTS at most): principal components, their variances together 1; 0 where all rows are equal."""
    centered = rows - rows.mean(0)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    components: NDArray[np.float64] = (left * sizes)[:, :COMPONENTS]
    spread = np.sqrt((components**2).sum() / len(rows))
    return components / spread if spread > 1e-6 else np.zeros_like(components)
