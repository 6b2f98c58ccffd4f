"""What a start model's probabilities teach of the structures that a run keeps."""

import pytest
import torch
from torch import nn

from dinomix.training.keeping import Keeping, soft_loss
from dinomix.training.losses import loss_of_heads

# Background, two kept structures (1 and 3) and a new one (2); label 4 is open between background and the new one, 5 is anything.
KEPT = torch.tensor([0, 1, 3])
TABLE = torch.cat([torch.eye(4), torch.tensor([[1, 0, 1, 0], [1, 1, 1, 1]])]).bool()


def keeping(network: nn.Module, table: torch.Tensor = TABLE) -> Keeping:
    return Keeping.of(network, KEPT[1:].tolist(), table)


class Says(nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def logits_of(seed: int) -> torch.Tensor:
    return 2 * torch.randn(2, 4, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


def test_what_is_kept_is_one_with_the_background_in_labels():
    asked = keeping(nn.Identity())
    assert asked.is_kept.tolist() == [True, True, False, True, False, False]
    assert asked.drawn(torch.tensor([0, 1, 2, 3, 4, 5])).tolist() == [6, 6, 2, 6, 4, 5]
    assert asked.table[6].tolist() == [True, True, False, True]
    assert asked.table[4].tolist() == asked.table[5].tolist() == [True] * 4  # who may be background may be kept
    assert torch.equal(asked.table[2], TABLE[2])


def test_a_network_that_says_what_the_start_says_is_left_alone():
    logits = logits_of(0)
    student = logits.clone().requires_grad_()
    keeping(Says(logits)).loss([student[:, None]], torch.zeros(2, 1, 3, 4, 5)).backward()
    assert student.grad.abs().max() < 1e-6


def test_only_the_new_structure_is_pulled_where_it_is_drawn():
    start, labels = logits_of(0), torch.zeros(2, 3, 4, 5, dtype=torch.long)
    labels[:, 1] = 2
    student = start.clone().requires_grad_()
    asked, images = keeping(Says(start)), torch.zeros(2, 1, 3, 4, 5)
    asked.loss([student[:, None]], images, labels).backward()
    assert student.grad.abs().max() < 1e-6
    loss_of_heads(student[:, None], asked.drawn(labels), candidates=asked.table).backward()
    with torch.no_grad():
        inside = -student.grad[:, :, 1]
        assert (inside[:, 2] > 0).all() and (inside[:, KEPT] < 0).all()
        outside = -student.grad[:, :, [0, 2]]
        assert (outside[:, 2] < 0).all() and (outside[:, KEPT] > 0).all()
        # The kept ones gain as they are: their shares among each other stay.
        shares = start[:, KEPT].softmax(1)[:, :, [0, 2]]
        torch.testing.assert_close(
            outside[:, KEPT] / outside[:, KEPT].sum(1, keepdim=True), shares, atol=1e-3, rtol=1e-3
        )


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_that_of_brute_force(seed):
    student, start = logits_of(seed).double(), logits_of(seed + 10).double()
    labels = torch.randint(0, 6, (2, 3, 4, 5), generator=torch.Generator().manual_seed(seed))
    total = 0.0
    for n in range(2):
        entropy, voxels = 0.0, 0
        both, sizes, amount = torch.zeros(3).double(), torch.zeros(3).double(), torch.zeros(3).double()
        for x, y, z in torch.cartesian_prod(*map(torch.arange, labels.shape[1:])).tolist():
            if labels[n, x, y, z] not in (0, 1, 3):
                continue
            p, q = (logits[n, KEPT, x, y, z].softmax(0) for logits in (student, start))
            entropy, voxels = entropy - float((q * p.log()).sum()), voxels + 1
            both, sizes, amount = both + p * q, sizes + p**2 + q**2, amount + q
        assert (amount > 1).all()
        total += entropy / voxels + float((1 - 2 * both / sizes)[1:].mean())
    asked = keeping(Says(start))
    given = asked.loss([student[:, None]], torch.zeros(2, 1, 3, 4, 5), labels)
    assert float(given) == pytest.approx(total / 2, rel=1e-5)


def test_where_nothing_counts_nothing_is_lost():
    logits = logits_of(0).requires_grad_()
    loss = soft_loss(logits, torch.zeros(2, 4, 3, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.bool))
    loss.backward()
    assert float(loss) == 0 and float(logits.grad.abs().sum()) == 0
