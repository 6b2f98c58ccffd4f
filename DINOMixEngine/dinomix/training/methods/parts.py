"""What several methods take a step from."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dinomix.planning.intensities import usual_range
from dinomix.planning.plan import SpacingGrid
from dinomix.planning.whereabouts import Nearness
from dinomix.training import fkd
from dinomix.training.augmentation import WIDTHS, augmented_intensities
from dinomix.training.batches import Batch
from dinomix.training.losses import loss_of_heads
from dinomix.training.methods.method import Losses, Term
from dinomix.training.mixing import PseudoLabeled, agreement
from dinomix.training.randomness import generator
from dinomix.training.recording import by_name
from dinomix.training.run import Run


def student_sees(run: Run, labeled: Tensor, unlabeled: Tensor) -> Tensor:
    """The patches (B, channels, x, y, z), labeled ones first, changed in intensity where they are, each by its own generator."""
    config, step, rank = run.config, run.state.step, run.accelerator.process_index
    rngs = [
        generator(config.seed, purpose, step, rank * len(patches) + i)
        for purpose, patches in (("intensity", labeled), ("intensity unlabeled", unlabeled))
        for i in range(len(patches))
    ]
    return augmented_intensities(
        torch.cat([labeled, unlabeled]),
        rngs,
        WIDTHS[config.augment],
        [usual_range(window) for window in run.plan.windows],
        run.batches.thick,
    )


def nearness_of(run: Run, batch: Batch) -> list[Nearness | None]:
    """How near each voxel of each unlabeled patch lies to where the labeled cases have their structures."""
    expected, grid = run.one_piece.whereabouts, run.plan.grid
    if expected is None or not isinstance(grid, SpacingGrid):
        return [None] * len(batch.unlabeled)
    near = []
    for number, placement in zip(batch.cases, batch.placements, strict=True):
        size = np.array(run.batches.unlabeled_cases[number].size)
        matrix, offset = placement.as_shares(run.plan.patch, size)
        near.append(Nearness.of(expected, size * grid.spacing, matrix, offset))
    return near


def tell_pseudo_labels(run: Run, unlabeled: PseudoLabeled, logits: Tensor) -> None:
    """Announce, at the steps that are recorded, what the student is to learn on unlabeled patches and how far it agrees.

    Args:
        unlabeled: with ``counts`` of all processes.
        logits: (B, C + 1, x, y, z) of the student, merged as the teacher's are.
    """
    step = run.state.step + 1
    if not run.schedule.is_recorded(step):
        return
    run.emit(
        "pseudo_label",
        step=step,
        voxels=by_name(run.cohort, unlabeled.counts),
        confidence=by_name(run.cohort, unlabeled.certainty),
        agreement=by_name(run.cohort, agreement(logits.detach(), unlabeled.labels, run.accelerator)),
    )


def loss_of_labels(run: Run, heads: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """``loss_of_heads`` with the run's candidates; what its start model teaches in another way is one with the background."""
    if run.keeping is None:
        return loss_of_heads(heads, labels, weight, run.candidates)
    return loss_of_heads(heads, run.keeping.drawn(labels), weight, run.keeping.table)


def kept_losses(run: Run, *patches: tuple[Sequence[Tensor], Tensor, Tensor | None]) -> Losses:
    """The term of what a run keeps of its start model; none where it keeps nothing so.

    Args:
        patches: students, images and labels, as ``Keeping.loss`` takes them.
    """
    if run.keeping is None:
        return {}
    with run.accelerator.autocast():
        losses = [run.keeping.loss(*each) for each in patches if len(each[1])]
    return {"kept": Term(torch.stack(losses).sum(), 1.0)}


def fkd_losses(run: Run, images: Tensor, projected: Tensor | None, *cached: Tensor | None) -> Losses:
    """FKD's term; none where it is off.

    Args:
        images: (B, channels, x, y, z) as the student has seen them.
        projected: (B, width, x, y, z), the student's features.
        cached: the foundation model's features of the same patches, one part after the other; None without a cache.
    """
    if projected is None or run.foundation is None:
        return {}
    parts = [part for part in cached if part is not None]
    if parts:
        features = torch.cat(parts)
    else:
        x, y, z = projected.shape[2:]
        with run.accelerator.autocast():
            features = fkd.features_on_the_fly(run.foundation, images, (x, y, z), run.config.fkd.slice_stride)
    config, done = run.config.fkd, run.schedule.progress(run.state.step)
    loss = fkd.distillation_loss(projected, features, config.uniqueness, run.foundation.widths)
    return {"fkd": Term(loss, config.weight_at(done))}
