"""A run that has a time instead of a number of steps; the clock is one that only the work of the run drives."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dinomix.durations import as_duration, seconds_of
from dinomix.errors import DinomixError
from dinomix.events import read_events
from dinomix.models.folder import load_model
from dinomix.planning import cache as cache_module
from dinomix.training import budget as budget_module
from dinomix.training import loop as loop_module
from dinomix.training import pace as pace_module
from dinomix.training import recording, validation
from dinomix.training import train as train_module
from dinomix.training.arranging import arrange
from dinomix.training.budget import Budget, Pace, fitted
from dinomix.training.config import make_config
from dinomix.training.estimate import estimate
from dinomix.training.methods import mean_teacher
from dinomix.training.methods.mean_teacher import MeanTeacher
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import Schedule
from dinomix.training.step import training_step
from dinomix.training.train import resume, train
from tiny_cohort import make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")

SCHEDULED = {"checkpoint_every": None, "validate_every": None, "record_every": None, "steps": None}


class Work:
    """The time of a computer on which each thing takes its seconds: a step ``step(run)``, all else as given.

    ``measured`` is the time of a step that is measured before the first one, where that is another.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: Callable[[Any], float] = lambda run: 2.0,
                 validation_: float = 3.0, case: float = 1.0, measured: float | None = None) -> None:  # fmt: skip
        self.now, self._lock, self._patch = 1000.0, threading.Lock(), monkeypatch
        self.step = step
        self.cost(loop_module, "training_step", training_step, lambda run, batch: self.step(run))
        self.cost(pace_module, "training_step", training_step, lambda run, batch: measured or self.step(run))
        for module in (pace_module, recording):
            self.cost(module, "validate", validation.validate, lambda *_: validation_)
        self.cost(cache_module, "prepared_case", cache_module.prepared_case, lambda *_: case)
        monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(budget_module, "monotonic", lambda: self.now)
        monkeypatch.setattr(train_module, "monotonic", lambda: self.now)

    def cost(self, module: Any, name: str, work: Callable, seconds: Callable[..., float]) -> None:
        def done(*arguments: Any) -> Any:
            with self._lock:
                self.now += seconds(*arguments)
            return work(*arguments)

        self._patch.setattr(module, name, done)


def events_of(run: Path, kind: str) -> list[dict]:
    return [event for event in read_events(run / "events.jsonl") if event["kind"] == kind]


def same_weights(one: Path, other: Path) -> bool:
    first, second = (RunDirectory.open(run).checkpoints.load() for run in (one, other))
    assert first is not None and second is not None
    return first["step"] == second["step"] and all(
        torch.equal(tensor, second[part][name])
        for part in ("student", "teacher")
        for name, tensor in first[part].items()
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), (" 1H 30 min", 5400), ("0.5h", 1800)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds == seconds_of(as_duration(seconds))


@pytest.mark.parametrize("text", ["", "30", "m", "1x", "-5m", "1m1h", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DinomixError, match="is no duration"):
        seconds_of(text)
    with pytest.raises(DinomixError, match="is no duration"):
        make_config(time=text)


def test_a_run_on_a_steady_computer_is_that_of_as_many_steps(cohort, cache, tmp_path: Path, monkeypatch) -> None:
    work = Work(monkeypatch, case=0.0)
    began = work.now
    config = small_config("mean-teacher", pic=True, time=60.0, **SCHEDULED)
    train(cohort, tmp_path / "timed", config, make_plan(), cache=cache)
    (told,) = events_of(tmp_path / "timed", "schedule")
    assert 52 <= work.now - began <= 60
    assert told["seconds"] == 60 and "12 steps" not in told["message"] and f"{told['steps']} steps" in told["message"]
    assert load_model(tmp_path / "timed/model").record["steps"] == told["steps"]
    counted = small_config("mean-teacher", pic=True, steps=told["steps"])
    train(cohort, tmp_path / "counted", counted, make_plan(), cache=cache)
    assert same_weights(tmp_path / "timed", tmp_path / "counted")


def test_a_run_too_short_for_pseudo_labels_has_the_steps_of_labels_alone(cohort, cache, tmp_path: Path, monkeypatch):
    """Each labeled case is seen once a step, and 75 times takes 150 s."""
    told = []
    for method in ("labeled-only", "mean-teacher"):
        Work(monkeypatch, case=0.0)
        config = small_config(method, time=60.0, wait_until_found=True, unseen_weight=1, **SCHEDULED)
        train(cohort, tmp_path / method, config, make_plan(), cache=cache)
        told += events_of(tmp_path / method, "schedule")
        assert {event["unsupervised"] for event in events_of(tmp_path / method, "loss")} == {None}
    alone, short = told
    assert short["steps"] == alone["steps"] and short["prepared"] == alone["prepared"]
    assert short["message"].startswith(alone["message"])
    assert short["message"].endswith("labels alone teach more during the first 75.")


def test_what_preparing_takes_is_counted_and_told(cohort, tmp_path: Path, monkeypatch) -> None:
    work = Work(monkeypatch, case=3.0)
    config = small_config("labeled-only", time=100.0, **SCHEDULED)
    began = work.now
    train(cohort, tmp_path / "run", config, make_plan())
    (told,) = events_of(tmp_path / "run", "schedule")
    cases = len(cohort.cases) - len(cohort.with_role("unlabeled"))
    prepared = 3 * cases + 2 * 2 + 3  # cases that it reads, two steps of the one phase that there is, a validation
    assert told["prepared"] == prepared and f"{as_duration(prepared)} went into" in told["message"]
    assert 90 <= work.now - began <= 100


def test_training_gets_a_quarter_however_long_the_cases_took(cohort, tmp_path: Path, monkeypatch) -> None:
    work = Work(monkeypatch, case=50.0)
    config = small_config("labeled-only", time=100.0, **SCHEDULED)
    train(cohort, tmp_path / "run", config, make_plan())
    (told,) = events_of(tmp_path / "run", "schedule")
    assert told["prepared"] > 100 and "the run ends after about" in told["message"]
    # A quarter of the time, a validation at the end and another one by the model that is written.
    assert told["steps"] >= 8 and work.now - 1000 <= told["prepared"] + 26 + 2 * 3


def test_training_gets_a_quarter_however_long_validating_takes(cohort, tmp_path: Path, monkeypatch) -> None:
    work = Work(monkeypatch, validation_=60.0)
    config = small_config("labeled-only", time=100.0, **SCHEDULED)
    train(cohort, tmp_path / "run", config, make_plan())
    (told,) = events_of(tmp_path / "run", "schedule")
    assert told["steps"] >= 11 and "the run ends after about 3m33s" in told["message"]
    assert work.now - 1000 <= 220


@pytest.mark.parametrize(("factor", "word"), [(2.0, "more slowly"), (0.5, "faster")])
def test_another_pace_changes_the_number_of_steps(factor: float, word: str, cohort, cache, tmp_path: Path, monkeypatch):
    work = Work(monkeypatch, step=lambda run: 2.0 if run.state.step < 12 else 2.0 * factor, case=0.0, measured=2.0)
    config = small_config("mean-teacher", time=80.0, **SCHEDULED)
    began = work.now
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    first, *others = events_of(tmp_path / "run", "schedule")
    assert others and word in others[0]["message"]
    assert (others[-1]["steps"] > first["steps"]) == (factor < 1)
    assert 68 <= work.now - began <= 90  # a step of 4 s and a validation of 3 s are a tenth of it
    losses = events_of(tmp_path / "run", "loss")
    rates = [event["learning_rate"] for event in losses]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.25 * rates[0]  # its progress never jumps back
    assert losses[-1]["step"] == others[-1]["steps"] == load_model(tmp_path / "run/model").record["steps_done"]
    assert 2 <= len(events_of(tmp_path / "run", "validation")) <= 13


@pytest.mark.parametrize(("stop", "opens"), [(5, 0), (17, 0), (19, 18)])
def test_a_timed_run_that_is_killed_goes_on_as_it_would_have(
    stop: int, opens: int, cohort, cache, tmp_path: Path, monkeypatch
) -> None:
    """Also after its number of steps has changed, by the computer's pace or as pseudo-labels count in step ``opens``; the hours
    between are no part of its time."""

    def pace(run: Any) -> float:
        return 2.0 if run.state.step < 12 else 4.0

    config = small_config("mean-teacher", pic=True, time=80.0, **SCHEDULED)
    Work(monkeypatch, step=pace, case=0.0, measured=2.0)
    monkeypatch.setattr(MeanTeacher, "waits", lambda self, run: run.state.step < opens)
    train(cohort, tmp_path / "whole", config, make_plan(), cache=cache)
    monkeypatch.undo()

    work = Work(monkeypatch, step=pace, case=0.0, measured=2.0)
    monkeypatch.setattr(MeanTeacher, "waits", lambda self, run: run.state.step < opens)
    costly = loop_module.training_step

    def killed(run, batch):
        if run.state.step == stop:
            raise KeyboardInterrupt
        return costly(run, batch)

    monkeypatch.setattr(loop_module, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(cohort, tmp_path / "killed", config, make_plan(), cache=cache)
    monkeypatch.setattr(loop_module, "training_step", costly)
    work.now += 5 * 3600
    resume(tmp_path / "killed")
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    one, other = (
        [(e["step"], e["steps"]) for e in events_of(tmp_path / run, "schedule")] for run in ("whole", "killed")
    )
    assert one == other and len(one) > 1


def test_the_time_left_is_told_for_both_phases(cohort, cache, tmp_path: Path, monkeypatch) -> None:
    def in_phases(run: Any) -> float:
        return 1.0 if run.state.step < run.schedule.pseudo_labels_from else 3.0

    work = Work(monkeypatch, step=in_phases, case=0.0)
    told: list[tuple[float, float]] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "progress" and fields["stage"] == "train":
            told.append((work.now, fields["eta"]))

    config = small_config("mean-teacher", time=90.0, **{**SCHEDULED, "pseudo_label_start": 0.3})
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache, emit=emit)
    for now, left in told:
        assert now + left == pytest.approx(work.now, abs=12)


@pytest.mark.parametrize("opens", [None, 30])
def test_a_run_whose_pseudo_labels_wait_ends_in_time(cohort, cache, tmp_path: Path, monkeypatch, opens) -> None:
    """Steps in which they wait are as short as before: nothing is cut from unlabeled cases for them."""
    shown: list[int] = []

    def seconds(run: Any) -> float:
        return 1.0 if run.state.step < run.schedule.teaching_from else 3.0

    work = Work(monkeypatch, step=seconds, case=0.0)
    work.cost(loop_module, "training_step", training_step,
              lambda run, batch: shown.append(len(batch.unlabeled)) or seconds(run))  # fmt: skip
    monkeypatch.setattr(MeanTeacher, "waits", lambda self, run: opens is None or run.state.step < opens)
    began, config = work.now, small_config("mean-teacher", time=90.0, **{**SCHEDULED, "pseudo_label_start": 0.3})
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    assert 80 <= work.now - began <= 92
    messages = " ".join(event["message"] for event in events_of(tmp_path / "run", "schedule"))
    assert messages.count("faster than before, as pseudo-labels wait:") == 1
    assert messages.count("more slowly than before, as pseudo-labels count from now on:") == (opens is not None)
    notices = " ".join(event["message"] for event in events_of(tmp_path / "run", "notice"))
    assert notices.count("pseudo-labels did not count.") == (opens is None)
    assert [bool(count) for count in shown] == [opens is not None and step >= opens for step in range(len(shown))]
    assert len(shown) > 38 and RunDirectory.open(tmp_path / "run").checkpoints.load()["step"] == len(shown)  # type: ignore[index]
    losses = events_of(tmp_path / "run", "loss")
    assert {event["unsupervised"] is None for event in losses} == ({True} if opens is None else {True, False})
    # As soon as they wait, the learning rate is that of a run of so many steps from the first one on.
    schedules = events_of(tmp_path / "run", "schedule")
    waiting = next(number for number, event in enumerate(schedules) if "labels wait:" in event["message"])
    first, until = (
        schedules[waiting]["step"],
        schedules[waiting + 1]["step"] if schedules[waiting + 1 :] else len(shown),
    )
    since = [event for event in losses if first < event["step"] <= until]
    rates = [config.learning_rate * (1 - (e["step"] - 1) / schedules[waiting]["steps"]) ** config.poly for e in since]
    assert rates and [event["learning_rate"] for event in since] == pytest.approx(rates)


def test_the_steps_that_are_given_are_the_most(cohort, cache, tmp_path: Path, monkeypatch) -> None:
    Work(monkeypatch, case=0.0)
    config = small_config("labeled-only", **{**SCHEDULED, "steps": 7, "time": 500.0})
    train(cohort, tmp_path / "run", config, make_plan(), cache=cache)
    assert [event["steps"] for event in events_of(tmp_path / "run", "schedule")] == [7]


def test_an_estimate_says_how_many_steps_fit(cohort, monkeypatch) -> None:
    Work(monkeypatch)
    said = estimate(cohort, small_config("labeled-only", time=100.0, **SCHEDULED), make_plan())
    assert 80 <= said["seconds"] <= 101 and said["seconds_per_step"] == 2.0 and 35 <= said["steps"] <= 48


def test_an_estimate_leaves_as_much_time_for_the_end_as_a_run(tmp_path: Path, monkeypatch) -> None:
    """The run's model is asked about the validation cases four times, as long as a validation each."""
    cohort = make_cohort(tmp_path / "cases", validation=2)
    Work(monkeypatch, validation_=15.0, case=0.0)
    config = small_config("labeled-only", time=200.0, **SCHEDULED)
    said = estimate(cohort, config, make_plan())
    train(cohort, tmp_path / "run", config, make_plan())
    (told,) = events_of(tmp_path / "run", "schedule")
    # The run's clock also counts what was measured: up to six steps and a validation.
    assert told["steps"] <= said["steps"] <= told["steps"] + (6 * 2 + 15) / 2
    assert 180 <= said["seconds"] <= 200


@pytest.mark.parametrize(
    ("often", "ends"), [(30, "count after 30 steps at the earliest."), (75, "during the first 75.")]
)
def test_an_estimate_says_when_pseudo_labels_count(cohort, often, ends, monkeypatch) -> None:
    """Two labeled cases are both seen in each of about 40 steps."""
    Work(monkeypatch)
    monkeypatch.setattr(mean_teacher, "OFTEN", often)
    config = small_config("mean-teacher", time=100.0, wait_until_found=True, **SCHEDULED)
    assert estimate(cohort, config, make_plan())["pseudo_labels"].endswith(ends)


PACE = Pace(before=1.0, after=2.0, validation=4.0)


@pytest.mark.parametrize("seconds", [60.0, 720.0, 8 * 3600.0])
def test_what_is_fitted_takes_the_time_that_is_left(seconds: float) -> None:
    config = make_config("mean-teacher", time=seconds)
    schedule = fitted(config, PACE, seconds, seconds)
    takes = (
        PACE.of_steps(0, schedule.steps, schedule.pseudo_labels_from) + schedule.validations_after(0) * PACE.validation
    )
    assert 0.85 * seconds <= takes <= seconds
    assert schedule.pseudo_labels_from == pytest.approx(0.5 * schedule.steps, abs=1)
    assert schedule.validations_after(0) * PACE.validation <= 0.2 * seconds + PACE.validation
    assert schedule.checkpoint_every * 2 <= max(seconds / 10, 400)


@pytest.mark.parametrize("alone", [200, 500, 1000])
@pytest.mark.parametrize(("validate_every", "validation"), [(None, 0.1), (50, 0.1), (50, 20.0)])
def test_what_learns_from_labels_alone_is_fitted_from_the_first_step_on(alone, validate_every, validation) -> None:
    """So many steps at least, and half of them: 720 s are 720 steps without pseudo-labels and 480 with them from the half on."""
    config = make_config("mean-teacher", time=720.0, validate_every=validate_every)
    pace = replace(PACE, validation=validation)
    schedule = fitted(config, pace, 720.0, 720.0, labels_alone=alone)
    assert ("first 1000." in schedule.about_pseudo_labels(config, alone)) == (alone == 1000)
    takes = (
        pace.of_steps(0, schedule.steps, schedule.pseudo_labels_from) + schedule.validations_after(0) * pace.validation
    )
    assert 715 - validation <= takes <= 720
    assert schedule.pseudo_labels_from == pytest.approx(min(max(schedule.steps / 2, alone), schedule.steps), abs=1)
    # A slower computer has fewer steps, and as many that learn from labels alone at least.
    slower = fitted(config, Pace(2.0, 4.0, validation), 400.0, 720.0, schedule, 100, labels_alone=alone)
    assert slower.pseudo_labels_from >= min(alone, slower.steps)
    takes = 2 * pace.of_steps(100, slower.steps, slower.pseudo_labels_from)
    takes += slower.validations_after(100) * validation
    assert 395 - 2 * validation <= takes <= 400 + validation


def test_progress_goes_on_from_where_it_is() -> None:
    config = make_config("mean-teacher", time=100.0)
    first = fitted(config, PACE, 100.0, 100.0)
    step = first.steps // 2
    slower = fitted(config, Pace(2.0, 4.0, 4.0), 40.0, 100.0, first, step)
    assert slower.progress(step) == first.progress(step) and slower.progress(slower.steps) == 1.0
    assert slower.pseudo_labels_from == first.pseudo_labels_from
    assert slower.steps < first.steps
    nothing = fitted(config, PACE, 0.0, 100.0, first, step)
    assert nothing.steps == step and nothing.progress(step) == 1.0 and nothing.is_validated(step)


def test_progress_is_that_of_so_many_steps_where_steps_take_another_time() -> None:
    """At once where pseudo-labels begin to wait or to count, and steps in which they count are reckoned as such alone."""
    config = make_config("mean-teacher", time=1000.0)
    waiting = Schedule(900, 264, 90, 90, 1, since=264, done=264 / 900, waits=True)
    for waits, seconds in ((True, 1.0), (False, 2.0)):
        new = fitted(config, PACE, 500.0, 1000.0, replace(waiting, waits=waits), 280, anew=True)
        assert 0.8 * 500 < (new.steps - 280) * seconds < 500
        assert new.progress(280) == pytest.approx(280 / new.steps) and new.progress(new.steps) == 1.0
        assert new.pseudo_labels_from == 264 and new.waits == waits
    slower = fitted(config, Pace(2.0, 4.0, 4.0), 500.0, 1000.0, waiting, 600)
    assert slower.progress(600) == pytest.approx(waiting.progress(600))


def test_time_takes_the_place_of_a_presets_time_and_of_steps(cohort, tmp_path: Path) -> None:
    cohort.write(tmp_path / "cohort.json")
    make_plan().write(tmp_path / "plan.json")

    def config(**given: Any) -> tuple[int | None, float | None]:
        made = arrange(
            tmp_path / "cohort.json", plan=tmp_path / "plan.json", method="labeled-only", device="cpu", **given
        )
        return made.config.steps, made.config.time

    assert config() == (2000, None)
    assert config(time="30m") == (None, 1800)
    assert config(time=90.0, steps=50) == (50, 90)
    assert config(preset="standard", steps=3) == (3, None)
    assert config(preset="standard", time="2m") == (None, 120)
    assert config(preset="standard", settings={"steps": 9}) == (9, None)
    assert config(preset="standard")[1] is not None


def test_the_budget_is_the_clock_of_all_processes_together(monkeypatch) -> None:
    now = [50.0]
    monkeypatch.setattr(budget_module, "monotonic", lambda: now[0])
    first = Budget(make_config(time=100.0), 100.0, 50.0)
    now[0] += 20
    schedule, _ = first.fit(PACE)
    saved = first.saved()
    now[0] += 1000
    second = Budget(make_config(time=100.0), 100.0, now[0])
    second.restore(saved)
    assert second.spent == 20 and second.pace == PACE
    second.begin(0)
    assert 20 + second.left(schedule, 0) == pytest.approx(100, abs=5)
