"""Validation while training: per-class Dice on the network's own grid, without a detour over files."""

from collections.abc import Callable, Sequence, Set

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from dinomix.inference.sliding_window import predict_logits
from dinomix.planning.cache import AnyCase
from dinomix.planning.connected_components import remove_stray_pieces
from dinomix.planning.plan import OnePiece, Plan
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


Seen = Callable[[int, Tensor, NDArray[np.int16], list[float | None]], None]
"""Gets the number of a case, its logits (channels, x, y, z), the labels (x, y, z) that they stand for, and its Dice per class."""


@torch.no_grad()
def validate(network: nn.Module, cases: Sequence[AnyCase], not_drawn: Sequence[Set[int]], plan: Plan, one_piece: OnePiece,
             classes: int, accelerator: Accelerator, seen: Seen) -> list[float | None]:  # fmt: skip
    """Mean Dice per class over the validation cases; the cases are shared out among the processes.

    Args:
        not_drawn: of each case, the channels that are not drawn completely.
        one_piece: whose stray pieces are removed, as the model will remove them.
        seen: called after each case of this process; what it raises ends the validation.

    Returns:
        One value per class, None for a class that no case contains.
    """
    mine: list[tuple[int, list[float | None]]] = []
    for number in range(accelerator.process_index, len(cases), accelerator.num_processes):
        image = torch.from_numpy(np.array(cases[number].image, dtype=np.float32))
        with accelerator.autocast():
            logits = predict_logits(network, image, plan, accelerator.device)
        labels = logits.argmax(0).to(torch.int16).cpu().numpy()
        remove_stray_pieces(labels, one_piece, nearness=on_grid(one_piece.whereabouts, labels.shape, plan))
        dice = dice_per_class(labels, np.asarray(cases[number].label), classes, not_drawn[number])
        mine.append((number, dice))
        seen(number, logits, labels, dice)
    gathered = gather_object(mine) if accelerator.num_processes > 1 else mine
    # In the order of the cases, not of the processes: sums of floats must not depend on who computed them.
    per_case = [dice for _, dice in sorted(gathered)]
    means: list[float | None] = []
    for column in zip(*per_case, strict=True):
        values = [dice for dice in column if dice is not None]
        means.append(sum(values) / len(values) if values else None)
    return means
