"""A run in two stages: the first sees whole cases on a coarse grid, the second boxes around thin structures on a finer one.

The second stage is an ordinary training on a cohort of its own, the boxes, which lies in RUN/second with its cases, cache and
checkpoints. RUN/events.jsonl tells both as one run: the second's steps count on from the first's.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from time import monotonic
from typing import Any

from safetensors.torch import load_file

from dinomix.errors import DinomixError
from dinomix.events import ProgressOfPart
from dinomix.models.folder import Model
from dinomix.planning.plan import Plan, SecondStage
from dinomix.training import fkd
from dinomix.training.budget import LEAST
from dinomix.training.config import TrainConfig
from dinomix.training.control import Asked, Wish
from dinomix.training.run import Run
from dinomix.training.run_directory import RunDirectory
from dinomix.training.second_cohort import box_cohort, places
from dinomix.training.stage import Trained, best_weights, paused_as_asked, take_all_steps


def train_two_stages(run: Run) -> tuple[Wish, list[Trained]]:
    """Train both stages of a run, or what is left of them.

    Args:
        run: the whole; it gets no state of its own.

    Returns:
        GO, or STOP where it was asked to end early; and what each stage that was begun has come to.

    Raises:
        Asked, RunPaused, KeyboardInterrupt: as ``stage.take_all_steps``; Asked only before the end of the first stage.
        DinomixError: a case's files have changed, or no labeled case has a box.
    """
    second, began, spent = opened_second(run.directory), run.began, 0.0
    if second is None:
        first = _run_of_first(run)
        if (wish := take_all_steps(first)) is Wish.STOP:
            return wish, [Trained.of_run(first)]
        spent, began = first.budget.spent if first.budget is not None else 0.0, monotonic()
        del first
        run.accelerator.free_memory()
    try:
        second = second or _begun_second(run, spent)
        of_second = _run_of_second(run, second, began)
        with second.locked() if run.accelerator.is_main_process else nullcontext():
            wish = take_all_steps(of_second)
    except Asked as asked:
        if asked.wish is not Wish.STOP:
            raise paused_as_asked(run) from None
        of_checkpoint = Trained.of_checkpoint(second, run.emit) if second is not None else None
        return asked.wish, [_first_of(run), *([of_checkpoint] if of_checkpoint is not None else [])]
    return wish, [_first_of(run), Trained.of_run(of_second)]


def opened_second(directory: RunDirectory) -> RunDirectory | None:
    """The second stage of a run; None where there is none, or it was not begun yet."""
    has_one = directory.plan.second is not None and (directory.second / "config.json").exists()
    return RunDirectory.open(directory.second) if has_one else None


def with_places(directory: RunDirectory) -> Plan:
    """The plan of a run whose second stage was begun, with what its labeled cases show of places."""
    second = directory.plan.second
    assert second is not None
    return directory.plan.model_copy(update={"second": second.model_copy(update={"places": places(directory, second)})})


def config_of_first(config: TrainConfig, second: SecondStage) -> TrainConfig:
    """The first stage's share of the steps and of the time."""
    share = 1 - second.share
    steps = max(round(share * config.steps), 1) if config.steps is not None else None
    return config.model_copy(update={"steps": steps, "time": share * config.time if config.time is not None else None})


def config_of_second(config: TrainConfig, second: SecondStage, spent: float, has_unlabeled: bool) -> TrainConfig:
    """What is left for the second stage.

    Args:
        spent: seconds, by the first stage.
        has_unlabeled: whether the first stage found a box in any unlabeled case; else there is nothing but labels to learn from.
    """
    first = config_of_first(config, second)
    steps = max(config.steps - first.steps, 1) if config.steps is not None and first.steps is not None else None
    seconds = max(config.time - spent, LEAST * second.share * config.time) if config.time is not None else None
    method, pic = config.method, config.pic
    if not has_unlabeled:
        # Boxes that were to cross from labeled to unlabeled patches have nowhere to go.
        method, pic = "labeled-only", pic.model_copy(update={"enabled": pic.enabled and not pic.across})
    return config.model_copy(update={"steps": steps, "time": seconds, "method": method, "pic": pic})


def _first_of(run: Run) -> Trained:
    trained = Trained.of_checkpoint(run.directory, run.emit)
    if trained is None:
        raise DinomixError(
            f"{run.directory.path} has lost the checkpoint of its first stage.",
            "Put the folder checkpoints back, or delete the folder second to train the run from its beginning.",
        )
    return trained


def _second_plan(run: Run) -> SecondStage:
    assert run.directory.plan.second is not None
    return run.directory.plan.second


def _run_of_first(run: Run) -> Run:
    config, second = run.config, _second_plan(run)
    left = config_of_second(config, second, (1 - second.share) * (config.time or 0), True)

    def steps_after(steps: int) -> int:
        return left.steps if left.steps is not None else round(steps * second.share / (1 - second.share))

    emit = _OfStage(run, 0, steps_after, left.time)
    directory = replace(run.directory, config=config_of_first(config, second))
    return Run(directory, run.accelerator, run.foundation, run.control, emit, run.began, run.forgetting)


def _begun_second(run: Run, spent: float) -> RunDirectory:
    """Cut the boxes and begin the second stage. Raises Asked between two cases, where one process trains."""
    if run.accelerator.is_main_process:
        directory, second, first = run.directory, _second_plan(run), _first_of(run)
        plan, labels = directory.plan.of_first, directory.cohort.labels
        model = Model(directory.model, labels, plan, best_weights(first).weights, {})
        emit = run.control.obeying(run.emit) if run.accelerator.num_processes == 1 else run.emit
        cohort = box_cohort(directory, second, model, str(run.accelerator.device), emit)
        has_unlabeled = bool(cohort.with_role("unlabeled"))
        if run.config.uses_unlabeled and not has_unlabeled:
            run.emit("notice", message="The first stage found none of the thin structures in any unlabeled case, so the "
                                       "second one learns from the labeled cases alone.")  # fmt: skip
        config = config_of_second(run.config, second, spent, has_unlabeled)
        start = load_file(directory.second_start) if directory.second_start.exists() else None
        RunDirectory.create(directory.second, config, cohort, second.plan, None, start, steps_before=first.steps_done)
    run.accelerator.wait_for_everyone()
    return RunDirectory.open(run.directory.second)


def _run_of_second(run: Run, second: RunDirectory, began: float) -> Run:
    foundation = None
    if second.config.fkd.mode != "off":
        foundation = fkd.teacher_of(second.config.fkd, second.plan, second.cohort)
        foundation = foundation.on(run.accelerator.device, second.config.precision, run.emit)
    run.control.steps_before, run.control.saved_step = second.steps_before, 0
    emit = _OfStage(run, second.steps_before, lambda steps: 0, None, (run.config.time or 0) - (second.config.time or 0))
    return Run(second, run.accelerator, foundation, run.control, emit, began)


class _OfStage:
    """One stage's events, told as those of the whole run.

    Args:
        before: steps of the first stage, in the second.
        steps_after: steps of the second stage, in the first, by the first's.
        seconds_after: likewise; None where a step of it takes about as long.
        seconds_before: of the first stage, in the second.
    """

    def __init__(
        self,
        run: Run,
        before: int,
        steps_after: Callable[[int], int],
        seconds_after: float | None,
        seconds_before: float = 0.0,
    ) -> None:
        self._emit, self._seconds, self._seconds_before = run.emit, run.config.time, seconds_before
        self._before, self._steps_after = before, steps_after
        self._progress = ProgressOfPart(run.emit, before, 0, "train", seconds_after)

    def __call__(self, kind: str, **fields: Any) -> None:
        if kind == "progress":
            self._progress.after = self._steps_after(fields["total"])
            self._progress(kind, **fields)
        elif kind != "snapshot" or not self._before:  # a box does not take the place of a whole case
            self._emit(kind, **(fields | self._counted_on(kind, fields)))

    def _counted_on(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        changed = {"step": self._before + fields["step"]} if "step" in fields else {}
        if kind == "schedule":
            changed["steps"] = self._before + fields["steps"] + self._steps_after(fields["steps"])
            changed["seconds"] = self._seconds
            changed |= {name: self._seconds_before + fields[name] for name in ("spent", "prepared")}
            changed["message"] = f"{'Second' if self._before else 'First'} of two stages: {fields['message']}"
        if kind == "checkpoint" and self._before:
            changed["path"] = f"second/{fields['path']}"
        return changed
