"""What can be said of each structure of a segmentation in numbers: how large, how bright, where, and whether it is whole."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.planning.preprocessing import nearest_to_ras
from dinomix.planning.runs import Runs

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Intensities:
    """Of the voxels of a structure, as the image has them: HU for CT. ``percentiles`` are those of ``PERCENTILES``."""

    mean: float
    deviation: float
    lowest: float
    highest: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """One structure of one case.

    Attributes:
        voxels, volume: how many, and ml. A structure that was not found has 0, and nothing else below.
        extent: mm of its box along the image's axes nearest to right-left, front-back and up-down.
        center: RAS mm of its center of mass.
        components: connected pieces, 26 neighbors to a voxel.
        at_edge: whether it reaches the image's border, behind which more of it may lie.
        intensities: None without an image.
    """

    voxels: int
    volume: float
    extent: tuple[float, float, float] | None = None
    center: tuple[float, float, float] | None = None
    components: int = 0
    at_edge: bool = False
    intensities: Intensities | None = None


def measured(segmentation: Volume, labels: LabelSet, image: Volume | None = None) -> dict[str, Measurement]:
    """Measure each structure of a label set, whether it was found or not.

    Args:
        segmentation: structure ids, (k, j, i).
        image: what was segmented, on the same grid.

    Returns:
        The structure's name -> its numbers, in the label set's order.

    Raises:
        DinomixError: the image lies on another grid.
    """
    check_grid(segmentation, image)
    boxes = bounding_boxes(segmentation.array)
    found = {id: _measurement(segmentation, id, box, image) for id, box in boxes.items() if id in labels.ids}
    return {structure.name: found.get(structure.id, Measurement(0, 0.0)) for structure in labels.structures}


def check_grid(segmentation: Volume, image: Volume | None) -> None:
    """Raises DinomixError for an image on another grid."""
    if image is not None and (difference := segmentation.geometry.difference(image.geometry)):
        raise DinomixError(
            f"The segmentation and the image lie on different grids: {difference}.",
            "Give the image that was segmented.",
        )


def _measurement(segmentation: Volume, id: int, box: tuple[slice, ...], image: Volume | None) -> Measurement:
    geometry = segmentation.geometry
    structure = segmentation.array[box] == id
    voxels = int(np.count_nonzero(structure))
    sides = np.array([part.stop - part.start for part in box])[::-1] * geometry.spacing
    ends = zip(box, segmentation.array.shape, strict=True)
    i, j, k = nearest_to_ras(geometry).axes
    return Measurement(
        voxels=voxels,
        volume=voxels * float(np.prod(geometry.spacing)) / 1000,
        extent=(float(sides[i]), float(sides[j]), float(sides[k])),
        center=_center(structure, box, geometry),
        components=int(Runs.of(structure).pieces().max(initial=0)),
        at_edge=any(part.start == 0 or part.stop == size for part, size in ends),
        intensities=_intensities(image.array[box][structure]) if image is not None else None,
    )


def _center(structure: NDArray[np.bool_], box: tuple[slice, ...], geometry: Geometry) -> tuple[float, float, float]:
    # The mean of each axis' index by how many voxels each of its planes has: no list of all voxels is made.
    index = [1.0] * 4
    for axis, part in enumerate(box):
        others = tuple(other for other in range(3) if other != axis)
        counts = np.count_nonzero(structure, axis=others)
        index[2 - axis] = float(np.average(np.arange(part.start, part.stop), weights=counts))
    right, front, up = (float(mm) for mm in (geometry.affine_ras @ index)[:3])
    return right, front, up


def _intensities(values: NDArray[Any]) -> Intensities:
    values = values.astype(np.float64)
    return Intensities(
        mean=float(values.mean()),
        deviation=float(values.std()),
        lowest=float(values.min()),
        highest=float(values.max()),
        percentiles=tuple(np.percentile(values, PERCENTILES).tolist()),
    )
