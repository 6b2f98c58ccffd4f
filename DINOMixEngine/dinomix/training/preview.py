"""The small picture in a model folder: its structures from the front, drawn from a label map and never from an image.

A model may be passed on where its training scans may not. A label map's outline is all that is shown of them.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case, Cohort
from dinomix.planning.cache import AnyCase, structures_in
from dinomix.planning.plan import Plan, SpacingGrid
from dinomix.planning.ras_axes import axes_in_ras
from dinomix.planning.size_grid import spacing_on
from dinomix.report.front_view import front_view


def draw_preview(cohort: Cohort, plan: Plan, cached: Mapping[str, AnyCase]) -> bytes | None:
    """The structures of the labeled case that has most of them, as a PNG of 260 x 280 pixels; None if it has none."""
    case = max(cohort.with_role("labeled"), key=lambda case: (_structures(case), sum(case.voxels.values())))
    channels: NDArray[np.integer] = structures_in(cached[case.name].label, cohort.labels.channels)
    if isinstance(plan.grid, SpacingGrid):
        spacing = plan.grid.spacing
        channels = channels[tuple(slice(None, None, 1 if code in "RAS" else -1) for code in plan.grid.orientation)]
    else:
        # On a size grid the axes are still the file's.
        axes = axes_in_ras(case)
        toward_ras = [slice(None, None, 1 if case.orientation[axis] in "RAS" else -1) for axis in axes]
        channels = channels.transpose(axes)[tuple(toward_ras)]
        x, y, z = (spacing_on(plan.grid, case)[axis] for axis in axes)
        spacing = x, y, z
    return front_view(channels, spacing, cohort.labels)


def _structures(case: Case) -> int:
    return sum(count > 0 for count in case.voxels.values())
