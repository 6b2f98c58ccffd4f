"""Taking over weights between models of other classes: by name, then by terminology, never by number."""

from collections import Counter
from itertools import product

import torch
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.labels import LabelSet, Structure
from dinomix.models.folder import Model
from dinomix.models.network import build_network, network_on_paper
from dinomix.names import normalized_name
from dinomix.planning.plan import Plan

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
    per_class = class_axes(plan, labels.channels)
    for name, target in weights.items():
        source, axes = model.weights[name].to(target.dtype), per_class[name]
        here, there = list(target.shape), list(source.shape)
        if len(here) != len(there) or any(
            a != b for i, (a, b) in enumerate(zip(here, there, strict=True)) if i not in axes
        ):
            raise DinomixError(
                f"{name} of {model.path} has the shape {tuple(there)}, not {tuple(here)}.", _ANOTHER, "start-model"
            )
        if any(there[axis] != model.labels.channels for axis in axes):
            raise DinomixError(f"{name} of {model.path} does not hold one part per class.", _ANOTHER, "start-model")
        for parts in product(pairs, repeat=len(axes)):
            to, taken = [slice(None)] * target.ndim, [slice(None)] * target.ndim
            for axis, (channel, known) in zip(axes, parts, strict=True):
                to[axis], taken[axis] = slice(channel, channel + 1), slice(known, known + 1)
            target[tuple(to)] = source[tuple(taken)]
    _tell(model, labels, dict(pairs), emit)
    return weights


def matched_channels(labels: LabelSet, known: LabelSet) -> dict[int, int]:
    """Channels (1, 2, ...) of ``labels`` -> those of ``known`` that are the same structure.

    By name; where no name fits, by terminology, if only one structure on either side has it.
    """
    by_name = {normalized_name(name): channel for channel, name in enumerate(known.names, 1)}
    pairs = {
        channel: by_name[normalized_name(name)]
        for channel, name in enumerate(labels.names, 1)
        if normalized_name(name) in by_name
    }
    here, there = _unique_codes(labels), _unique_codes(known)
    for codes in here.keys() & there.keys():
        if here[codes] not in pairs and there[codes] not in pairs.values():
            pairs[here[codes]] = there[codes]
    return dict(sorted(pairs.items()))


def class_axes(plan: Plan, channels: int) -> dict[str, tuple[int, ...]]:
    """For each tensor of the plan's network the axes whose length is the number of classes; found without values."""
    shapes, longer = (
        {name: tensor.shape for name, tensor in network_on_paper(plan, count).state_dict().items()}
        for count in (channels, channels + 1)
    )
    return {
        name: tuple(axis for axis, (a, b) in enumerate(zip(shape, longer[name], strict=True)) if a != b)
        for name, shape in shapes.items()
    }


def _unique_codes(labels: LabelSet) -> dict[tuple[str, ...], int]:
    """What terminology each structure has, if no other of the set has it -> its channel."""
    codes = [_codes(structure) for structure in labels.structures]
    count = Counter(codes)
    return {code: channel for channel, code in enumerate(codes, 1) if code and count[code] == 1}


def _codes(structure: Structure) -> tuple[str, ...]:
    if structure.terminology is None:
        return ()
    kind, side = structure.terminology.type, structure.terminology.modifier
    return kind.scheme, kind.value, side.value if side else ""


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
