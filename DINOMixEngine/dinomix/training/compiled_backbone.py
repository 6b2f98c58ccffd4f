"""A frozen backbone computed by OpenVINO on a processor, which takes half of PyTorch's time in float32 and less in bfloat16."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomix.inference.devices import is_x86_64, threads
from dinomix.inference.options import Numbers
from dinomix.inference.runtimes.compiled import compiled_request
from dinomix.models.graph_writing import converted_with
from dinomix.models.silence import is_installed, would_wait_for_ever

SAME_TOKENS: dict[Numbers, float] = {"float32": 0.9999, "bfloat16": 0.99}
"""Least mean cosine between a layer's tokens and those of PyTorch in float32. Of the architectures tried it was above 0.99999 and
0.998."""


def can_compile() -> bool:
    """Whether OpenVINO is installed and can be used, on a kind of processor on which it was faster with all that was measured."""
    return is_x86_64() and is_installed() and not would_wait_for_ever()


class Maps(nn.Module):
    """The maps of some of a timm backbone's layers.

    Args:
        layers: their numbers.
    """

    def __init__(self, backbone: Any, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Pictures (N, 3, rows, columns), normalized -> (N, width, rows, columns) of each layer."""
        backbone: Any = self.backbone
        return tuple(
            backbone.forward_intermediates(
                pictures, indices=list(self.layers), norm=True, output_fmt="NCHW", intermediates_only=True
            )
        )


def are_same(tokens: tuple[Tensor, ...], exact: tuple[Tensor, ...], numbers: Numbers) -> bool:
    """Whether tokens that were computed with some numbers, or by another runtime, are those of PyTorch in float32."""
    return all(
        ours.shape == theirs.shape
        and float(F.cosine_similarity(ours.float(), theirs, dim=1).mean()) >= SAME_TOKENS[numbers]
        for ours, theirs in zip(tokens, exact, strict=True)
    )


class CompiledMaps:
    """A backbone's maps, compiled for pictures of one size at a time.

    Nothing is chosen by its time, so that a run that is resumed on the same computer goes on with the same tokens.

    Attributes:
        size: rows and columns of the pictures; None before the first.
        numbers: those that are computed with.
    """

    size: tuple[int, int] | None = None
    numbers: Numbers = "float32"
    _request: Any = None

    def __init__(self, maps: Maps, may_be_low: bool) -> None:
        """``may_be_low``: whether bfloat16 is tried first. ``maps`` stays in float32."""
        self._maps, self._may_be_low = maps, may_be_low

    def compile(self, trial: Tensor) -> None:
        """Get ready for pictures as large as those of ``trial`` (2, 3, rows, columns), on which tokens are compared.

        Raises:
            RuntimeError: they are not those of PyTorch.
            Exception: OpenVINO cannot take the backbone; of many kinds.
        """
        self._request = None  # its weights are given back before there are others
        rows, columns = trial.shape[2:]
        # A run that asks for bfloat16 computes in ``autocast``, whose conversions would become a part of the graph.
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            exact = self._maps(trial)
            graph = converted_with(self._maps, trial[:1])
        graph.reshape([-1, 3, rows, columns])
        for numbers in ("bfloat16", "float32") if self._may_be_low else ("float32",):
            try:
                self._request = compiled_request(graph, numbers, threads())
                if are_same(self(trial), exact, numbers):
                    self.size, self.numbers = (rows, columns), numbers
                    return
            except RuntimeError:  # layers that OpenVINO does not have in bfloat16 on this processor
                if numbers == "float32":
                    raise
        raise RuntimeError("its tokens are not those of PyTorch")

    def __call__(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """As ``Maps``, float32, of pictures of the size that is compiled."""
        maps = self._request.infer([np.ascontiguousarray(pictures.numpy())])
        return tuple(torch.from_numpy(maps[number]) for number in range(len(maps)))
