"""Where a run comes from and what it leaves: weights taken over from a model, and the model folder of the result."""

import platform
from typing import Any

import torch
from torch import Tensor

from dinomix import __version__
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, read_events
from dinomix.files import sha256
from dinomix.labels import LabelSet, normalized_name
from dinomix.models.folder import Model, write_model
from dinomix.models.network import build_network
from dinomix.planning.cache import CachedCase
from dinomix.planning.plan import Plan
from dinomix.training.preview import draw_preview
from dinomix.training.run_directory import RunDirectory


def matched_weights(model: Model, labels: LabelSet, plan: Plan, seed: int, emit: Emit) -> dict[str, Tensor]:
    """Weights of ``plan``'s network for ``labels``, taken from a model with other classes.

    Tensors of equal shape are copied whole. Where only the first axis differs it is the output channel: the background's
    and each structure's are copied by name, and a structure that the model does not know starts from the seed.

    Raises:
        DinomixError: the two networks differ in more than their classes.
    """
    torch.manual_seed(seed)
    weights = build_network(plan, labels.channels).state_dict()
    if set(weights) != set(model.weights):
        raise DinomixError(
            f"The network of {model.path} is not the plan's network.",
            "Start without --set plan.network, or from scratch.",
        )
    known = {normalized_name(name): channel for channel, name in enumerate(model.labels.names, 1)}
    pairs = [(0, 0)]
    pairs += [
        (channel, known[normalized_name(name)])
        for channel, name in enumerate(labels.names, 1)
        if normalized_name(name) in known
    ]
    for name, target in weights.items():
        source = model.weights[name].to(target.dtype)
        per_class = target.shape[:1] == (labels.channels,) and source.shape[:1] == (model.labels.channels,)
        if target.shape[1:] != source.shape[1:] or (target.shape != source.shape and not per_class):
            raise DinomixError(
                f"{name} of {model.path} has the shape {tuple(source.shape)}, not {tuple(target.shape)}.",
                "Start without --set plan.network, or from scratch.",
            )
        if per_class and name in _output_tensors(weights):
            for to, taken in pairs:
                target[to] = source[taken]
        else:
            target.copy_(source)
    new = [name for name in labels.names if normalized_name(name) not in known]
    if new:
        emit("warning", message=f"{model.path} does not know {', '.join(new)}; they are learned from the beginning.")
    return weights


def _output_tensors(weights: dict[str, Tensor]) -> set[str]:
    """The last weight and bias of a network: MONAI's networks end with the convolution to the classes."""
    return set(list(weights)[-2:])


def write_result(
    directory: RunDirectory,
    weights: dict[str, Tensor],
    teacher: str | None,
    cached: dict[str, CachedCase],
    steps_done: int,
    emit: Emit,
) -> None:
    """Write RUN/model, with a record of how it came about; the EMA teacher's weights are the model's.

    ``steps_done`` are fewer than the run's where it was stopped.
    """
    cohort, plan = directory.cohort, directory.plan
    emit("progress", stage="write the model", step=0, total=1, eta=None)
    preview = draw_preview(cohort, plan, cached)
    record = _record(directory, teacher, steps_done)
    write_model(directory.model, plan=plan, labels=cohort.labels, weights=weights, record=record, preview=preview)
    emit("progress", stage="write the model", step=1, total=1, eta=0.0)


def _record(directory: RunDirectory, teacher: str | None, steps_done: int) -> dict[str, Any]:
    cohort, config = directory.cohort, directory.config
    validations = [event for event in read_events(directory.events) if event["kind"] == "validation"]
    best = max(reversed(validations), key=lambda event: event["mean"], default=None)
    return {
        "dinomix": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "method": config.method,
        "pic": config.pic.enabled,
        "fkd": config.fkd.mode,
        "fkd_teacher": teacher,
        "steps": config.steps,
        "steps_done": steps_done,
        "seed": config.seed,
        "labeled_cases": len(cohort.with_role("labeled")),
        "unlabeled_cases": len(cohort.with_role("unlabeled")) if config.uses_unlabeled else 0,
        "cohort_sha256": sha256(directory.path / "cohort.json"),
        "voxels": labeled_voxels(cohort),
        "validation": {"step": best["step"], "dice": best["dice"], "mean": best["mean"]} if best else None,
        "config": config.model_dump(mode="json"),
    }


def labeled_voxels(cohort: Cohort) -> dict[str, int]:
    """Structure name -> voxels in all labeled cases, on their own grids."""
    cases = cohort.with_role("labeled")
    return {s.name: sum(case.voxels.get(s.id, 0) for case in cases) for s in cohort.labels.structures}
