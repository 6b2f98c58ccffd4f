"""What a run leaves: the model folder of its result, with a record of how it came about."""

import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dinomix import __version__
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation import eight_bits
from dinomix.evaluation.calibration_cases import with_calibration
from dinomix.events import Emit, EventFile, silent
from dinomix.files import sha256
from dinomix.models import training_cases
from dinomix.models.folder import Model
from dinomix.models.joining import joined_labels
from dinomix.models.model_under import model_under
from dinomix.models.writing import write_model
from dinomix.planning.cache import AnyCase, cache_cases
from dinomix.training.against_start import judged
from dinomix.training.cleaning import chosen_clean_up
from dinomix.training.heartbeat import heartbeat
from dinomix.training.kept_structures import kept_names
from dinomix.training.overlapping_windows import chosen_overlap, decided
from dinomix.training.preview import draw_preview
from dinomix.training.run import one_piece_of
from dinomix.training.run_directory import RunDirectory
from dinomix.training.stage import Trained, best_weights
from dinomix.training.start_model import StartModel
from dinomix.training.two_stages import opened_second, with_places


def write_result(directory: RunDirectory, teacher: str | None, stages: list[Trained], device: str, emit: Emit) -> None:
    """Write RUN/model, with a record of how it came about; the EMA teachers' best weights are the model's.

    Where the model that the run started from is better on the validation cases, and lacks nothing, it is that one.

    Args:
        stages: a run whose second one was not begun has a model of the first alone.
        device: that compares the two, as ``segment_volume`` takes it.

    Raises:
        DinomixError: the best weights are damaged, or no weights are finite.
    """
    cohort = directory.cohort
    plan = directory.plan.of_first
    if len(stages) > 1:
        plan = with_places(directory)
    cached = cache_cases(directory.read_cohort, plan, directory.cache, emit)
    preview = draw_preview(cohort, plan, cached)
    plan = plan.model_copy(update={"one_piece": one_piece_of(directory.config, cohort, plan, cached)})
    best = [best_weights(stage) for stage in stages]
    record = _record(directory, teacher, stages, [found.validation for found in best])
    second_weights = best[1].weights if len(best) > 1 else None
    model = Model(directory.model, cohort.labels, plan, best[0].weights, record, second_weights)
    if directory.config.cheapest_overlap:
        model = _with_cheapest_overlap(directory, model, cached, device, emit)
    if directory.config.clean_up:
        model = _cleaned_up(directory, model, device, emit)
    model = _not_below_start(directory, model, device, emit)
    boxes = stages[1].directory.cohort if len(stages) > 1 and model.second is not None else None
    model = replace(model, record=model.record | with_calibration(model, cohort, boxes, device, emit))
    emit("progress", stage="write the model", step=0, total=1, eta=None)
    write_model(
        directory.model,
        plan=model.plan,
        labels=model.labels,
        weights=model.weights,
        record=model.record,
        preview=preview,
        second_weights=model.second_weights,
        more_weights=model.more_weights,
        graphs=True,
        emit=emit,
    )
    emit("progress", stage="write the model", step=1, total=1, eta=0.0)
    if directory.config.eight_bits:
        _quantize(directory, cohort, emit)


def _quantize(directory: RunDirectory, cohort: Cohort, emit: Emit) -> None:
    """Give the model in its folder a graph of 8 bits, where the validation cases allow it."""
    try:
        emit("notice", message=eight_bits.quantize_model(directory.model, cohort, emit=emit).in_words)
    except (DinomixError, OSError) as error:
        emit("notice", message=f"No graph of 8 bits was made: {error}")


def _with_cheapest_overlap(
    directory: RunDirectory, model: Model, cached: Mapping[str, AnyCase], device: str, emit: Emit
) -> Model:
    """The model, its windows overlapping as little as its validation cases allow; as it is where they cannot be read any more."""
    cohort = directory.cohort
    sizes = [cached[case.name].size for case in cohort.with_role("validation")]
    try:
        found = chosen_overlap(model, cohort, sizes, device, emit)
    except (DinomixError, OSError) as error:
        emit("notice", message=f"Smaller overlaps of windows were not tried: {error}")
        return model
    if found is None:
        return model
    plan = decided(model.plan, found.overlap)
    return replace(model, plan=plan, record={**model.record, "overlap": found.as_data})


def _cleaned_up(directory: RunDirectory, model: Model, device: str, emit: Emit) -> Model:
    """The model with what its validation cases show to be right to remove; as it is where they cannot be read any more."""
    try:
        found = chosen_clean_up(model, directory.cohort, device, emit)
    except (DinomixError, OSError) as error:
        emit("notice", message=f"It was not tried whether small pieces are better removed: {error}")
        return model
    if not found:
        return model
    plan = model.plan.model_copy(update={"clean_up": tuple(each.rule for each in found)})
    record = {each.structure: each.as_data for each in found}
    return replace(model, plan=plan, record={**model.record, "clean_up": record})


def _not_below_start(directory: RunDirectory, trained: Model, device: str, emit: Emit) -> Model:
    """The run's model: the trained one, or the start model where that is better and lacks nothing; what was found is recorded."""
    try:
        start = StartModel.of(directory, device)
        if start is None or not directory.cohort.with_role("validation"):
            return trained
        verdict = judged(start, directory.cohort, trained, emit)
    except (DinomixError, OSError) as error:
        emit("notice", message=f"The run's model was not compared with the one that it started from: {error}")
        return trained
    if not verdict.message:
        return trained
    emit("verdict", **verdict.as_data)
    if verdict.keeps_start:
        trained = model_under(joined_labels(trained.labels, start.model.labels)[0], start.model)
        # Its graph of 8 bits stays behind.
        trained = replace(trained, record={key: told for key, told in trained.record.items() if key != eight_bits.KEY})
    return replace(trained, record=trained.record | {"start_model": verdict.as_data})


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
        begun = [stage for stage in (directory, opened_second(directory)) if stage is not None]
        stages = [trained for stage in begun if (trained := Trained.of_checkpoint(stage, events)) is not None]
        if not stages:
            raise DinomixError(
                f"{run} has no checkpoint yet of which a model could be made.", "Resume it, or delete its folder."
            )
        stages[-1].directory.forget_events_after(stages[-1].steps_done)
        write_result(directory, fkd.teacher if fkd.mode != "off" else None, stages, directory.config.device, events)
        events("finished", path=str(directory.model), seconds=time.monotonic() - began, stopped=True)
    return directory.model


def _record(
    directory: RunDirectory, teacher: str | None, stages: list[Trained], validations: list[dict[str, Any] | None]
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
        "steps": sum(stage.steps for stage in stages),
        "steps_done": sum(stage.steps_done for stage in stages),
        "seed": config.seed,
        "labeled_cases": len(cohort.with_role("labeled")),
        "unlabeled_cases": len(cohort.with_role("unlabeled")) if config.uses_unlabeled else 0,
        "cohort_sha256": sha256(directory.path / "cohort.json"),
        "voxels": labeled_voxels(cohort),
        **({"kept_structures": kept} if (kept := kept_names(cohort)) else {}),
        training_cases.KEY: training_cases.TrainingCases.of(cohort).model_dump(mode="json"),
        "validation": validations[0],
        **({"validation_of_boxes": validations[1]} if len(validations) > 1 else {}),
        "config": config.model_dump(mode="json"),
    }


def labeled_voxels(cohort: Cohort) -> dict[str, int]:
    """Structure name -> voxels in all labeled cases, on their own grids."""
    cases = cohort.with_role("labeled")
    return {s.name: sum(case.voxels.get(s.id, 0) for case in cases) for s in cohort.labels.structures}
