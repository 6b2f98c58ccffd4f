"""Spacing and size of cases along the patient's axes, whatever the order in which their files store them."""

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case

Spacing = tuple[float, float, float]


def spacing_in_ras(case: Case) -> tuple[float, float, float]:
    """The case's spacing (mm) along the axes nearest to R, A and S, from its orientation code."""
    x, y, z = (case.spacing[axis] for axis in axes_in_ras(case))
    return x, y, z


def size_in_ras(case: Case) -> tuple[int, int, int]:
    """The case's size (voxels) along the axes nearest to R, A and S."""
    x, y, z = (case.size[axis] for axis in axes_in_ras(case))
    return x, y, z


def axes_in_ras(case: Case) -> list[int]:
    """The file's axes that run along R or L, A or P, S or I, in this order."""
    codes = list(case.orientation)
    return [next(axis for axis, code in enumerate(codes) if code in pair) for pair in ("RL", "AP", "SI")]


def median_size(cases: list[Case], spacing: Spacing) -> NDArray[np.float64]:
    """Voxels along (x, y, z) of the median case on a grid of ``spacing``."""
    sizes = [np.array(size_in_ras(case)) * spacing_in_ras(case) / np.array(spacing) for case in cases]
    median: NDArray[np.float64] = np.median(sizes, axis=0)
    return median
