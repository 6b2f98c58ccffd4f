"""What a run leaves: the model folder of its result, with a record of how it came about."""

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinomix import __version__
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, EventFile, silent
from dinomix.files import sha256
from dinomix.models.folder import write_model
from dinomix.planning.cache import AnyCase, cache_cases
from dinomix.training.heartbeat import heartbeat
from dinomix.training.preview import draw_preview
from dinomix.training.run import one_piece_of
from dinomix.training.run_directory import RunDirectory
from dinomix.training.schedule import Schedule


def write_result(
    directory: RunDirectory,
    last: dict[str, Tensor],
    teacher: str | None,
    cached: Mapping[str, AnyCase],
    steps: int,
    steps_done: int,
    emit: Emit,
) -> None:
    """Write RUN/model, with a record of how it came about; the EMA teacher's weights are the model's.

    Args:
        last: its weights by now, for a run that has no best ones since it does not validate.
        steps: those that the run was to take.
        steps_done: fewer where it was stopped.

    Raises:
        DinomixError: the best weights are damaged, or no weights are finite.
    """
    cohort, plan = directory.cohort, directory.plan
    best = directory.checkpoints.load_best()
    weights, validation = (best.weights, best.validation) if best else (last, None)
    emit("progress", stage="write the model", step=0, total=1, eta=None)
    preview = draw_preview(cohort, plan, cached)
    plan = plan.model_copy(update={"one_piece": one_piece_of(directory.config, cohort, cached)})
    record = _record(directory, teacher, steps, steps_done, validation)
    write_model(directory.model, plan=plan, labels=cohort.labels, weights=weights, record=record, preview=preview)
    emit("progress", stage="write the model", step=1, total=1, eta=0.0)


def finish(run: Path, *, emit: Emit = silent) -> Path:
    """End a run that no process trains: its best weights by now become its model, as after a request to stop.

    Returns:
        The model folder.

    Raises:
        DinomixError: no run there, another process trains it, or it has no checkpoint to make a model of.
    """
    directory, began = RunDirectory.open(run), time.monotonic()
    with directory.locked(), heartbeat(run):
        events, fkd = EventFile(directory.events, emit), directory.config.fkd
        saved = directory.checkpoints.load(events)
        if saved is None or not saved["step"]:
            raise DinomixError(
                f"{run} has no checkpoint yet of which a model could be made.", "Resume it, or delete its folder."
            )
        directory.forget_events_after(saved["step"])
        cached = cache_cases(directory.cohort, directory.plan, directory.cache, events)
        teacher = fkd.teacher if fkd.mode != "off" else None
        steps = Schedule(**saved["schedule"]).steps
        write_result(directory, saved["teacher"], teacher, cached, steps, saved["step"], events)
        events("finished", path=str(directory.model), seconds=time.monotonic() - began, stopped=True)
    return directory.model


def _record(
    directory: RunDirectory, teacher: str | None, steps: int, steps_done: int, validation: dict[str, Any] | None
) -> dict[str, Any]:
    cohort, config = directory.cohort, directory.config
    return {
        "dinomix": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "method": config.method,
        "pic": config.pic.enabled,
        "fkd": config.fkd.mode,
        "fkd_teacher": teacher,
        "steps": steps,
        "steps_done": steps_done,
        "seed": config.seed,
        "labeled_cases": len(cohort.with_role("labeled")),
        "unlabeled_cases": len(cohort.with_role("unlabeled")) if config.uses_unlabeled else 0,
        "cohort_sha256": sha256(directory.path / "cohort.json"),
        "voxels": labeled_voxels(cohort),
        "validation": validation,
        "config": config.model_dump(mode="json"),
    }


def labeled_voxels(cohort: Cohort) -> dict[str, int]:
    """Structure name -> voxels in all labeled cases, on their own grids."""
    cases = cohort.with_role("labeled")
    return {s.name: sum(case.voxels.get(s.id, 0) for case in cases) for s in cohort.labels.structures}
