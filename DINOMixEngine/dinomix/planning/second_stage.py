"""The plan of a second stage: a finer grid for the structures that are too thin for the first one's."""

import numpy as np

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.planning.field_of_view import LEAST_ACROSS, patch_of
from dinomix.planning.networks import planned_network
from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow, SecondStage, SpacingGrid, Window
from dinomix.planning.ras_axes import Spacing
from dinomix.planning.thin_structures import measured, told, too_thin

WORTH = 0.8
"""A grid whose voxels are not at least so much shorter shows nothing more."""
Stages = int | str


def with_stages(plan: Plan, stages: Stages, cohort: Cohort, own: Spacing, limit: int, channels: int) -> Plan:
    """The plan with as many stages as are wanted, and what its first grid does not show among the reasons.

    Args:
        stages: 1, 2, or "auto" for 2 where a structure is too thin for the grid and a finer one would show it.
        own: the cohort's spacing, mm; no grid is finer.
        limit: voxels of a patch.
        channels: of the second network's first level.

    Raises:
        DinomixError: ``stages`` is none of these, or there is nothing for a second one to do.
    """
    if stages not in (1, 2, "auto"):
        raise DinomixError(f"plan.stages={stages} is none of 1, 2 and auto.", "Choose one of them.")
    if not isinstance(plan.grid, SpacingGrid):
        if stages == 2:
            raise DinomixError("A second stage needs a grid with a spacing.", "Leave out plan.stages=2, or plan.grid.")
        return plan
    thick = measured(cohort)
    thin = too_thin(thick, plan.grid.spacing)
    fine = _finer(plan.grid.spacing, own, min(thin.values(), default=np.inf))
    if fine is None:
        if stages == 2:
            raise _nothing_to_refine(thick, thin)
        stages = 1
    reasons = dict(plan.reasons)
    if thin:
        reasons["structures"] = f"less than three voxels of this grid thick: {told(thin)}"
    if stages == 1 or fine is None:
        if fine is not None:
            reasons["structures"] += "; plan.stages=2 adds a second network that refines them on a finer grid"
        return plan.model_copy(update={"reasons": reasons})
    second = SecondStage(
        plan=_plan_on(fine, plan, cohort, min(thin, key=thin.__getitem__), own, limit, channels), structures=tuple(thin)
    )
    return plan.model_copy(update={"reasons": reasons, "second": second})


def _finer(coarse: Spacing, own: Spacing, thinnest: float) -> Spacing | None:
    """The spacing on which the thinnest has three voxels, or the cohort's own; None where that is hardly finer."""
    x, y, z = (round(float(length), 4) for length in np.clip(thinnest / LEAST_ACROSS, own, np.maximum(coarse, own)))
    fine = min(np.array((x, y, z)) / np.array(coarse))
    return (x, y, z) if fine <= WORTH else None


def _plan_on(spacing: Spacing, first: Plan, cohort: Cohort, thinnest: str, own: Spacing, limit: int,
             channels: int) -> Plan:  # fmt: skip
    cases = [case for case in cohort.cases if case.role in ("labeled", "unlabeled")]
    patch, levels, _ = patch_of(cases, spacing, limit)
    more = [c.model_copy(update={"window": _of_a_box(c.window)}) for c in first.more_channels]
    shown = f"so that {thinnest} is three voxels thick" if spacing != own else "the cohort's own"
    return Plan(
        modality=first.modality,
        grid=SpacingGrid(spacing=spacing),
        window=_of_a_box(first.window),
        channel=first.channel,
        more_channels=tuple(more),
        patch=patch,
        network=planned_network(levels, channels),
        reasons={"spacing": shown},
    )


def _of_a_box(window: Window) -> Window:
    """Percentiles are those of the whole image, so that a box is as bright as what it was cut from."""
    return RangeWindow(low=0, high=1) if isinstance(window, PercentileWindow) else window


def _nothing_to_refine(thick: dict[str, float], thin: dict[str, float]) -> DinomixError:
    if not thick:
        return DinomixError(
            "plan.stages=2 needs to know how thick the structures are, which this cohort file does not tell.",
            "Run `dinomix check` again with the same folders; it adds that.",
            code="cohort",
        )
    why = "the cohort's own images hardly show more" if thin else "no structure is too thin for the network's grid"
    return DinomixError(f"A second stage would have nothing to refine: {why}.", "Leave out plan.stages=2.")
