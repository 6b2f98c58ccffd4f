"""One optimization step, the same for labeled-only, mean-teacher and DINO-Mix."""

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.planning.intensities import usual_range
from dinomix.training import fkd, pic
from dinomix.training.batches import Batch, Batches
from dinomix.training.config import TrainConfig
from dinomix.training.ema import update_teacher
from dinomix.training.foundation import FoundationModel
from dinomix.training.losses import pseudo_label_weight, require_finite, segmentation_loss
from dinomix.training.mixing import PseudoLabeled, agreement, mix_unlabeled, pseudo_label
from dinomix.training.patches import augmented_intensities
from dinomix.training.randomness import integer_seed
from dinomix.training.recording import by_name
from dinomix.training.state import State

_AGAIN = "The last checkpoint is kept. Begin again with a lower --set learning_rate, or with --set precision=fp32."


def training_step(state: State, batch: Batch, foundation: FoundationModel | None, batches: Batches, cohort: Cohort,
                  config: TrainConfig, accelerator: Accelerator, emit: Emit) -> dict[str, float]:  # fmt: skip
    """One optimization step: L = L_sup + lambda_u(t) L_u + lambda_f L_FKD.

    Raises:
        DinomixError: a term or the gradient is not finite; the step is not taken.
    """
    step = state.step
    # For networks with dropout: what is drawn depends on the step alone, so that a resumed run draws the same.
    torch.manual_seed(integer_seed(config.seed, "network", step, accelerator.process_index))
    rate = config.learning_rate * (1 - step / config.steps) ** config.poly
    for group in state.optimizer.param_groups:
        group["lr"] = rate

    images, target_features = batch.labeled, batch.labeled_features
    unlabeled, lambda_u = None, 0.0
    if len(batch.unlabeled):
        shown, features = batch.unlabeled, batch.unlabeled_features
        if config.uses_unlabeled and step >= config.first_pseudo_label_step:
            lambda_u = pseudo_label_weight(step, config.steps, config.first_pseudo_label_step, config.lambda_max)
            unlabeled = _pseudo_labeled(state, batch, config, accelerator)
            shown, features = unlabeled.images, unlabeled.features
        if config.augment:
            first = accelerator.process_index * config.batch_unlabeled
            seeds = [integer_seed(config.seed, "intensity unlabeled", step, first + i) for i in range(len(shown))]
            shown = augmented_intensities(shown, seeds, usual_range(batches.plan.window))
        images = torch.cat([images, shown])
        if target_features is not None and features is not None:
            target_features = torch.cat([target_features, features])
    state.labeled_draws += batch.draws

    with accelerator.autocast():
        logits, projected = state.student(images.contiguous(memory_format=torch.channels_last_3d))
    labeled = len(batch.labeled)
    terms = {"supervised": segmentation_loss(logits[:labeled], batch.labels)}
    if unlabeled is not None:
        terms["unsupervised"] = segmentation_loss(logits[labeled:], unlabeled.labels, unlabeled.weight)
        if (step + 1) % config.record_every == 0:
            _tell_pseudo_labels(unlabeled, logits[labeled:], cohort, step, accelerator, emit)
    if projected is not None and foundation is not None:
        if target_features is None:
            grid = batches.features.grid if batches.features else tuple(projected.shape[2:])
            with accelerator.autocast():
                target_features = fkd.features_on_the_fly(foundation, images, grid, config.fkd.slice_stride)
        terms["fkd"] = fkd.distillation_loss(projected, target_features, config.fkd.uniqueness)
    weights = {"supervised": 1.0, "unsupervised": lambda_u, "fkd": config.fkd.weight}
    total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
    # The same on all processes, so that none goes on alone.
    means = accelerator.reduce(torch.stack([value.detach() for value in terms.values()]), "mean")
    if wrong := require_finite(dict(zip(terms, means, strict=True))):
        raise DinomixError(f"The loss is not finite any more at step {step + 1} (term: {wrong}).", _AGAIN, "not-finite")
    state.optimizer.zero_grad()
    accelerator.backward(total)
    norm = accelerator.clip_grad_norm_(state.student.parameters(), config.clip)
    # In half precision the scaler leaves out such a step by itself.
    if accelerator.scaler is None and not bool(torch.isfinite(norm)):
        raise DinomixError(f"The gradient is not finite any more at step {step + 1}.", _AGAIN, "not-finite")
    state.optimizer.step()
    update_teacher(state.teacher, state.network, step, config.teacher_decay)
    return {
        "total": total.detach(), **{name: value.detach() for name, value in terms.items()}, "lambda_u": lambda_u,
        "learning_rate": rate, "gradient_norm": norm,
    }  # fmt: skip


def _pseudo_labeled(state: State, batch: Batch, config: TrainConfig, accelerator: Accelerator) -> PseudoLabeled:
    """The unlabeled patches with the EMA teacher's labels, mixed by PIC."""
    step = state.step
    with accelerator.autocast():
        unlabeled = pseudo_label(state.teacher, batch, config.confidence)
    unlabeled = replace(unlabeled, counts=accelerator.reduce(unlabeled.counts, "sum"))
    state.counts.update(unlabeled.counts.cpu().numpy().astype(np.float64))
    if not config.pic.enabled:
        return unlabeled
    probabilities = pic.class_probabilities(state.counts.counts, step / config.steps, config.pic.kappa)
    first = accelerator.process_index * config.batch_unlabeled
    mixed, draws = mix_unlabeled(unlabeled, batch, probabilities, config, step, first)
    state.unlabeled_draws += draws
    return mixed


def _tell_pseudo_labels(unlabeled: PseudoLabeled, logits: Tensor, cohort: Cohort, step: int, accelerator: Accelerator,
                        emit: Emit) -> None:  # fmt: skip
    agreed = agreement(logits.detach(), unlabeled.labels, accelerator)
    emit(
        "pseudo_label",
        step=step + 1,
        voxels=by_name(cohort, unlabeled.counts),
        confidence=by_name(cohort, unlabeled.certainty),
        agreement=by_name(cohort, agreed),
    )
