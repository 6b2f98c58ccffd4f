"""Regions, such as a whole tumor, as mask files beside the labels of a case: in one label map they would hide each other."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.formats import case_name, format_of
from dinomix.images.masks import REGIONS
from dinomix.images.volume import Geometry
from dinomix.images.writing import write_labels
from dinomix.labels import LabelSet
from dinomix.names import file_name


def region_files(labels: LabelSet, path: Path) -> dict[str, Path]:
    """Region -> its mask file: ``scan_regions/whole tumor.nii.gz`` for labels in ``scan.nii.gz``.

    Raises:
        DinomixError: the labels have no regions.
    """
    if not labels.regions:
        raise DinomixError(
            "There are no regions to write: the labels are structures only.", f"They are {', '.join(labels.names)}."
        )
    folder = path.with_name(case_name(path) + REGIONS)
    names = {region.name: file_name(region.name, "region") for region in labels.regions}
    if len({name.casefold() for name in names.values()}) < len(names):
        names = {region: f"{number}_{name}" for number, (region, name) in enumerate(names.items(), 1)}
    return {region: folder / f"{name}.{format_of(path)}" for region, name in names.items()}


def write_regions(array: NDArray[Any], geometry: Geometry, labels: LabelSet, path: Path) -> None:
    """Write each region as a mask of ones, in the format of ``path``.

    Args:
        array: (k, j, i), ids of ``labels``.
        path: the file of the labels.

    Raises as ``write_labels`` and ``region_files``.
    """
    files = region_files(labels, path)
    for region in labels.regions:
        inside = np.zeros(max(labels.ids) + 1, np.uint8)
        inside[list(region.structures)] = 1
        write_labels(inside[array], geometry, LabelSet.from_names({1: region.name}), files[region.name])
