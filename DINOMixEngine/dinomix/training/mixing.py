"""PIC among unlabeled patches: boxes around what the EMA teacher sees, pasted into image, pseudo-label and features."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from dinomix.planning.connected_components import remove_far, remove_stray_pieces
from dinomix.planning.plan import OnePiece
from dinomix.planning.whereabouts import Nearness
from dinomix.training import pic
from dinomix.training.batches import Batch
from dinomix.training.config import TrainConfig
from dinomix.training.groups import Group, rng_of_receiver
from dinomix.training.randomness import generator
from dinomix.training.sightings import Sighting, sighting


@dataclass(frozen=True)
class PseudoLabeled:
    """Unlabeled patches with what a teacher, a network other than the student, says of them.

    Attributes:
        images: (B, channels, x, y, z) in [0, 1].
        labels: (B, x, y, z) channel numbers: argmax of a teacher's logits, or a pasted ground truth, which may leave
            something open.
        weight: (B, x, y, z), 0 where the teacher is too unsure to count, or calls what it does not find.
        is_true: (B, x, y, z) bool, where a ground truth was pasted.
        features: (B, width, x, y, z) cached teacher features, or None.
        counts: (C,) voxels of each structure in the teacher's labels, before any mixing.
        certainty: (C,) the teacher's mean probability of each structure where it chose it; NaN where nowhere.
    """

    images: Tensor
    labels: Tensor
    weight: Tensor
    is_true: Tensor
    features: Tensor | None
    counts: Tensor
    certainty: Tensor


@torch.no_grad()
def labeled_by(
    logits: Tensor, batch: Batch, confidence: float, one_piece: OnePiece, near: Sequence[Nearness | None]
) -> PseudoLabeled:
    """The unlabeled patches with the labels that a network gives them.

    Args:
        logits: (B, C + 1, x, y, z) of that network.
        confidence: the least probability of a label that counts.
        one_piece: whose stray pieces become background.
        near: of each patch, where structures are expected; what lies far off becomes background, too.
    """
    probabilities = logits.float().softmax(1)
    certainty, labels = probabilities.max(1)
    if one_piece.channels:
        cleaned = labels.to(torch.int16).cpu().numpy()
        for patch, nearness in zip(cleaned, near, strict=True):
            if nearness is not None:
                remove_far(patch, nearness)
            remove_stray_pieces(patch, one_piece, nearness=nearness)
        labels = torch.from_numpy(cleaned).to(labels)
    classes = probabilities.shape[1]
    counts = torch.bincount(labels.flatten(), minlength=classes)
    sums = torch.zeros(classes, device=labels.device).scatter_add_(0, labels.flatten(), certainty.flatten())
    weight = (certainty >= confidence).float()
    return PseudoLabeled(
        batch.unlabeled,
        labels,
        weight,
        torch.zeros_like(labels, dtype=torch.bool),
        batch.unlabeled_features,
        counts[1:],
        certainty=(sums / counts)[1:],
    )


@torch.no_grad()
def agreement(logits: Tensor, labels: Tensor, accelerator: Accelerator) -> Tensor:
    """Dice between what the student says of patches and their pseudo-labels, over all processes.

    Args:
        logits: (B, C + 1, x, y, z) of the student, for the patches as it sees them, mixed and changed in intensity.
        labels: (B, x, y, z) channel numbers, mixed alike; what a pasted label leaves open is left out.

    Returns:
        (C,) of the structures, on the CPU; NaN where neither has any voxel.
    """
    classes = logits.shape[1]
    chosen, known = logits.argmax(1), labels < classes
    chosen, labels = chosen[known], labels[known]
    counts = torch.stack([
        torch.bincount(voxels.flatten(), minlength=classes) for voxels in (chosen, labels, labels[chosen == labels])
    ])  # fmt: skip
    # Apple's GPUs have no float64.
    student, teacher, both = accelerator.reduce(counts, "sum")[:, 1:].cpu().double()
    return 2 * both / (student + teacher)


@torch.no_grad()
def sightings_of(patches: PseudoLabeled, batch: Batch, sizes: Sequence[Sequence[int]], config: TrainConfig, step: int,
                 first_sample: int) -> list[Sighting]:  # fmt: skip
    """What the teacher says of the unlabeled patches, before any mixing, in coordinates of their volumes.

    Args:
        sizes: voxels of each patch's volume along (x, y, z).
        first_sample: number of the first patch, over all processes.
    """
    labels = patches.labels.to(torch.int16).cpu().numpy()
    cases = batch.cases
    rngs = [generator(config.seed, "sighting", step, first_sample + i) for i in range(len(cases))]
    return [
        sighting(label, case, placement, size, config.pic.places, rng)
        for label, case, placement, size, rng in zip(labels, cases, batch.placements, sizes, rngs, strict=True)
    ]


def mix_unlabeled(patches: PseudoLabeled, batch: Batch, probabilities: NDArray, config: TrainConfig, step: int,
                  first_sample: int) -> tuple[PseudoLabeled, list[pic.Draw]]:  # fmt: skip
    """Paste a box into each unlabeled patch that the dice choose; donors are taken as they were before any mixing.

    A box shows the class that the group was cut around, from the labeled patch that came with the group, or from a patch of
    the group where the teacher sees the class. Where it sees it in none of them, classes are drawn until it sees one. With
    ``pic.across``, what stays pseudo-labeled counts less.

    Args:
        probabilities: (C,) of ``Groups.probabilities``.
        first_sample: number of the first patch, over all processes.
    """
    images, labels, weight = patches.images.clone(), patches.labels.clone(), patches.weight.clone()
    is_true = patches.is_true.clone()
    features = patches.features.clone() if patches.features is not None else None
    if config.pic.across:
        weight = weight * config.pic.across_weight
    given = _given(batch)
    own = _Source(patches.images, patches.labels, patches.weight, patches.features)
    channels = pic.channels_in(patches.labels, 1 + len(patches.counts))
    draws = []
    for receiver in range(len(images)):
        rng = rng_of_receiver(config, step, first_sample + receiver)
        size = len(batch.groups[0].cases)
        number, group = receiver // size, batch.groups[receiver // size]
        mates = {n: channels[n] for n in range(number * size, (number + 1) * size) if n != receiver}
        if rng is None or not (mates or number in given):
            continue
        if number in given:
            source, channel, donor = given[number], group.channel, 0
        else:
            source = own
            channel, donor = _mate(group, number * size, mates, probabilities, config, rng)
        channel, box = pic.draw_box(source.labels[donor], channel, config.pic.box, rng)
        images[(receiver, slice(None), *box)] = source.images[(donor, slice(None), *box)]
        labels[(receiver, *box)] = source.labels[(donor, *box)]
        weight[(receiver, *box)] = source.weight[(donor, *box)]
        is_true[(receiver, *box)] = source is not own
        if features is not None and source.features is not None:
            patch, grid = labels.shape[1:], features.shape[2:]
            mask = pic.feature_mask(box, patch, grid).to(features.device)
            features[receiver] = torch.lerp(features[receiver], source.features[donor], mask)
        draws.append(pic.Draw(channel, donor if group.labeled is None else group.labeled, receiver, box))
    mixed = replace(patches, images=images, labels=labels, weight=weight, is_true=is_true, features=features)
    return mixed, draws


class _Source(NamedTuple):
    """What boxes are taken from: patches as ``PseudoLabeled`` has them."""

    images: Tensor
    labels: Tensor
    weight: Tensor
    features: Tensor | None


def _given(batch: Batch) -> dict[int, _Source]:
    """Number of a group -> the labeled patch that gives to it, as a batch of one."""
    if batch.donors is None or batch.donor_labels is None:
        return {}
    numbers = [number for number, group in enumerate(batch.groups) if group.labeled is not None]
    sources = {}
    for i, number in enumerate(numbers):
        part, features = slice(i, i + 1), batch.donor_features
        labels = batch.donor_labels[part]
        weight = torch.ones_like(labels, dtype=torch.float32)
        sources[number] = _Source(batch.donors[part], labels, weight, None if features is None else features[part])
    return sources


def _mate(group: Group, first: int, mates: Mapping[int, Set[int]], probabilities: NDArray, config: TrainConfig,
          rng: np.random.Generator) -> tuple[int | None, int]:  # fmt: skip
    """The class and the patch of the group to take it from: the group's own class where a mate shows it."""
    showing = [number for number, channels in mates.items() if group.channel in channels]
    if not showing:
        return pic.draw_donor(mates, probabilities, config.pic.tries, rng)
    meant = first + group.donor if group.donor is not None else -1
    return group.channel, meant if meant in showing else int(rng.choice(showing))
