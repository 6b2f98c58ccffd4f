"""What a run asks the model that it starts from, before its first step."""

import time
from statistics import fmean

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.matched_model import MatchedModel, means
from dinomix.evaluation.references import reference_of
from dinomix.events import Emit, Progress, silent
from dinomix.training.control import Control
from dinomix.training.forgetting import Forgetting
from dinomix.training.kept_structures import is_merged, with_predictions
from dinomix.training.run_directory import RunDirectory
from dinomix.training.start_model import StartModel


def ask_start(directory: RunDirectory, device: str, control: Control, emit: Emit) -> None:
    """Let the start model of a run predict the structures that are to be kept, and say how good it is on the validation cases.

    What it says is kept in the run's cache, so that asking again costs nothing.

    Raises:
        Asked: within a case; what is done is kept.
        DinomixError: structures are to be kept, and the model is not there any more; or a case cannot be read any more.
    """
    try:
        start = StartModel.of(directory, device)
    except DinomixError as error:
        if directory.config.keep_structures and not is_merged(directory.cohort):
            raise
        emit("notice", message=f"The run cannot be compared with the model that it starts from: {error}")
        return
    if start is None:
        return
    if directory.config.keep_structures:
        directory = with_predictions(directory, start, control, emit)
    cohort = directory.cohort
    if cohort.with_role("validation"):
        _score(start, cohort, control, emit)
    elif MatchedModel(start.model, cohort.labels).known:
        emit(
            "notice",
            message="Without validation cases nothing tells whether this run ends better than the model that it starts from.",
            remedy="Give some with `dinomix check --validation`.",
            code="no-validation",
        )


def watch_kept(directory: RunDirectory, device: str) -> Forgetting | None:
    """What tells whether kept structures are forgotten; None where there are none, or nothing to compare with."""
    if not directory.config.keep_structures or not directory.cohort.with_role("validation"):
        return None
    try:
        start = StartModel.of(directory, device)
    except DinomixError:
        return None
    return Forgetting.of(directory, start) if start is not None else None


def _score(start: StartModel, cohort: Cohort, control: Control, emit: Emit) -> None:
    """Announce how good the start model is on the validation cases."""
    began, cases, matched = time.monotonic(), cohort.with_role("validation"), MatchedModel(start.model, cohort.labels)
    progress, scored = Progress(control.obeying(emit), "ask the start model", len(cases)), []
    for number, case in enumerate(cases, 1):
        own = start.labels_of(case, control.obeying(silent))
        scored.append(matched.dice(matched.renamed(own), reference_of(case, own.geometry), case))
        progress(number)
    dice = means(cohort.labels.names, scored)
    known = [value for value in dice.values() if value is not None]
    emit("start", dice=dice, mean=fmean(known) if known else None, seconds=time.monotonic() - began)
