"""Regions, such as a whole tumor, as mask files beside the labels of a case: in one label map they would hide each other."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.formats import DICOM_RESULTS, REGIONS, case_name
from dinomix.images.volume import Geometry
from dinomix.images.writing import write_labels
from dinomix.inference.outputs import Output, Write
from dinomix.labels import LabelSet
from dinomix.names import file_name


def region_files(labels: LabelSet, output: Output) -> dict[str, Path]:
    """Region -> its mask file: ``scan_regions/whole tumor.nii.gz`` for labels in ``scan.nii.gz``; none for a result in DICOM.

    DICOM holds structures that overlap, so regions are in the result itself.

    Raises:
        DinomixError: the labels have no regions.
    """
    if not labels.regions:
        raise DinomixError(
            "There are no regions to write: the labels are structures only.", f"They are {', '.join(labels.names)}."
        )
    if output.format in DICOM_RESULTS:
        return {}
    folder = output.path.with_name(case_name(output.path) + REGIONS)
    names = {region.name: file_name(region.name, "region") for region in labels.regions}
    if len({name.casefold() for name in names.values()}) < len(names):
        names = {region: f"{number}_{name}" for number, (region, name) in enumerate(names.items(), 1)}
    return {region: folder / f"{name}.{output.format}" for region, name in names.items()}


def region_writers(array: NDArray[Any], geometry: Geometry, labels: LabelSet, output: Output) -> dict[Path, Write]:
    """The mask file of each region, and what writes it: ones, in the format of the labels, as ``write_labels``.

    Args:
        array: (k, j, i), ids of ``labels``.

    Raises as ``region_files``.
    """
    structures = {region.name: region.structures for region in labels.regions}

    def write(region: str, path: Path) -> None:
        inside = np.zeros(max(labels.ids) + 1, np.uint8)
        inside[list(structures[region])] = 1
        write_labels(inside[array], geometry, LabelSet.from_names({1: region}), path)

    return {path: partial(write, region) for region, path in region_files(labels, output).items()}
