"""The steps of a run, with their records, validations and checkpoints, until the last one or until something is asked for."""

import torch

from dinomix.events import Progress, silent
from dinomix.training.batches import in_order
from dinomix.training.control import Asked, Wish
from dinomix.training.recording import record, record_validation
from dinomix.training.run import Run
from dinomix.training.snapshot import Snapshots, shown_first
from dinomix.training.state import save_state
from dinomix.training.step import training_step


def take_steps(run: Run) -> Wish:
    """Train to the last step, or to the end of the step in which something was asked for; the state is saved then.

    Returns:
        Why training ended: GO at the last step, else what was asked for.
    """
    state, accelerator = run.state, run.accelerator
    cases = shown_first(run.cohort.with_role("validation"))
    snapshots = Snapshots(run.directory, cases[0]) if cases else None

    def validate_if_due() -> Wish:
        due = state.step > state.validated and run.schedule.is_validated(state.step)
        if snapshots is None or not due:
            return Wish.GO
        try:
            record_validation(run, [run.cases[case.name] for case in cases], snapshots)
        except Asked as asked:
            return asked.wish
        return Wish.GO

    with run.control.listening():
        # A pause that came during a validation left it out.
        if wish := validate_if_due():
            return wish
        progress = Progress(run.emit, "train", run.schedule.steps, state.step)
        for batch in in_order(run.batches):
            terms = training_step(run, batch.to(accelerator.device))
            state.step += 1
            recording = run.schedule.is_recorded(state.step)
            wish = _agreed(run, recording) if accelerator.num_processes > 1 else run.control.wish(run.emit)
            last = state.step == run.schedule.steps
            if last and wish is Wish.STOP:
                wish = Wish.GO  # it ends here anyway, with its last validation
            saving = wish or run.schedule.is_saved(state.step)
            if saving or recording:
                record(run, terms)
                progress(state.step)
            wish = wish or validate_if_due()
            if saving or wish:
                save_state(run)
                run.control.saved_step = state.step
            if wish:
                return wish
    return Wish.GO


def _agreed(run: Run, ask: bool) -> Wish:
    """What any process was asked for; all hear of it at the same step."""
    if not ask:
        return Wish.GO
    mine = torch.tensor([run.control.wish(silent)], device=run.accelerator.device)
    return Wish(int(run.accelerator.gather(mine).max()))
