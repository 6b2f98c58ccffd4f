"""Structures that are too thin for the network's grid."""

import numpy as np

from dinomix.cohort.cohort import Cohort
from dinomix.images.volume import thick_axis
from dinomix.names import listed
from dinomix.planning.field_of_view import LEAST_ACROSS
from dinomix.planning.ras_axes import Spacing

Thicknesses = dict[str, float]
"""mm, by the structures' names; the thinnest first."""


def measured(cohort: Cohort) -> Thicknesses:
    """The median of each structure over the labeled cases; empty for a cohort file of an earlier version."""
    cases = cohort.with_role("labeled")
    values = {
        s.name: [case.thickness[s.id] for case in cases if s.id in case.thickness] for s in cohort.labels.structures
    }
    medians = {name: float(np.median(each)) for name, each in values.items() if each}
    return dict(sorted(medians.items(), key=lambda item: item[1]))


def too_thin(thick: Thicknesses, spacing: Spacing) -> Thicknesses:
    """Those that are less than ``LEAST_ACROSS`` voxels of a grid thick; across thick slices no thickness is measured."""
    length = voxel_length(spacing)
    return {name: mm for name, mm in thick.items() if mm < LEAST_ACROSS * length}


def voxel_length(spacing: Spacing) -> float:
    """The longest side of a voxel, mm, but for that across thick slices."""
    across = thick_axis(spacing)
    return max(length for axis, length in enumerate(spacing) if axis != across)


def told(thick: Thicknesses) -> str:
    """For a sentence: "right adrenal gland (5.1 mm), left adrenal gland (6.5 mm)"."""
    return listed([f"{name} ({mm:.1f} mm)" for name, mm in thick.items()])
