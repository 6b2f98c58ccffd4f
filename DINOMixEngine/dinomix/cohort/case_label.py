"""The label of a case as its file has it, but for what nobody labeled."""

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case, LabeledSlices
from dinomix.images.reading import read_label
from dinomix.images.volume import Geometry, Volume

UNLABELED = -1
"""The value of voxels that nobody labeled: no value of a label file."""


def read_case_label(case: Case, like: Geometry) -> Volume:
    """The values (k, j, i) of a case's label file on the image's grid ``like``, and ``UNLABELED``.

    Raises:
        DinomixError: as ``read_label``.
    """
    assert case.label is not None
    volume, _ = read_label(case.label, like=like, order=case.order)
    if not case.ignored and case.labeled_slices is None:
        return volume
    values = volume.array.astype(np.int32)
    values[np.isin(values, case.ignored)] = UNLABELED
    if case.labeled_slices is not None:
        values[outside_slices(values.shape, case.labeled_slices)] = UNLABELED
    return Volume(values, volume.geometry, volume.notices)


def outside_slices(shape: tuple[int, ...], slices: LabeledSlices) -> NDArray[np.bool_]:
    """True in the slices that nobody labeled, of a volume of ``shape`` (k, j, i)."""
    outside = np.ones(shape, bool)
    np.moveaxis(outside, "kji".index(slices.axis), 0)[list(slices.numbers)] = False
    return outside
