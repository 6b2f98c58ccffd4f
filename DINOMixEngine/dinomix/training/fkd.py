"""FKD, Foundational Knowledge Distillation: the student's features follow those of a frozen foundation model.

With u the student's projected feature and v the teacher's token at one position [paper]:

    L_FKD = mean over positions of  s * || u/|u| - v/|v| ||^2  =  mean of  s * 2 (1 - cos(u, v))

The squared norm is a sum over channels; a mean over channels would silently divide the loss by the teacher's width.
s is the position's semantic uniqueness [paper; this formula is ours]: how unlike the rest of its slice the teacher's token is,

    s_i = (1 - mean over j != i of cos(v_i, v_j)) / (mean of the same over all positions)
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dinomix.cohort.cohort import Cohort
from dinomix.models.network import network_on_paper
from dinomix.planning.plan import Plan
from dinomix.training.config import FkdConfig
from dinomix.training.foundation import FoundationModel, load_foundation
from dinomix.training.trial import Stage, find_stage, try_network
from dinomix.training.view import make_view


def teacher_of(config: FkdConfig, plan: Plan, cohort: Cohort) -> FoundationModel:
    """The frozen teacher of a run, which sees slices as the plan and the student's stage have it.

    Raises DinomixError as ``load_foundation``, ``tapped_stage`` and ``make_view``.
    """
    foundation = load_foundation(config)
    channels = cohort.labels.channels
    stage = tapped_stage(network_on_paper(plan, channels), plan, channels)
    foundation.view = make_view(config, plan, cohort, stage, foundation.coarsest)
    return foundation


def tapped_stage(network: nn.Module, plan: Plan, channels: int) -> Stage:
    """The stage of the student that is distilled, found by its place, so that any network has one.

    Raises DinomixError where the network does not take the plan's patch, or has no such stage.
    """
    return find_stage(try_network(network, plan.patch, channels, len(plan.channels)), plan.patch, plan.fkd_stage)


class StudentWithProjector(nn.Module):
    """The student, tapped at one stage; a 1x1x1 projector carries the tapped features to the teacher's width.

    One forward gives logits and projected features, so that data-parallel training sees a single module. The projector
    exists for training only: ``network`` alone is what is saved in a model folder.

    Attributes:
        layout: of the images in memory, that of the weights.
    """

    layout: torch.memory_format = torch.channels_last_3d

    def __init__(self, network: nn.Module, plan: Plan, channels: int, foundation_width: int | None) -> None:
        """``foundation_width`` None: no distillation, no projector. Raises DinomixError as ``tapped_stage``."""
        super().__init__()
        self.network = network
        self.projector: nn.Module | None = None
        self.grid: tuple[int, int, int] | None = None
        self._tapped: Tensor | None = None
        if foundation_width is not None:
            stage = tapped_stage(network, plan, channels)
            network.get_submodule(stage.name).register_forward_hook(self._keep)
            self.grid = stage.grid
            self.projector = nn.Conv3d(stage.width, foundation_width, 1)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._tapped = output

    def _take(self) -> Tensor:
        assert self._tapped is not None
        tapped, self._tapped = self._tapped, None
        return tapped

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, channels, X, Y, Z) -> logits (B, H, C, X, Y, Z) of each head and projected features (B, width, x, y, z) or None.

        There is more than one head where the network has deep supervision, which MONAI's networks stack like that.
        """
        logits = self.network(images.contiguous(memory_format=self.layout))
        return heads_of(logits), self.projector(self._take()) if self.projector is not None else None


def heads_of(logits: Tensor) -> Tensor:
    """(B, H, C, X, Y, Z) of what a network gives in training: with deep supervision several heads, else one."""
    return logits if logits.ndim == 6 else logits[:, None]


def distillation_loss(student: Tensor, teacher: Tensor, uniqueness: bool, widths: Sequence[int] = ()) -> Tensor:
    """L_FKD of the module's docstring; of several layers, whose ``widths`` lie one after the other, the mean of each one's.

    Both (B, width, x, y, z); the mean runs over batch and positions.
    """
    layers = list(widths) or [student.shape[1]]
    pairs = zip(student.float().split(layers, 1), teacher.float().split(layers, 1), strict=True)
    return torch.stack([_loss_of_layer(ours, theirs, uniqueness) for ours, theirs in pairs]).mean()


def _loss_of_layer(student: Tensor, teacher: Tensor, uniqueness: bool) -> Tensor:
    u, v = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    distance = 2 * (1 - (u * v).sum(1))
    if uniqueness:
        distance = distance * semantic_uniqueness(v)
    return distance.mean()


def semantic_uniqueness(teacher: Tensor) -> Tensor:
    """s of the module's docstring, mean 1 in each sample.

    Args:
        teacher: unit vectors, (B, width, x, y, z); a slice is all (x, y) at one z.

    Returns:
        (B, x, y, z), >= 0.
    """
    positions = teacher.shape[2] * teacher.shape[3]
    if positions == 1:
        return torch.ones_like(teacher[:, 0])
    total = teacher.sum((2, 3), keepdim=True)
    mean_cosine = ((teacher * total).sum(1) - 1) / (positions - 1)
    unlike = (1 - mean_cosine).clamp(min=0)
    mean = unlike.mean((1, 2, 3), keepdim=True)
    # Where all tokens are alike (an empty patch), no position is more unique than another.
    return torch.where(mean > 1e-6, unlike / mean.clamp(min=1e-6), torch.ones_like(unlike))


def slice_numbers(depth: int, stride: int) -> range:
    """The axial slices that the teacher sees: every ``stride``-th, starting in the middle of the first group."""
    return range(min(stride // 2, depth - 1), depth, stride)


@torch.no_grad()
def features_on_the_fly(foundation: FoundationModel, images: Tensor, grid: tuple[int, int, int], stride: int) -> Tensor:
    """Features of the foundation model of the patches that the student sees, on the student's grid.

    Token maps are resized in-plane and averaged over the slices of each student depth cell [ours].

    Args:
        images: (B, channels, X, Y, Z), of which the teacher's view shows one or three.
        grid: (x, y, z) of the tapped stage.

    Returns:
        (B, width, x, y, z), float32.
    """
    slices = foundation.view.seen(images)[..., list(slice_numbers(images.shape[4], stride))]
    batch, _, _, _, count = slices.shape
    tokens = foundation.tokens(slices.permute(0, 4, 1, 2, 3).flatten(0, 1))
    tokens = F.interpolate(tokens, size=grid[:2], mode="bilinear", align_corners=False)
    tokens = tokens.unflatten(0, (batch, count)).permute(0, 2, 3, 4, 1)
    return F.adaptive_avg_pool3d(tokens, grid)


def features_key(foundation: FoundationModel, config: FkdConfig) -> str:
    """The name under which features on disk are found: that of all they depend on beside the image."""
    made_from = (
        f"{foundation.name} {foundation.fingerprint} {foundation.layers} {config.slice_stride} {foundation.view}"
    )
    if foundation.view.colors:
        made_from += f" {foundation.view.colors}"
    return hashlib.sha256(made_from.encode()).hexdigest()[:16]


@torch.no_grad()
def features_of_volume(foundation: FoundationModel, image: Tensor, stride: int, batch: int = 8) -> NDArray[np.float16]:
    """Features of the foundation model of a whole volume, to be kept on disk: each token has seen its whole slice.

    Args:
        image: (channels, X, Y, Z), of which the teacher's view shows one or three.

    Returns:
        (slices, x tokens, y tokens, width), float16: the tokens of a patch are then a few whole rows of the file.
    """
    slices = foundation.view.seen(image[None])[0][..., list(slice_numbers(image.shape[3], stride))].permute(3, 0, 1, 2)
    parts = [foundation.tokens(part).half().movedim(1, -1).contiguous() for part in slices.split(batch)]
    return np.concatenate([part.cpu().numpy() for part in parts])
