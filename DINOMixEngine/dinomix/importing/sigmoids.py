"""Networks with a sigmoid per structure or region, as networks whose channels exclude each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dinomix.errors import DinomixError, reason_of
from dinomix.labels import LabelSet
from dinomix.regions import parts_and_regions

NESTED = "The network gives a sigmoid for each of several nested regions; a voxel is of the innermost that is above one half."
_NEEDED = "Structures that exclude each other, and regions of which each lies in the next, can be used."


def parts_of(regions: Mapping[str, Sequence[int]], source: Path) -> list[list[int]]:
    """Of the structures 1, 2, ... that regions are made of, the channels whose regions hold each.

    Args:
        regions: name -> its structures, in the order of the network's channels.

    Raises:
        DinomixError: regions overlap without one lying in the other, or they do not tell their structures apart.
    """
    sets = [frozenset(values) for values in regions.values()]
    for number, first in enumerate(sets):
        for second in sets[number + 1 :]:
            if first & second not in (frozenset(), first, second) or first == second:
                raise DinomixError(f"{source} segments regions that overlap.", _NEEDED)
    values = sorted(frozenset().union(*sets))
    parts = [[channel for channel, region in enumerate(sets) if value in region] for value in values]
    if values != list(range(1, len(values) + 1)) or len(set(map(tuple, parts))) < len(parts):
        raise DinomixError(f"{source} segments regions that overlap, of {len(values)} structures.", _NEEDED)
    return parts


def with_background(
    weights: dict[str, Tensor], axes: dict[str, tuple[int, ...]], parts: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Weights of a network with a channel for the background and each structure, from those of a sigmoid per channel.

    A structure's logit is the sum of those of the channels that hold it, and the background's is 0. For structures that
    exclude each other the surest above one half wins, else the background. For regions a, b, c of which each lies in the
    one before, the logits are a, a + b and a + b + c, of which the last positive summand decides: the innermost region
    above one half wins wherever no region is surer than the one around it.

    Args:
        axes: for each tensor the axes that the number of classes decides, as ``matching.class_axes`` finds them.
        parts: the channels that hold each structure.

    Raises:
        ValueError: the network does not end with one convolution to the classes.
    """
    changed = dict(weights)
    ends = [name for name in weights if axes.get(name)]
    if any(axes[name] != (0,) or name.rpartition(".")[2] not in ("weight", "bias") for name in ends) or len(ends) > 4:
        raise ValueError("its end mixes the classes")
    for name in ends:
        tensor = weights[name]
        summed = [tensor[list(channels)].sum(0) for channels in parts]
        changed[name] = torch.stack([torch.zeros_like(tensor[0]), *summed])
    return changed


def labels_of_regions(regions: Mapping[str, Sequence[int]], structures: Sequence[str], source: Path) -> LabelSet:
    """The structures that regions are made of, and the regions of several.

    Args:
        structures: the names of structure 1, 2, ...; empty to name them after the regions.

    Raises:
        DinomixError: names that cannot be used.
    """
    table: dict[str, object] = {name: list(values) for name, values in regions.items()}
    if structures:
        table = {name: values for name, values in table.items() if len(regions[name]) > 1}
        table.update({name: value for value, name in enumerate(structures, 1)})
    try:
        parts, larger = parts_and_regions(table)
        return LabelSet.from_names({int(value): name for name, value in parts.items()}).with_regions(larger)
    except ValueError as error:
        raise DinomixError(
            f"{source}: its regions cannot be named ({reason_of(error)}).", "Get the model again."
        ) from error
