"""What a run learns of the structures that it keeps from its start model: that model's probabilities, patch by patch.

Labels made of its predictions teach its mistakes over again, harder than it makes them: what it draws too thin becomes thinner
(docs/results.md). Its probabilities leave the network where it is, and let go where something new is drawn [Z. Li, D. Hoiem,
Learning without Forgetting, ECCV 2016; that the old background holds what is new: F. Cermelli et al., Modeling the Background for
Incremental Learning in Semantic Segmentation, CVPR 2020].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dinomix.models.network import build_network
from dinomix.training.ema import make_teacher
from dinomix.training.kept_structures import kept_names
from dinomix.training.losses import mean_of_heads
from dinomix.training.state import fitting

if TYPE_CHECKING:
    from dinomix.training.run import Run


@dataclass(frozen=True)
class Keeping:
    """
    Attributes:
        network: the start model's, which gives (B, C, x, y, z) logits of the run's channels.
        kept: (K,) the background and the channels of the kept structures.
        table: (N + 1, C) bool, the run's candidates, or each channel for itself. Whatever may be of ``kept`` may be all of it,
            and the last row is ``kept``.
        is_kept: (N,) bool, the labels that are nothing but ``kept``.
    """

    network: nn.Module
    kept: Tensor
    table: Tensor
    is_kept: Tensor

    @classmethod
    def of(cls, network: nn.Module, kept: Sequence[int], candidates: Tensor) -> "Keeping":
        """
        Args:
            network: the start model's, on its device; it is copied.
            kept: the channels of the kept structures.
            candidates: (N, C) bool, those of the run.
        """
        channels = torch.tensor([0, *kept], device=candidates.device)
        return cls(make_teacher(network), channels, *_merged(candidates, channels))

    def drawn(self, labels: Tensor) -> Tensor:
        """Labels with candidates of ``table``, in which all that is kept is one: (B, x, y, z)."""
        return torch.where(self.is_kept[labels], len(self.table) - 1, labels)

    def loss(self, students: Sequence[Tensor], images: Tensor, labels: Tensor | None = None) -> Tensor:
        """How far the kept structures are from what the start model says of them; a sum over the students.

        Args:
            students: the heads of each, (B, H, C, x, y, z), as ``loss_of_heads`` takes them.
            images: (B, channels, x, y, z) of the same patches, not changed in intensity.
            labels: (B, x, y, z); where they tell of more than kept structures and background, nothing is kept. None: everywhere.
        """
        with torch.no_grad():
            wanted = self.network(images).float()[:, self.kept].softmax(1)
        counts = self.is_kept[labels] if labels is not None else torch.ones_like(wanted[:, 0], dtype=torch.bool)
        wanted = wanted * counts[:, None]
        losses = [mean_of_heads(s, lambda head: soft_loss(head[:, self.kept], wanted, counts)) for s in students]
        return torch.stack(losses).sum()


def keeping_of(run: "Run") -> Keeping | None:
    """What teaches a run; None where labels do, and where the start model's weights were not taken over.

    Raises:
        DinomixError: the weights that the run began with are damaged.
    """
    directory, names = run.directory, kept_names(run.cohort)
    if not run.config.keeps_by_patches or not names or not directory.start.exists():
        return None
    labels, device = run.cohort.labels, run.accelerator.device
    network = build_network(run.plan, labels.channels)
    with fitting(directory.start):
        network.load_state_dict(load_file(directory.start))
    return Keeping.of(network.to(device), [1 + labels.names.index(name) for name in names], run.table_of_labels)


def _merged(table: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """``Keeping.table`` and ``Keeping.is_kept`` of a table (N, C) of candidates."""
    row = torch.zeros_like(table[:1])
    row[0, kept] = True
    may_be_kept = (table & row).any(1, keepdim=True)
    return torch.cat([table | (may_be_kept & row), row]), ~(table & ~row).any(1)


def soft_loss(logits: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy + soft Dice of probabilities, both least where the two are equal; a mean over samples.

    The Dice has squares below its line [F. Milletari et al., V-Net, 3DV 2016]: without them it would ask for more certainty
    than is wanted.

    Args:
        logits: (B, K, x, y, z), the background first.
        wanted: (B, K, x, y, z) probabilities; 0 where nothing counts.
        counts: (B, x, y, z) bool.
    """
    logarithms, wanted, weight = logits.float().log_softmax(1).flatten(2), wanted.flatten(2), counts.flatten(1)[:, None]
    entropy = -(wanted * logarithms).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
    given = logarithms.exp() * weight
    both, sizes = (given * wanted).sum(2), (given**2).sum(2) + (wanted**2).sum(2)
    # Of a structure of which there is less than a voxel, there is no overlap to speak of.
    present = (wanted.sum(2) > 1).float()[:, 1:]
    dice = (1 - 2 * both / sizes.clamp(min=1e-5))[:, 1:] * present
    return (entropy + dice.sum(1) / present.sum(1).clamp(min=1)).mean()
