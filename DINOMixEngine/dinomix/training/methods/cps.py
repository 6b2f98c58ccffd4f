"""CPS, cross pseudo supervision (Chen et al., CVPR 2021): two students that begin differently, each the other's teacher.

On unlabeled patches student 1 follows the hard labels of student 2 and the other way round, from the one forward that both do
anyway; with y_k the labels of student k and p_k its probabilities:

    L = L_sup(p_1) + L_sup(p_2) + lambda_u(t) (L_u(p_1, y_2) + L_u(p_2, y_1)) + lambda_f L_FKD

No gradient passes through the labels. The model is the moving average of the first student, as with every method, and FKD is for
the first. Unlike the paper's, the losses are cross-entropy + soft Dice, ``lambda_u`` grows, and labeled patches have a part in
``L_u`` only where their labels leave open what a voxel is [ours], so that only the teacher differs from mean-teacher's.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from dinomix.models.network import build_network
from dinomix.training.batches import Batch
from dinomix.training.filling import filled
from dinomix.training.fkd import StudentWithProjector, heads_of
from dinomix.training.losses import loss_of_heads, pseudo_label_weight
from dinomix.training.methods.method import Losses, Method, Term
from dinomix.training.methods.parts import (
    fkd_losses,
    kept_losses,
    loss_of_labels,
    nearness_of,
    student_sees,
    tell_pseudo_labels,
)
from dinomix.training.mixing import labeled_by
from dinomix.training.randomness import integer_seed
from dinomix.training.run import Run
from dinomix.training.run_directory import RunDirectory


class TwoStudents(StudentWithProjector):
    """The first student, tapped for FKD, and beside it the ``second``."""

    second: nn.Module

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:  # type: ignore[override]
        """(B, 1, X, Y, Z) -> heads of the first, its projected features or None, heads of the second."""
        heads, projected = super().forward(images)
        return heads, projected, heads_of(self.second(images.contiguous(memory_format=self.layout)))


class CrossPseudoSupervision(Method):
    """PIC, where it is on, mixes labeled patches only: unlabeled ones have no labels before they are seen."""

    students = 2
    fills_in = True

    def student(self, network: nn.Module, directory: RunDirectory, foundation_width: int | None) -> TwoStudents:
        """The second begins at random weights of its own, also where the first begins at those of a model."""
        plan, channels = directory.plan, self.cohort.labels.channels
        both = TwoStudents(network, plan, channels, foundation_width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(self.config.seed, "second student", 0))
            both.second = build_network(plan, channels)
        return both

    def losses(self, run: Run, batch: Batch) -> Losses:
        config, step = self.config, run.state.step
        images = student_sees(run, batch.labeled, batch.unlabeled)
        with run.accelerator.autocast():
            first, projected, second = run.state.student(images)
        parts = [len(batch.labeled), len(batch.unlabeled)]
        (first, first_unlabeled), (second, second_unlabeled) = first.split(parts), second.split(parts)
        supervised = loss_of_labels(run, first, batch.labels) + loss_of_labels(run, second, batch.labels)
        losses = {"supervised": Term(supervised, 1.0)}
        learned = []
        if step >= run.schedule.teaching_from:
            if len(batch.unlabeled):
                learned.append(self._crossed(run, batch, first_unlabeled, second_unlabeled))
            if run.candidates is not None:
                learned.append(self._filled_in(run, batch.labels, first, second))
        if learned:
            weight = pseudo_label_weight(run.schedule.progress(step), config.lambda_max)
            losses["unsupervised"] = Term(torch.stack(learned).sum(), weight)
        kept = kept_losses(run, ((first, second), batch.labeled, batch.labels))
        return losses | kept | fkd_losses(run, images, projected, batch.labeled_features, batch.unlabeled_features)

    def _crossed(self, run: Run, batch: Batch, first: Tensor, second: Tensor) -> Tensor:
        """The loss of the heads (B, H, C, x, y, z) of both students on unlabeled patches."""
        confidence, near = self.config.confidence, nearness_of(run, batch)
        by_first = labeled_by(first[:, 0].detach(), batch, confidence, run.one_piece, near)
        by_second = labeled_by(second[:, 0].detach(), batch, confidence, run.one_piece, near)
        counts = run.accelerator.reduce(by_second.counts, "sum")
        tell_pseudo_labels(run, replace(by_second, counts=counts), first[:, 0])
        return loss_of_heads(first, by_second.labels, by_second.weight) + loss_of_heads(
            second, by_first.labels, by_first.weight
        )

    def _filled_in(self, run: Run, labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """The loss of the heads (B, H, C, x, y, z) of both students where the labels (B, x, y, z) of labeled patches leave
        something open; 0 where they do not, so that all processes have the same terms."""
        assert run.candidates is not None
        learned = []
        for student, other in ((first, second), (second, first)):
            by_other = filled(other[:, 0].detach(), labels, run.candidates, self.config.confidence, run.one_piece)
            learned.append(loss_of_heads(student, by_other.labels, by_other.weight))
        return torch.stack(learned).sum()
