"""The losses by hand, and the weight of pseudo-labels over time."""

import math

import pytest
import torch

from dinomix.training.ema import make_teacher, update_teacher
from dinomix.training.losses import loss_of_heads, pseudo_label_weight, require_finite, segmentation_loss


def test_a_perfect_prediction_costs_nothing():
    target = torch.randint(0, 3, (2, 4, 4, 4))
    logits = 50 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert segmentation_loss(logits, target).item() == pytest.approx(0, abs=1e-5)


def test_by_hand():
    # Two voxels, two channels, both predicted with probability 1/2; the first is foreground.
    target = torch.tensor([1, 0]).view(1, 2, 1, 1)
    loss = segmentation_loss(torch.zeros(1, 2, 2, 1, 1), target)
    # Cross-entropy log 2; Dice 2 * 0.5 / (1 + 1).
    assert loss.item() == pytest.approx(math.log(2) + 1 - 0.5)


def test_voxels_without_weight_do_not_count():
    target = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    target[0, :2] = 1
    logits = torch.randn(1, 3, 4, 4, 4)
    weight = torch.ones(1, 4, 4, 4)
    weight[0, 2:] = 0
    changed = logits.clone()
    changed[:, :, 2:] += 100 * torch.randn(1, 3, 2, 4, 4)
    assert torch.equal(segmentation_loss(logits, target, weight), segmentation_loss(changed, target, weight))


def test_a_perfect_prediction_costs_nothing_where_voxels_weigh_less():
    target = torch.randint(0, 3, (2, 4, 4, 4))
    logits = 50 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    weight = torch.full((2, 4, 4, 4), 0.5)
    weight[:, :2] = 1
    assert segmentation_loss(logits, target, weight).item() == pytest.approx(0, abs=1e-5)


def plain_loss(logits, target, weight):
    """The same by automatic derivatives."""
    one_hot = torch.nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    probabilities, weight = logits.softmax(1), weight[:, None]
    entropy = -(weight * one_hot * logits.log_softmax(1)).sum(1).mean()
    overlap = (weight * probabilities * one_hot).sum((2, 3, 4))[:, 1:]
    true = (weight * one_hot).sum((2, 3, 4))[:, 1:]
    dice = (1 - 2 * overlap / (true + (weight * probabilities).sum((2, 3, 4))[:, 1:])) * (true > 0)
    return entropy + (dice.sum(1) / (true > 0).sum(1)).mean()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_its_gradient_is_that_of_automatic_derivatives(layout):
    torch.manual_seed(1)
    logits = (3 * torch.randn(2, 5, 6, 5, 4)).contiguous(memory_format=layout).requires_grad_()
    target, weight = torch.randint(0, 4, (2, 6, 5, 4)), torch.rand(2, 6, 5, 4)
    loss, plain = segmentation_loss(logits, target, weight), plain_loss(logits.double(), target, weight.double())
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    gradient = torch.autograd.grad(2 * loss, logits)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(2 * plain, logits)[0], rtol=1e-4, atol=1e-8)


def test_the_loss_of_a_batch_is_the_mean_over_its_samples():
    logits, target = torch.randn(4, 3, 4, 4, 4), torch.randint(0, 3, (4, 4, 4, 4))
    target[0] = 0
    each = [segmentation_loss(logits[i : i + 1], target[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(segmentation_loss(logits, target), torch.stack(each).mean())


def test_the_weight_of_pseudo_labels_grows_to_its_maximum():
    assert pseudo_label_weight(0.1, 1.0) == pytest.approx(math.exp(-5 * 0.81))
    assert pseudo_label_weight(1.0, 2.0) == 2.0


def test_the_term_that_is_not_finite_is_named():
    terms = {"supervised": torch.tensor(1.0), "fkd": torch.tensor(float("nan"))}
    assert require_finite(terms) == "fkd"
    assert require_finite({"supervised": torch.tensor(1.0)}) is None


def test_the_teacher_follows_the_student():
    student = torch.nn.BatchNorm1d(3)
    teacher = make_teacher(student)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with torch.no_grad():
        student.weight.fill_(5.0)
        student.running_mean.fill_(2.0)
    update_teacher(teacher, student, 0, 0.99)
    assert torch.equal(teacher.weight, student.weight) and torch.equal(teacher.running_mean, student.running_mean)
    with torch.no_grad():
        student.weight.fill_(6.0)
    update_teacher(teacher, student, 1, 0.99)
    assert teacher.weight.tolist() == [5.5] * 3
    update_teacher(teacher, student, 10_000, 0.99)
    assert teacher.weight[0].item() == pytest.approx(0.99 * 5.5 + 0.01 * 6)


def test_the_teachers_memory_is_short_beside_the_run():
    from dinomix.training.config import make_config

    config = make_config()
    assert config.teacher_decay(300) == pytest.approx(1 - 1 / 15)
    assert config.teacher_decay(2000) == config.teacher_decay(100_000) == 0.99
    assert make_config(ema_window=1.0).teacher_decay(300) == 0.99
    assert config.teacher_decay(5) == 0.0


def test_coarser_heads_count_half_as_much():
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(2, 3, 4, 4, 4, 4, generator=generator)
    target = torch.randint(4, (2, 4, 4, 4), generator=generator)
    first, second, third = (segmentation_loss(heads[:, head], target) for head in range(3))
    torch.testing.assert_close(loss_of_heads(heads, target), (4 * first + 2 * second + third) / 7)
    torch.testing.assert_close(loss_of_heads(heads[:, :1], target), first)
