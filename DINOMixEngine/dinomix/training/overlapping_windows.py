"""How far a model's windows overlap: the least of several that costs no structure anything, decided by the validation cases.

Most of a segmentation's time are its windows, and of those that overlap by a half there are up to eight for each voxel. Whether
fewer do as well depends on the model: a patch that holds an organ and all around it hardly needs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dinomix.cohort.cohort import Cohort
from dinomix.evaluation.matched_model import Dice, MatchedModel, mean_dice
from dinomix.events import Emit
from dinomix.inference.windows import Layout
from dinomix.models.folder import Model
from dinomix.planning.plan import Plan
from dinomix.training.cleaning import is_decided

TRIED = (0.125, 0.25, 0.375)
"""Shares of the patch along each axis, the cheapest first."""
DECIDED = "the validation cases lose nothing by it"
LOSS = 0.002
"""Of a structure's mean Dice, that a smaller overlap may cost."""


@dataclass(frozen=True)
class ChosenOverlap:
    """A smaller overlap, with the mean Dice of each structure before and with it, and the windows of all validation cases."""

    overlap: float
    before: Dice
    after: Dice
    windows: tuple[int, int]

    @property
    def as_data(self) -> dict[str, Any]:
        """For a record."""
        dice = {"before": self.before, "after": self.after}
        return {"overlap": self.overlap, "dice": dice, "windows": {"before": self.windows[0], "after": self.windows[1]}}


def chosen_overlap(
    model: Model, cohort: Cohort, sizes: Sequence[tuple[int, int, int]], device: str, emit: Emit
) -> ChosenOverlap | None:
    """The cheapest overlap that the validation cases of a cohort allow; None where the plan's own stays.

    Args:
        sizes: of each validation case, voxels along (x, y, z) on the plan's grid.

    Raises:
        DinomixError, OSError: a case cannot be read any more, or has changed.
    """
    own = model.plan
    if not is_open(own, cohort):
        return None
    # Of overlaps with as many windows, the largest.
    plans = {_windows(plan, sizes): plan for plan in (_with_overlap(own, overlap) for overlap in TRIED)}
    of_own = _windows(own, sizes)
    fewer = sorted(windows for windows in plans if windows < of_own)
    before = _dice(model, own, cohort, device, emit) if fewer else {}
    if None in before.values():
        return None  # nothing shows what a smaller one would cost
    for windows in fewer:
        after = _dice(model, plans[windows], cohort, device, emit)
        if all(_loss(before[name], after[name]) <= LOSS for name in before):
            return ChosenOverlap(plans[windows].overlap[0], before, after, (of_own, windows))
    return None


def is_open(plan: Plan, cohort: Cohort) -> bool:
    """Whether the overlap is still to be decided, and there is what decides it."""
    return is_decided(cohort) and plan.overlap == Plan.model_fields["overlap"].default and "overlap" not in plan.reasons


def decided(plan: Plan, overlap: float) -> Plan:
    """The plan with an overlap that the validation cases have decided on."""
    return _with_overlap(plan, overlap).model_copy(update={"reasons": {**plan.reasons, "overlap": DECIDED}})


def undecided(plan: Plan) -> Plan:
    """The plan of an earlier run with the overlap open again, where that run's validation cases had decided it."""
    if plan.reasons.get("overlap") != DECIDED:
        return plan
    reasons = {key: reason for key, reason in plan.reasons.items() if key != "overlap"}
    return plan.model_copy(update={"reasons": reasons, "overlap": Plan.model_fields["overlap"].default})


def _with_overlap(plan: Plan, overlap: float) -> Plan:
    return plan.model_copy(update={"overlap": (overlap,) * 3})


def _windows(plan: Plan, sizes: Sequence[tuple[int, int, int]]) -> int:
    return sum(len(Layout.of(size, plan)) for size in sizes)


def _dice(model: Model, plan: Plan, cohort: Cohort, device: str, emit: Emit) -> Dice:
    """The mean Dice of each structure over the validation cases, by ``plan``."""
    matched = MatchedModel(replace(model, plan=plan), cohort.labels, cohort.channel_names)
    return mean_dice(matched, cohort, cohort.with_role("validation"), device, "try overlaps of windows", emit)


def _loss(before: float | None, after: float | None) -> float:
    return before - after if before is not None and after is not None else 0.0
