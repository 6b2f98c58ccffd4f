"""What the EMA teacher says of the voxels of labeled patches whose label leaves open what they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dinomix.planning.connected_components import remove_stray_pieces
from dinomix.planning.plan import OnePiece


@dataclass(frozen=True)
class Filled:
    """
    Attributes:
        labels: (B, x, y, z) channel numbers: the label where it says what a voxel is, else the teacher's choice.
        weight: (B, x, y, z), 1 where the label leaves it open and the teacher is sure enough, else 0: the others are learned from
            their labels.
    """

    labels: Tensor
    weight: Tensor


@torch.no_grad()
def filled(logits: Tensor, labels: Tensor, candidates: Tensor, confidence: float, one_piece: OnePiece) -> Filled:
    """Labeled patches with the teacher's pseudo-labels where theirs leave something open.

    Args:
        logits: (B, C, x, y, z) of the teacher.
        labels: (B, x, y, z) channel numbers or numbers of candidates.
        candidates: the table of ``Candidates``.
        confidence: the least probability, among the candidates, of a pseudo-label that counts.
        one_piece: whose stray pieces become background.
    """
    is_open = labels >= logits.shape[1]
    possible = candidates[labels].movedim(-1, 1)
    certainty, chosen = logits.float().masked_fill(~possible, -torch.inf).softmax(1).max(1)
    if one_piece.channels:
        cleaned = chosen.to(torch.int16).cpu().numpy()
        for patch in cleaned:
            remove_stray_pieces(patch, one_piece)
        # Background is among the candidates wherever a label leaves something open.
        chosen = torch.where(is_open, torch.from_numpy(cleaned).to(chosen), chosen)
    return Filled(chosen, (is_open & (certainty >= confidence)).float())
