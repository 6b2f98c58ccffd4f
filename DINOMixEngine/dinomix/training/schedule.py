"""How far a run is at each of its steps, and when it validates, saves and records.

Everything that changes while a run goes on (learning rate, pseudo-labels, PIC's curriculum) follows ``progress``, from 0 to 1. A
number of steps gives one schedule for the whole run. A budget of time gives one that is measured before the first step and,
where the computer does not keep its pace, others after it, each from a step on; see ``budget.py``.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from dinomix.training.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """
    Attributes:
        steps: those of the whole run, if the schedule holds to its end.
        pseudo_labels_from: steps done when pseudo-labels begin to count, or to wait for their teacher.
        validate_every, checkpoint_every, record_every: steps.
        since, done: steps done when this schedule began to hold, and the progress by then.
        waits: whether pseudo-labels that could count by now wait until the teacher may teach.
    """

    steps: int
    pseudo_labels_from: int
    validate_every: int
    checkpoint_every: int
    record_every: int
    since: int = 0
    done: float = 0.0
    waits: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be, as a damaged checkpoint may have it."""
        counts = (self.validate_every, self.checkpoint_every, self.record_every, self.steps)
        are_counts = all(type(count) is int and count > 0 for count in counts) and type(self.pseudo_labels_from) is int
        if not (are_counts and 0 <= self.since <= self.steps and 0 <= self.done <= 1 and type(self.waits) is bool):
            raise ValueError(f"a schedule of {self.steps} steps from {self.since} on")

    def progress(self, step: int) -> float:
        """t/T in 0..1 once ``step`` steps are done, ``since`` at least."""
        left = self.steps - self.since
        return self.done + (step - self.since) / left * (1 - self.done) if left else 1.0

    @property
    def teaching_from(self) -> float:
        """Steps done when pseudo-labels count; infinite while they wait."""
        return math.inf if self.waits else self.pseudo_labels_from

    def about_pseudo_labels(self, config: TrainConfig, labels_alone: int) -> str:
        """When they will count, in a sentence; "" for a method that has none."""
        if not config.uses_unlabeled:
            return ""
        if self.pseudo_labels_from < self.steps:
            return f"Pseudo-labels count after {self.pseudo_labels_from} steps{' at the earliest' if labels_alone else ''}."
        if labels_alone < self.steps:
            return "Pseudo-labels do not count in so few steps."
        return f"Pseudo-labels do not count in so few steps: labels alone teach more during the first {labels_alone}."

    def is_validated(self, step: int) -> bool:
        """Whether a validation is due once ``step`` steps are done."""
        return self._is_due(step, self.validate_every) or step == self.steps

    def validations_after(self, step: int) -> int:
        """How many validations come once ``step`` steps are done."""
        last = self.steps - self.since
        return (
            max(-(-last // self.validate_every) - (step - self.since) // self.validate_every, 0)
            if step < self.steps
            else 0
        )

    def is_saved(self, step: int) -> bool:
        return self._is_due(step, self.checkpoint_every) or step == self.steps

    def is_recorded(self, step: int) -> bool:
        return self._is_due(step, self.record_every)

    def _is_due(self, step: int, every: int) -> bool:
        return step > self.since and (step - self.since) % every == 0

    def saved(self) -> dict[str, Any]:
        """As a checkpoint keeps it: ``Schedule(**saved)`` is the same."""
        return asdict(self)


def schedule_of_steps(config: TrainConfig, steps: int, labels_alone: int = 0) -> Schedule:
    """That of a run of ``steps`` steps, at least the first ``labels_alone`` of which learn from labels alone."""
    alone = max(round(config.pseudo_label_start * steps), labels_alone)
    return Schedule(
        steps,
        min(alone, steps) if config.uses_unlabeled else steps,
        config.validate_every or 200,
        config.checkpoint_every or 100,
        config.record_every or 10,
    )
