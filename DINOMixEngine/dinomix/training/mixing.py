"""PIC among unlabeled patches: pseudo-labels choose the donors, the boxes are pasted into image, pseudo-label and features."""

from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from dinomix.training import pic
from dinomix.training.batches import Batch
from dinomix.training.config import TrainConfig
from dinomix.training.randomness import generator


@dataclass(frozen=True)
class PseudoLabeled:
    """Unlabeled patches with what a teacher, a network other than the student, says of them.

    Attributes:
        images: (B, 1, x, y, z) in [0, 1].
        labels: (B, x, y, z) channel numbers: argmax of a teacher, or a pasted ground truth.
        weight: (B, x, y, z), 0 where the teacher is too unsure to count.
        features: (B, width, x, y, z) cached teacher features, or None.
        counts: (C,) voxels of each structure in the teacher's labels, before any mixing.
        certainty: (C,) the teacher's mean probability of each structure where it chose it; NaN where nowhere.
    """

    images: Tensor
    labels: Tensor
    weight: Tensor
    features: Tensor | None
    counts: Tensor
    certainty: Tensor


@torch.no_grad()
def pseudo_label(teacher: nn.Module, batch: Batch, confidence: float) -> PseudoLabeled:
    """Label the unlabeled patches by the EMA teacher."""
    return labeled_by(teacher(batch.unlabeled), batch, confidence)


@torch.no_grad()
def labeled_by(logits: Tensor, batch: Batch, confidence: float) -> PseudoLabeled:
    """The unlabeled patches with the labels that a network gives them.

    Args:
        logits: (B, C + 1, x, y, z) of that network.
        confidence: the least probability of a label that counts.
    """
    probabilities = logits.float().softmax(1)
    certainty, labels = probabilities.max(1)
    classes = probabilities.shape[1]
    counts = torch.bincount(labels.flatten(), minlength=classes)
    sums = torch.zeros(classes, device=labels.device).scatter_add_(0, labels.flatten(), certainty.flatten())
    weight = (certainty >= confidence).float()
    return PseudoLabeled(
        batch.unlabeled, labels, weight, batch.unlabeled_features, counts[1:], certainty=(sums / counts)[1:]
    )


@torch.no_grad()
def agreement(logits: Tensor, labels: Tensor, accelerator: Accelerator) -> Tensor:
    """Dice between what the student says of patches and their pseudo-labels, over all processes.

    Args:
        logits: (B, C + 1, x, y, z) of the student, for the patches as it sees them, mixed and changed in intensity.
        labels: (B, x, y, z) channel numbers, mixed alike.

    Returns:
        (C,) of the structures; NaN where neither has any voxel.
    """
    classes = logits.shape[1]
    chosen = logits.argmax(1)
    counts = torch.stack([
        torch.bincount(voxels.flatten(), minlength=classes) for voxels in (chosen, labels, labels[chosen == labels])
    ])  # fmt: skip
    student, teacher, both = accelerator.reduce(counts, "sum")[:, 1:].double()
    return 2 * both / (student + teacher)


def mix_unlabeled(patches: PseudoLabeled, batch: Batch, probabilities: NDArray, config: TrainConfig, step: int,
                  first_sample: int) -> tuple[PseudoLabeled, list[pic.Draw]]:  # fmt: skip
    """Paste a box into each unlabeled patch that the dice choose; donors are taken as they were before any mixing.

    Unlabeled patches mix in groups of ``pic.group``, so that sharing a batch out among processes changes nothing. With
    ``pic.across`` the donors are the labeled patches of the batch, and what stays pseudo-labeled counts less.

    Args:
        probabilities: (C,) of ``pic.class_probabilities`` from the pseudo-label counts.
        first_sample: number of the first patch, over all processes.
    """
    images, labels, weight = patches.images.clone(), patches.labels.clone(), patches.weight.clone()
    features = patches.features.clone() if patches.features is not None else None
    if config.pic.across:
        weight = weight * config.pic.across_weight
        donors_images, donors_labels, donors_features = batch.labeled, batch.labels, batch.labeled_features
        donors_weight = torch.ones_like(batch.labels, dtype=weight.dtype)
    else:
        donors_images, donors_labels, donors_features = patches.images, patches.labels, patches.features
        donors_weight = patches.weight
    channels = [pic.channels_in(label) for label in donors_labels]
    draws = []
    for receiver in range(len(images)):
        rng = generator(config.seed, "pic unlabeled", step, first_sample + receiver)
        if rng.random() >= config.pic.probability:
            continue
        pool = {number: channels[number] for number in _donors(receiver, len(donors_labels), config)}
        channel, donor = pic.draw_donor(pool, probabilities, config.pic.tries, rng)
        channel, box = pic.draw_box(donors_labels[donor], channel, config.pic.box, rng)
        images[(receiver, 0, *box)] = donors_images[(donor, 0, *box)]
        labels[(receiver, *box)] = donors_labels[(donor, *box)]
        weight[(receiver, *box)] = donors_weight[(donor, *box)]
        if features is not None and donors_features is not None:
            patch, grid = labels.shape[1:], features.shape[2:]
            mask = pic.feature_mask(box, patch, grid).to(features.device)
            features[receiver] = torch.lerp(features[receiver], donors_features[donor], mask)
        draws.append(pic.Draw(channel, donor, receiver, box))
    return replace(patches, images=images, labels=labels, weight=weight, features=features), draws


def _donors(receiver: int, pool: int, config: TrainConfig) -> list[int]:
    """The samples that may give to ``receiver``: any labeled one when across, else the others of its group."""
    if config.pic.across:
        return list(range(pool))
    first = receiver - receiver % config.pic.group
    return [number for number in range(first, first + config.pic.group) if number != receiver]
