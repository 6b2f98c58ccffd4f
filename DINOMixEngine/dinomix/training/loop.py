"""The steps of a run, with their records, validations and checkpoints, until the last one or until something is asked for."""

from collections.abc import Callable
from dataclasses import replace

import torch

from dinomix.events import Progress, silent
from dinomix.training.batches import in_order
from dinomix.training.control import Asked, Wish
from dinomix.training.recording import record, record_validation, tell_schedule
from dinomix.training.run import Run
from dinomix.training.snapshot import Snapshots, shown_first
from dinomix.training.state import save_state
from dinomix.training.step import training_step


def take_steps(run: Run) -> Wish:
    """Train to the last step, or to the end of the step in which something was asked for; the state is saved then.

    Returns:
        Why training ended: GO at the last step, else what was asked for.
    """
    validate_if_due, state = _validation(run), run.state
    with run.control.listening():
        if run.budget is not None:
            run.budget.begin(state.step)
        _let_wait_or_count(run)  # before the first step nothing has asked for that yet
        # A pause that came during a validation left it out.
        if wish := validate_if_due():
            return wish
        progress = _progress(run)
        while state.step < run.schedule.steps:
            if wish := _steps_of_schedule(run, validate_if_due, progress):
                return wish
    return Wish.GO


def _steps_of_schedule(run: Run, validate_if_due: Callable[[], Wish], progress: Callable[[int], None]) -> Wish:
    """Train as long as the schedule is the same."""
    state, schedule, accelerator = run.state, run.schedule, run.accelerator
    for batch in in_order(run.batches):
        terms = training_step(run, batch.to(accelerator.device))
        state.step += 1
        recording = schedule.is_recorded(state.step)
        wish = _agreed(run, recording) if accelerator.num_processes > 1 else run.control.wish(run.emit)
        if state.step == schedule.steps and wish is Wish.STOP:
            wish = Wish.GO  # it ends here anyway, with its last validation
        saving = wish or schedule.is_saved(state.step)
        if saving or recording:
            record(run, terms)
            progress(state.step)
        wish = wish or validate_if_due()
        why = _let_wait_or_count(run)
        if refitted := bool(saving or why) and wish is not Wish.STOP and _ends_elsewhere(run, why):
            _let_wait_or_count(run)  # their beginning may have come nearer
            wish = wish or validate_if_due()
        if saving or wish or refitted:
            save_state(run)
            run.control.saved_step = state.step
        if wish or run.schedule is not schedule:
            return wish
    return Wish.GO


def _let_wait_or_count(run: Run) -> str:
    """Where pseudo-labels begin to wait for their teacher, or wait no more: give the run that schedule, and its batches.

    Returns:
        What happens, in words; "" where nothing changes.
    """
    step, old = run.state.step, run.schedule
    waits = step >= old.pseudo_labels_from and run.method.waits(run)
    if waits == old.waits:
        return ""
    run.state.schedule = replace(old, waits=waits)
    run.batches = run.batches.of_schedule(run.schedule, step)
    if run.budget is not None:
        run.budget.left(old, step)  # sees the pace of the last steps
        run.budget.begin(step)
    return "pseudo-labels wait" if waits else "pseudo-labels count from now on"


def _ends_elsewhere(run: Run, why: str) -> bool:
    """Where a budget of time would be missed: give the run another schedule, and the batches of its steps.

    Args:
        why: what makes steps take another time from now on; "" where only the computer can.
    """
    step, old = run.state.step, run.schedule
    if run.budget is None or step == old.steps or (new := run.budget.kept(run, anew=bool(why))) is None:
        return False
    run.state.schedule = new
    run.batches = run.batches.of_schedule(new, step)
    pace = "more slowly" if new.steps < old.steps else "faster"
    told = f"This computer trains {pace} than before" + (f", as {why}" if why else "")
    text = f"{told}: {new.steps} steps in all instead of {old.steps}, to end in time. "
    if step < new.pseudo_labels_from:
        text += new.about_pseudo_labels(run.config, run.labels_alone)
    tell_schedule(run, new, step, text.rstrip())
    return True


def _validation(run: Run) -> Callable[[], Wish]:
    """A function that validates where that is due; it returns what was asked for meanwhile."""
    cases = shown_first(run.cohort.with_role("validation"))
    snapshots = Snapshots(run.directory, cases[0]) if cases else None

    def validate_if_due() -> Wish:
        step = run.state.step
        if snapshots is None or step <= run.state.validated or not run.schedule.is_validated(step):
            return Wish.GO
        budget = run.budget
        began = budget.spent if budget is not None else 0.0
        try:
            record_validation(run, cases, snapshots)
        except Asked as asked:
            return asked.wish
        if budget is not None:
            budget.leave_out(budget.spent - began)
        return Wish.GO

    return validate_if_due


def _progress(run: Run) -> Callable[[int], None]:
    """A function that announces how far the run is, and when it will end."""
    budget, step = run.budget, run.state.step
    if budget is None:
        return Progress(run.emit, "train", run.schedule.steps, step)
    budget.begin(step)

    def progress(step: int) -> None:
        run.emit("progress", stage="train", step=step, total=run.schedule.steps, eta=budget.left(run.schedule, step))

    progress(step)
    return progress


def _agreed(run: Run, ask: bool) -> Wish:
    """What any process was asked for; all hear of it at the same step."""
    if not ask:
        return Wish.GO
    mine = torch.tensor([run.control.wish(silent)], device=run.accelerator.device)
    return Wish(int(run.accelerator.gather(mine).max()))
