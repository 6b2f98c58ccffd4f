"""One stage of a run, from its preparation to its last step; most runs have only one."""

from dataclasses import dataclass

from torch import Tensor

from dinomix.events import Emit
from dinomix.training.checkpoints import Best
from dinomix.training.control import Control, RunPaused, Wish
from dinomix.training.loop import take_steps
from dinomix.training.preparing import prepare
from dinomix.training.run import Run
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import Schedule


@dataclass(frozen=True)
class Trained:
    """What a stage has come to.

    Attributes:
        last: the EMA teacher's weights by now.
        steps, steps_done: those that it was to take, and that it took; fewer where it was stopped.
    """

    directory: RunDirectory
    last: dict[str, Tensor]
    steps: int
    steps_done: int

    @classmethod
    def of_checkpoint(cls, directory: RunDirectory, emit: Emit) -> "Trained | None":
        """None where no step was saved yet. Raises DinomixError where the checkpoint is damaged."""
        saved = directory.checkpoints.load(emit)
        if saved is None or not saved["step"]:
            return None
        return cls(directory, saved["teacher"], Schedule(**saved["schedule"]).steps, saved["step"])

    @classmethod
    def of_run(cls, run: Run) -> "Trained":
        return cls(run.directory, run.state.teacher.state_dict(), run.schedule.steps, run.state.step)


def best_weights(trained: Trained) -> Best:
    """The best weights of a stage; of one that does not validate, the last. Raises DinomixError where they are damaged."""
    return trained.directory.checkpoints.load_best() or Best(trained.last, None)


def take_all_steps(run: Run) -> Wish:
    """Prepare a stage and train it to its end.

    Returns:
        GO, or STOP where it was asked to end early.

    Raises:
        Asked: anything was asked for while its cases were being prepared.
        RunPaused: it was asked to pause.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
    """
    prepare(run)
    wish = take_steps(run)
    if wish is Wish.INTERRUPT:
        raise KeyboardInterrupt
    if wish is Wish.PAUSE:
        raise paused_as_asked(run)
    if doubts := run.method.doubts(run):
        run.emit("notice", message=doubts)
    return wish


def paused_in_preparation(control: Control) -> RunPaused:
    """The request is obeyed, before there was anything to make a model of: what is to be raised."""
    control.obeyed()
    return RunPaused(
        "The run was ended while its cases were still being prepared, so no model was written.",
        "Resume it to train it; the cases that are done are kept.",
        asked=True,
    )


def paused_as_asked(run: Run) -> RunPaused:
    """The request is obeyed: what is to be raised."""
    run.control.obeyed()
    return RunPaused("The run was paused as asked.", "Resume it when you like.", asked=True)
