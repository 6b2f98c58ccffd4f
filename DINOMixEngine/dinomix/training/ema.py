"""The self-training teacher: an exponential moving average of the student."""

import copy

import torch
from torch import nn


def make_teacher(student: nn.Module) -> nn.Module:
    """A copy of the student that no gradient reaches, in evaluation mode."""
    teacher = copy.deepcopy(student).eval()
    return teacher.requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, step: int, decay: float) -> None:
    """theta_T <- a theta_T + (1 - a) theta_S with a = min(1 - 1/(t + 1), decay), as Tarvainen and Valpola (2017) warm up.

    Args:
        step: steps done before this one; at 0 the teacher becomes the student.
    """
    alpha = min(1 - 1 / (step + 1), decay)
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - alpha)
    for held, current in zip(teacher.buffers(), student.buffers(), strict=True):
        held.copy_(current)
