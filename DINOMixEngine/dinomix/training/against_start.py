"""A run's model beside the one that it started from, on the validation cases: fine-tuning never ends below its start.

Both are asked as `dinomix segment` asks them, each by its own plan, and Dice is that of `dinomix compare`: on the native grid,
and not where a case lacks the structure. The start model was asked before the first step, the run's is once it is trained.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from dinomix.cohort.cohort import Cohort
from dinomix.evaluation.matched_model import Dice, MatchedModel, means
from dinomix.evaluation.metrics import Mask, dice
from dinomix.evaluation.references import with_references
from dinomix.events import Emit
from dinomix.models.folder import Model
from dinomix.models.installed import describe_model
from dinomix.names import listed
from dinomix.training.kept_structures import kept_names
from dinomix.training.start_model import StartModel


@dataclass(frozen=True)
class Verdict:
    """Which of the two models is the run's, and why.

    Attributes:
        before, after: Dice of each structure of the cohort, means over the validation cases; None where it was not to be had.
        new: structures that the start model does not know.
        agreement: of the structures that were kept as the start model predicts them, how far the two models agree; no Dice.
    """

    title: str
    before: Dice
    after: Dice
    new: tuple[str, ...]
    agreement: Dice

    @cached_property
    def shared(self) -> list[str]:
        """The structures by which the two can be compared."""
        return [name for name, value in self.before.items() if value is not None and self.after[name] is not None]

    @property
    def means(self) -> tuple[float, float] | None:
        """Mean Dice over the shared structures before and after; None without any."""
        if not self.shared:
            return None
        before, after = ([dice[name] for name in self.shared] for dice in (self.before, self.after))
        return fmean(value for value in before if value is not None), fmean(
            value for value in after if value is not None
        )

    @property
    def is_worse(self) -> bool:
        """Whether the run has ended below its start."""
        return self.means is not None and self.means[1] < self.means[0]

    @property
    def keeps_start(self) -> bool:
        """Whether the start model takes the place of the trained one: it is better, and lacks nothing."""
        return self.is_worse and not self.new

    @property
    def message(self) -> str:
        """What has come of it, in full sentences; empty where nothing can be compared."""
        if self.means is None:
            return ""
        before, after = self.means
        figures = f"mean Dice {after:.3f} instead of {before:.3f} on the validation cases, over {listed(self.shared)}"
        if not self.is_worse:
            return f"Beside {self.title}, the model that it started from, the run has {figures}."
        if self.keeps_start:
            return (
                f"The run has ended below {self.title}, the model that it started from: {figures}. So its model folder holds "
                "the start model."
            )
        told = [f"{name} {self.after[name]:.3f} instead of {self.before[name]:.3f}" for name in self.shared]
        return (
            f"What {self.title} knew already has become worse: {figures} ({listed(told, 8)}). The trained model is kept all the "
            f"same, since it alone knows {listed(self.new)}."
        )

    @property
    def remedy(self) -> str:
        """What to do where the run has become worse; else empty."""
        if not self.is_worse:
            return ""
        more = "More labeled cases that show these structures, or a lower learning rate, may help."
        if self.keeps_start:
            return f"{more} The weights that were trained are kept in checkpoints."
        return f"{more} Until then, {self.title} segments them better."

    @property
    def as_data(self) -> dict[str, Any]:
        """For a record and an event."""
        before, after = self.means or (None, None)
        names = [name for name in self.before if self.before[name] is not None or self.after[name] is not None]
        return {
            "start": self.title,
            "kept": "start" if self.keeps_start else "trained",
            "mean": {"before": before, "after": after},
            "dice": {name: {"before": self.before[name], "after": self.after[name]} for name in names},
            "agreement": self.agreement,
            "message": self.message,
            "remedy": self.remedy,
        }


def judged(start: StartModel, cohort: Cohort, trained: Model, emit: Emit) -> Verdict:
    """Compare a run's model with its start.

    Raises:
        DinomixError, OSError: a validation case cannot be read any more, or has changed.
    """
    kept = {name: cohort.labels.ids[cohort.labels.names.index(name)] for name in kept_names(cohort)}
    models = {
        key: MatchedModel(model, cohort.labels, cohort.channel_names)
        for key, model in (("before", start.model), ("after", trained))
    }
    scored: dict[str, list[Dice]] = {"before": [], "after": []}
    agreed = []
    for case, images, reference in with_references(
        cohort.with_role("validation"), cohort, "compare with the start model", emit
    ):
        said = {
            "before": models["before"].renamed(start.labels_of(case)),
            "after": models["after"].segment(images, start.device),
        }
        for key, matched in models.items():
            scored[key].append(matched.dice(said[key], reference, case))
        agreed.append(
            {name: _agreement(said["before"].array == id, said["after"].array == id) for name, id in kept.items()}
        )
    names = cohort.labels.names
    new = tuple(name for channel, name in enumerate(names, 1) if channel not in models["before"].known)
    title = describe_model(start.model.path)["title"]
    before, after = (means(names, scored[key]) for key in ("before", "after"))
    return Verdict(title, before, after, new, means(tuple(kept), agreed))


def _agreement(before: Mask, after: Mask) -> float | None:
    """As Dice has it; None where the start model sees nothing."""
    return dice(before, after) if before.any() else None
