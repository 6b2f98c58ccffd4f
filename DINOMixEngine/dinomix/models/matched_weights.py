"""Taking over weights between models of other classes, whose structures ``matching`` has found."""

from itertools import product

import torch
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.matching import matched_channels, matched_inputs
from dinomix.models.network import build_network, network_on_paper
from dinomix.names import listed, normalized_name
from dinomix.planning.plan import InputChannel, PercentileWindow, Plan

_ANOTHER = "Start without --set plan.network, or from scratch."


def matched_weights(model: Model, labels: LabelSet, plan: Plan, seed: int, emit: Emit) -> dict[str, Tensor]:
    """Weights of ``plan``'s network for ``labels``, taken from a model with other classes.

    What does not depend on the number of classes is copied whole. Elsewhere the background's and each known structure's
    part is copied, and a structure that the model does not know starts from the seed.

    Raises:
        DinomixError: the two networks differ in more than their classes.
    """
    torch.manual_seed(seed)
    # Clones, since some networks hold a tensor under two names.
    weights = {name: tensor.clone() for name, tensor in build_network(plan, labels.channels).state_dict().items()}
    if set(weights) != set(model.weights):
        raise DinomixError(f"The network of {model.path} is not the plan's network.", _ANOTHER, "start-model")
    pairs = [(0, 0), *matched_channels(labels, model.labels).items()]
    inputs = _input_pairs(plan, model)
    per_class, per_input = class_axes(plan, labels.channels), input_axes(plan, labels.channels)
    for name, target in weights.items():
        source, axes, of_inputs = model.weights[name].to(target.dtype), per_class[name], per_input[name]
        here, there = list(target.shape), list(source.shape)
        if len(here) != len(there) or any(
            a != b for i, (a, b) in enumerate(zip(here, there, strict=True)) if i not in (*axes, *of_inputs)
        ):
            raise DinomixError(
                f"{name} of {model.path} has the shape {tuple(there)}, not {tuple(here)}.", _ANOTHER, "start-model"
            )
        if any(there[axis] != model.labels.channels for axis in axes):
            raise DinomixError(f"{name} of {model.path} does not hold one part per class.", _ANOTHER, "start-model")
        counts = {(here[axis], there[axis]) for axis in of_inputs}
        if len(of_inputs) > 1 or counts - {(len(plan.channels), len(model.plan.channels))}:
            raise DinomixError(
                f"{name} of {model.path} does not hold one part per channel of the images.", _ANOTHER, "start-model"
            )
        if of_inputs:
            target.zero_()  # so that a channel that the model does not know changes nothing at first
        for parts in product(*[pairs] * len(axes), *[inputs] * len(of_inputs)):
            to, taken = [slice(None)] * target.ndim, [slice(None)] * target.ndim
            for axis, (channel, known) in zip((*axes, *of_inputs), parts, strict=True):
                to[axis], taken[axis] = slice(channel, channel + 1), slice(known, known + 1)
            target[tuple(to)] = source[tuple(taken)]
    _tell(model, labels, dict(pairs), emit)
    _tell_inputs(model, plan, dict(inputs), emit)
    return weights


def _input_pairs(plan: Plan, model: Model) -> list[tuple[int, int]]:
    pairs = matched_inputs(plan.channels, model.plan.channels)
    if not pairs:
        raise DinomixError(
            f"{model.path} sees {listed(model.plan.channels)}; the cases have {listed(plan.channels)}.",
            "Start from a model that sees one of these, or from scratch.",
            "start-model",
        )
    return list(pairs.items())


def _tell_inputs(model: Model, plan: Plan, pairs: dict[int, int], emit: Emit) -> None:
    if new := [name for number, name in enumerate(plan.channels) if number not in pairs]:
        emit(
            "notice",
            message=f"{model.path} does not see {listed(new)}; the run begins as if it were not there, and learns it.",
        )
    if lost := [name for number, name in enumerate(model.plan.channels) if number not in pairs.values()]:
        emit("notice", message=f"{model.path} also sees {listed(lost)}, which the cohort does not have.")


def class_axes(plan: Plan, channels: int) -> dict[str, tuple[int, ...]]:
    """For each tensor of the plan's network the axes whose length is the number of classes; found without values."""
    return _axes_that_grow(plan, channels, plan, channels + 1)


def input_axes(plan: Plan, channels: int) -> dict[str, tuple[int, ...]]:
    """For each tensor of the plan's network the axes whose length depends on the number of images of a case."""
    another = InputChannel(name="one more", modality="MR", window=PercentileWindow())
    names = {"channel": plan.channel or "first", "more_channels": (*plan.more_channels, another)}
    return _axes_that_grow(plan, channels, plan.model_copy(update=names), channels)


def _axes_that_grow(plan: Plan, channels: int, larger: Plan, more: int) -> dict[str, tuple[int, ...]]:
    shapes, longer = (
        {name: tensor.shape for name, tensor in network_on_paper(a_plan, count).state_dict().items()}
        for a_plan, count in ((plan, channels), (larger, more))
    )
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(shape, longer[name], strict=True)) if a != b)
        for name, shape in shapes.items()
    }


def _tell(model: Model, labels: LabelSet, pairs: dict[int, int], emit: Emit) -> None:
    renamed = [
        f"{labels.names[channel - 1]} from {model.labels.names[known - 1]}"
        for channel, known in pairs.items()
        if channel and normalized_name(labels.names[channel - 1]) != normalized_name(model.labels.names[known - 1])
    ]
    if renamed:
        emit("notice", message=f"By their terminology, {', '.join(renamed)} of {model.path} are taken over.")
    new = [name for channel, name in enumerate(labels.names, 1) if channel not in pairs]
    if new:
        emit("notice", message=f"{model.path} does not know {', '.join(new)}; they are learned from the beginning.")
