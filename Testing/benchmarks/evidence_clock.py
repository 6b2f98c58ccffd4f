"""The command line, by a clock that counts what convolutions compute: as on a quiet computer, however busy this one is.

    python Testing/benchmarks/evidence_clock.py BILLIONS train --cohort COHORT --out RUN --time 12m

``BILLIONS`` of operations are a second. A step takes as many seconds on any computer, so that a run of so many minutes takes
the same steps everywhere. Cutting patches, stray pieces, PIC, the optimizer and what OpenVINO computes count nothing, so that
a method that has more of these gets a little more than in real time.
"""

import sys
import time

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.module import register_module_forward_hook


class Clock:
    """Seconds by what was computed."""

    def __init__(self, per_second: float) -> None:
        self.per_second, self.operations = per_second, 0.0

    def __call__(self) -> float:
        return self.operations / self.per_second

    def count(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A hook of all modules. A gradient takes two more passes, of the input and of the weights."""
        if isinstance(module, _ConvNd) and not torch.jit.is_tracing():
            transposed = isinstance(module, _ConvTransposeNd)
            places = inputs[0] if transposed else output
            of_each = module.weight.numel() / module.weight.shape[0]
            self.operations += (3 if output.requires_grad else 1) * 2 * places.numel() * of_each


def main() -> None:
    clock = Clock(1e9 * float(sys.argv.pop(1)))
    time.monotonic = time.perf_counter = clock
    register_module_forward_hook(clock.count)
    from dinomix.cli import main

    main()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
