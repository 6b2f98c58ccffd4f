"""Overlap and surface metrics of one structure, on the grid and with the spacing that the files have.

The surface of a structure are its voxels with a face to the outside; the volume's border is outside. Distances run
between centers of surface voxels, in the unit of ``spacing``, so that a slice 5 mm thick counts as 5 mm. With the
spacing given, the values are those of MONAI's ``compute_dice``, ``compute_surface_dice``,
``compute_hausdorff_distance(percentile=95)`` and ``compute_average_surface_distance(symmetric=True)``; here the
surfaces are found once for all of them, in the box that holds both structures, so that a large volume costs little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance
from numpy.typing import NDArray

from dinomix.images.bounding_boxes import Box

Mask = NDArray[np.bool_]
ROUNDING = 1e-4
"""A spacing of 1.0000001 mm in a header must not push a neighbor out of a tolerance of 1 mm."""


@dataclass(frozen=True)
class SurfaceDistances:
    """From each voxel of a surface to the nearest one of the other surface: 1D float64, in the unit of the spacing."""

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]

    def nsd(self, tolerance: float) -> float:
        """Normalized surface Dice: the share of both surfaces' voxels within ``tolerance`` of the other surface.

        Nikolov et al., Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy, J Med Internet
        Res 2021;23(7):e26151; counted in voxels, as MONAI does, not in area.
        """
        distances = np.concatenate([self.from_prediction, self.from_reference])
        return float(np.mean(distances <= tolerance + ROUNDING))

    def hd95(self) -> float:
        """The larger of the two directions' 95th percentiles."""
        return float(max(np.percentile(self.from_prediction, 95), np.percentile(self.from_reference, 95)))

    def asd(self) -> float:
        """The mean over the voxels of both surfaces: symmetric."""
        return float(np.concatenate([self.from_prediction, self.from_reference]).mean())


def dice(prediction: Mask, reference: Mask) -> float:
    """2 |A and B| / (|A| + |B|), of two masks of equal shape of which at least one is not empty."""
    together = np.count_nonzero(prediction & reference)
    return float(2.0 * together / (np.count_nonzero(prediction) + np.count_nonzero(reference)))


def surface_distances(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Surface distances, both ways, of two masks of equal shape, neither of them empty.

    Args:
        spacing: along the masks' axes, in their order: mm along (k, j, i) for a volume's array.
    """
    steps = tuple(float(step) for step in spacing)
    here, there = get_mask_edges(prediction, reference)
    return SurfaceDistances(
        np.asarray(get_surface_distance(here, there, spacing=steps), dtype=np.float64),
        np.asarray(get_surface_distance(there, here, spacing=steps), dtype=np.float64),
    )


def common_box(first: Box | None, second: Box | None) -> Box | None:
    """The smallest box that holds both; None when there is none."""
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
