"""Validation while training: per-class Dice on the network's own grid, without a detour over files."""

from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry
from dinomix.inference.memory import plan_memory
from dinomix.inference.sliding_window import predict_slabs
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.planning.cache import AnyCase
from dinomix.planning.connected_components import remove_stray_pieces
from dinomix.planning.plan import OnePiece, Plan, SpacingGrid
from dinomix.planning.whereabouts import on_grid


def dice_per_class(
    prediction: NDArray, reference: NDArray, classes: int, not_drawn: Set[int] = frozenset()
) -> list[float | None]:
    """Dice of channels 1..classes; None where the reference does not contain the structure, or not completely.

    Args:
        reference: as ``CachedCase.label`` has it; voxels that nobody labeled are left out.
        not_drawn: the channels that are not drawn completely.
    """
    unlabeled = classes + 2
    if reference.max() == unlabeled:
        prediction, reference = (array[reference != unlabeled] for array in (prediction, reference))
    predicted = np.bincount(prediction.ravel(), minlength=classes + 1)
    expected = np.bincount(reference.ravel(), minlength=classes + 1)
    agreed = np.bincount(reference.ravel()[prediction.ravel() == reference.ravel()], minlength=classes + 1)
    return [
        float(2 * agreed[c] / (predicted[c] + expected[c])) if expected[c] and c not in not_drawn else None
        for c in range(1, classes + 1)
    ]


Seen = Callable[[int, NDArray[np.int16], list[float | None]], None]
"""Gets the number of a case, its labels (x, y, z), channel numbers, and its Dice per class."""
Taker = Callable[[Tensor], None]
"""Gets logits (channels, some planes along x, y, z) in main memory, the next planes each time; they are good until it returns."""


@torch.no_grad()
def validate(network: nn.Module, cases: Sequence[AnyCase], not_drawn: Sequence[Set[int]], plan: Plan, one_piece: OnePiece,
             labels: LabelSet, accelerator: Accelerator, seen: Seen,
             first: Taker | None = None) -> list[float | None]:  # fmt: skip
    """Mean Dice per class over the validation cases; the cases are shared out among the processes.

    Logits are kept over one window's length only: with many structures, those of a whole case are more than the main memory.

    Args:
        not_drawn: of each case, the channels that are not drawn completely.
        one_piece: whose stray pieces are removed, as the model will remove them.
        labels: of the network's output.
        seen: called after each case of this process; what it raises ends the validation.
        first: gets the logits of the first case.

    Returns:
        One value per class, None for a class that no case contains.
    """
    mine: list[tuple[int, list[float | None]]] = []
    for number in range(accelerator.process_index, len(cases), accelerator.num_processes):
        slabs = _slabs(network, cases[number], plan, labels, accelerator)
        found = _labels_of(slabs, first if number == 0 else None)
        remove_stray_pieces(found, one_piece, nearness=on_grid(one_piece.whereabouts, found.shape, plan))
        dice = dice_per_class(found, np.asarray(cases[number].label), len(labels.names), not_drawn[number])
        mine.append((number, dice))
        seen(number, found, dice)
    gathered = gather_object(mine) if accelerator.num_processes > 1 else mine
    # In the order of the cases, not of the processes: sums of floats must not depend on who computed them.
    per_case = [dice for _, dice in sorted(gathered)]
    means: list[float | None] = []
    for column in zip(*per_case, strict=True):
        values = [dice for dice in column if dice is not None]
        means.append(sum(values) / len(values) if values else None)
    return means


def _labels_of(slabs: Iterator[Tensor], take: Taker | None) -> NDArray[np.int16]:
    """(x, y, z), the channels of the highest logits, which ``take`` gets beside."""
    planes = []
    for slab in slabs:
        planes.append(slab.argmax(0).to(torch.int16).cpu().numpy())
        if take is not None:
            take(slab.cpu())
    return np.concatenate(planes)


def _slabs(
    network: nn.Module, case: AnyCase, plan: Plan, labels: LabelSet, accelerator: Accelerator
) -> Iterator[Tensor]:
    """As ``predict_slabs``; only the network computes with the run's precision, not what is done with its logits."""
    image = torch.from_numpy(np.array(case.image, dtype=np.float32))
    half = _is_short_of_memory(Model(Path(), labels, plan, network.state_dict(), {}), case, accelerator.device)
    slabs = predict_slabs(network, image, plan, accelerator.device, half_buffers=half)
    while True:
        with accelerator.autocast():
            slab = next(slabs, None)
        if slab is None:
            return
        yield slab


def _is_short_of_memory(model: Model, case: AnyCase, device: torch.device) -> bool:
    """Whether windows are put together with half precision, as ``segment_volume`` decides it; a GPU has memory of its own."""
    if device.type != "cpu":
        return False
    grid = model.plan.grid
    spacing = grid.spacing if isinstance(grid, SpacingGrid) else (1.0, 1.0, 1.0)
    try:
        return plan_memory(Geometry(case.size, spacing, (0.0, 0.0, 0.0), np.eye(3)), model, None).half_buffers
    except DinomixError:  # even that may be too much; a run that has come so far tries it all the same
        return True
