"""How far the EMA teacher's labels count."""

import numpy as np
import pytest
import torch
from torch import nn

from dinomix.training.reliability import Reliability, judged


class Constant(nn.Module):
    """A teacher that says the same of every patch."""

    def __init__(self, said: torch.Tensor, classes: int) -> None:
        super().__init__()
        self.logits = nn.functional.one_hot(said, classes).movedim(-1, 1).float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_the_confusion_counts_truth_by_rows():
    truth = torch.tensor([0, 0, 1, 1, 2, 2]).reshape(1, 6, 1, 1)
    said = torch.tensor([0, 1, 1, 1, 0, 2]).reshape(1, 6, 1, 1)
    counted = judged(Constant(said, 3), torch.zeros(1, 1, 6, 1, 1), truth)
    assert counted.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_a_label_counts_as_it_was_right():
    reliability = Reliability(4)
    # Structure 1: 90 of 100 voxels called so are it; 2: 20 of 40; 3 was never called, and is overlooked wholly.
    reliability.update(np.array([[900, 10, 20, 0], [10, 90, 0, 0], [20, 0, 20, 0], [50, 0, 0, 0]], dtype=float))
    right = reliability.right()
    assert right[1:] == pytest.approx([0.9, 0.5, 0.0])
    assert right[0] == pytest.approx(1 - (0.1 + 0.5 + 1.0) / 3)
    assert reliability.weights() == pytest.approx([0, 1, 0, 0])


def test_before_anything_is_measured_nothing_counts():
    assert Reliability(3).weights().tolist() == [0, 0, 0]


def test_what_was_measured_long_ago_is_forgotten():
    reliability = Reliability(2)
    reliability.update(np.array([[100.0, 0.0], [100.0, 0.0]]))
    for _ in range(40):
        reliability.update(np.array([[100.0, 0.0], [2.0, 98.0]]))
    assert reliability.weights() == pytest.approx([1, 1])
