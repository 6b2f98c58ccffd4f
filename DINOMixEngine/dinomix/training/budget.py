"""A budget of time in place of a number of steps.

Before the first step a few real ones are measured, and the number of steps that fits into the time is fixed. From then on the
run is, bit for bit, the run of that many steps, however long each takes. At each checkpoint, and where pseudo-labels begin to
wait or to count, it is reckoned when the run would end at the pace of its last steps; where that misses the budget by more
than a twentieth, the number of steps is set anew, and the progress goes on from where it is, to 1 at the new last step; where
pseudo-labels begin to wait or to count, it is that of a run of so many steps from the first one on. What was decided is in the
checkpoint, with the time that was spent by then: a resumed run goes on as it would have, and the time in which no process
worked on it does not count.

All counts that is done for the run: its cases, the measurement, the steps, validations and the model.
"""

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list

from dinomix.durations import as_duration
from dinomix.training.config import TrainConfig
from dinomix.training.schedule import Schedule

if TYPE_CHECKING:
    from dinomix.training.run import Run

TOLERANCE = 0.05
"""Share of the budget by which the end may be missed before the number of steps is set anew."""
LEAST = 0.25
"""Share of the budget that is left for training, however long the cases took to prepare."""
MEASURING, MOST_SECONDS = 0.02, 15.0
"""Most that the measurement of one phase may take, as a share of the budget and in seconds."""
VALIDATIONS, VALIDATING = 10, 0.1
"""Validations in a run; fewer where they would take more than this share of it."""
CHECKPOINTS, CHECKPOINT_SECONDS = 20, 300.0
"""Checkpoints in a run; more where they would be further apart than these seconds."""
RECORDS, RECORD_STEPS = 200, 50
PROVISIONAL = 1000
"""Steps of the schedule by which a run with a budget is measured."""
FEWEST = 3
"""Steps by which a pace is judged."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a step takes before and after pseudo-labels begin, and one validation of all cases."""

    before: float
    after: float
    validation: float

    def of_steps(self, first: int, last: int, teaching_from: float) -> float:
        """Seconds of the steps after ``first`` up to ``last``."""
        middle = min(max(teaching_from, first), last)
        return (middle - first) * self.before + (last - middle) * self.after


class Budget:
    """The time of a run, as one process sees it; the main process decides for all.

    Attributes:
        spent_before: seconds that earlier processes worked on the run, as its checkpoint has it.
        prepared: seconds that were spent by the first step.
        pace: as it was measured before the first step; None until then.
    """

    def __init__(
        self,
        config: TrainConfig,
        seconds: float,
        began: float | None = None,
        *,
        asks_at_end: int = 0,
        labels_alone: int = 0,
    ) -> None:
        """
        Args:
            began: when this process began to work on the run, by ``time.monotonic``; by default now.
            asks_at_end: how often the run's model is asked about all validation cases at the end: to calibrate it, to compare it
                with its start, and to decide how far windows overlap and what is removed from results.
            labels_alone: as ``fitted`` takes it.
        """
        self._asks_at_end, self._labels_alone = asks_at_end, labels_alone
        self.config, self.seconds = config, seconds
        self.spent_before = self.prepared = 0.0
        self.pace: Pace | None = None
        self._began = monotonic() if began is None else began
        self._until = seconds
        self._step, self._at, self._factor = 0, 0.0, 1.0

    @property
    def spent(self) -> float:
        """Seconds that were worked on the run."""
        return self.spent_before + monotonic() - self._began

    @property
    def seconds_to_measure(self) -> float:
        """Most that the measurement of one phase may take."""
        return min(MOST_SECONDS, MEASURING * self.seconds)

    def fit(self, pace: Pace) -> tuple[Schedule, str]:
        """The schedule of the whole run at this pace, and sentences that say how it came about."""
        self.pace, self.prepared = pace, self.spent
        self._until = max(self.seconds, self.prepared + LEAST * self.seconds + pace.validation + self._reserve)
        left = self._until - self._reserve - self.spent
        schedule = fitted(self.config, pace, left, self.seconds, labels_alone=self._labels_alone)
        per_step = pace.of_steps(0, schedule.steps, schedule.pseudo_labels_from) / schedule.steps
        text = (
            f"Of {as_duration(self.seconds)}, {as_duration(self.prepared)} went into the cases and into measuring a few steps. "
            f"A step takes {per_step:.2f} s here, so the run has {schedule.steps} steps. "
            f"{schedule.about_pseudo_labels(self.config, self._labels_alone)}"
        ).rstrip()
        if self._until > self.seconds:
            text += (
                f" These and the validation cases, which the model is asked about at the end, leave less than a quarter of the "
                f"time for training, which takes that much all the same: the run ends after about {as_duration(self._until)}. "
                f"Its cases are kept, so a run with the same --cache has more time to train."
            )
        return schedule, text

    def begin(self, step: int) -> None:
        """From now on, after ``step`` steps, the pace is watched."""
        self._step, self._at = step, self.spent

    def leave_out(self, seconds: float) -> None:
        """What was just done for ``seconds`` is no part of a step's time."""
        self._at += seconds

    def left(self, schedule: Schedule, step: int) -> float:
        """Seconds to the end of the run at the pace of the last steps."""
        assert self.pace is not None
        if step - self._step >= FEWEST:
            expected = self.pace.of_steps(self._step, step, schedule.teaching_from)
            self._factor = (self.spent - self._at) / max(expected, 1e-9)
        steps = self._factor * self.pace.of_steps(step, schedule.steps, schedule.teaching_from)
        return steps + schedule.validations_after(step) * self.pace.validation + self._reserve

    def kept(self, run: "Run", *, anew: bool) -> Schedule | None:
        """The schedule that ends in time, or None where the present one does; the same in all processes.

        Args:
            anew: as ``fitted`` has it.
        """
        decided = [self._corrected(run.schedule, run.state.step, anew) if run.accelerator.is_main_process else None]
        if run.accelerator.num_processes > 1:
            broadcast_object_list(decided)
        if run.state.step - self._step >= FEWEST:
            self.begin(run.state.step)
        return decided[0]

    def saved(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        assert self.pace is not None
        return {"spent": self.spent, "prepared": self.prepared, "until": self._until, "pace": vars(self.pace)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what ``saved`` gave. Raises KeyError or TypeError where it is damaged."""
        self.spent_before, self.prepared = float(saved["spent"]), float(saved["prepared"])
        self._until, self.pace = float(saved["until"]), Pace(**saved["pace"])

    @property
    def _reserve(self) -> float:
        """Seconds for writing the model, and for asking it about the validation cases: that is about another validation each."""
        asking = self._asks_at_end * self.pace.validation if self.pace is not None else 0.0
        return min(5.0, 0.01 * self.seconds) + asking

    def _corrected(self, schedule: Schedule, step: int, anew: bool) -> Schedule | None:
        self.left(schedule, step)  # sees the pace of the last steps
        assert self.pace is not None
        pace = Pace(self._factor * self.pace.before, self._factor * self.pace.after, self.pace.validation)
        left = max(self._until - self._reserve - self.spent, 0.0)
        new = fitted(self.config, pace, left, self.seconds, schedule, step, anew=anew, labels_alone=self._labels_alone)
        differs = abs(new.steps - schedule.steps)
        of_both = (min(new.steps, schedule.steps), max(new.steps, schedule.steps))
        is_near = pace.of_steps(*of_both, schedule.teaching_from) <= TOLERANCE * self.seconds
        return None if is_near or differs <= FEWEST else new


def fitted(config: TrainConfig, pace: Pace, left: float, seconds: float, before: Schedule | None = None, step: int = 0,
           *, anew: bool = False, labels_alone: int = 0) -> Schedule:  # fmt: skip
    """The schedule whose steps and validations take ``left`` seconds at ``pace``, from ``step`` to the end.

    Args:
        seconds: of the whole run; validations and checkpoints are shares of it.
        before: the schedule that it takes over from; None at the beginning.
        anew: the progress is that of a run of so many steps from the first one on, as steps take another time from now on; else
            it goes on from where it is.
        labels_alone: steps that learn from labels alone at least, of the whole run.
    """
    done = before.progress(step) if before else 0.0
    start = config.pseudo_label_start if config.uses_unlabeled else 1.0
    unlabeled_after = min(max((start - done) / (1 - done), 0.0), 1.0) if done < 1 else 0.0
    alone = max(labels_alone - step, 0) if config.uses_unlabeled else 0
    if before and step >= before.pseudo_labels_from:
        unlabeled_after, alone = 1.0 if before.waits else 0.0, 0  # nobody knows for how long they wait
    between = max(seconds / VALIDATIONS, pace.validation / VALIDATING)
    training = left - pace.validation
    # How many validations there are follows from a step's time, and that from how many steps are left beside them.
    for _ in range(3):
        per_step = _mean_step(pace, training, unlabeled_after, alone)
        validating = pace.validation / (config.validate_every * per_step if config.validate_every else between)
        training = (left - pace.validation) / (1 + validating)
    steps = max(int(training / per_step), 0 if before else 1)
    if config.steps is not None:
        steps = min(steps, config.steps - step)
    if anew:
        done = step / max(step + steps, 1)
    return Schedule(
        step + steps,
        before.pseudo_labels_from
        if before and step >= before.pseudo_labels_from
        else step + min(max(round(unlabeled_after * steps), alone), steps),
        config.validate_every or _apart(steps, max(round(steps * per_step / between), 1)),
        config.checkpoint_every
        or _apart(steps, max(CHECKPOINTS * left / seconds, steps * per_step / CHECKPOINT_SECONDS)),
        config.record_every or min(max(round(seconds / per_step) // RECORDS, 1), RECORD_STEPS),
        step,
        done,
        before is not None and before.waits,
    )


def _mean_step(pace: Pace, training: float, unlabeled_after: float, alone: int) -> float:
    """Seconds, of the steps that take ``training``: a share of them learns from labels alone, and ``alone`` steps at least."""
    per_step = max(unlabeled_after * pace.before + (1 - unlabeled_after) * pace.after, 1e-6)
    of_alone = alone * pace.before
    if training <= 0 or unlabeled_after * training / per_step >= alone:
        return per_step
    if training <= of_alone:
        return max(pace.before, 1e-6)
    return training / (alone + (training - of_alone) / max(pace.after, 1e-6))


def _apart(steps: int, times: float) -> int:
    """Every how many of ``steps`` something is due that many ``times``, the last time at the last step."""
    return max(-(-steps // max(round(times), 1)), 1)
