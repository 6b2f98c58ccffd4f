"""What the teacher does not find is one with what it takes it for, in pseudo-labels and in what the student says of them."""

import torch

from dinomix.training.losses import segmentation_loss
from dinomix.training.merged_channels import MergedChannels

LIVER, TUMOR, SPLEEN = 1, 2, 3
TUMOR_IN_LIVER = MergedChannels({TUMOR: LIVER})
TABLE = torch.cat(
    [
        torch.eye(4, dtype=torch.bool),
        torch.tensor([[True, False, True, False], [True, False, False, True], [True, True, True, True]]),
    ]
)
"""Candidates: label 4 is background or tumor, 5 background or spleen, 6 anything."""


def test_probabilities_of_what_is_one_are_added():
    logits = torch.randn(2, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    before, after = logits.softmax(1), TUMOR_IN_LIVER.logits(logits).softmax(1)
    torch.testing.assert_close(after[:, LIVER], before[:, LIVER] + before[:, TUMOR])
    assert (after[:, TUMOR] == 0).all()
    torch.testing.assert_close(after[:, [0, SPLEEN]], before[:, [0, SPLEEN]])
    heads = torch.stack([logits, logits], 1)
    torch.testing.assert_close(TUMOR_IN_LIVER.logits(heads, 2)[:, 1], TUMOR_IN_LIVER.logits(logits))


def test_half_precision_is_no_obstacle():
    logits = torch.randn(1, 4, 2, 2, 2).bfloat16()
    torch.testing.assert_close(TUMOR_IN_LIVER.logits(logits).softmax(1).sum(1), torch.ones(1, 2, 2, 2))


def test_a_pseudo_label_does_not_unteach_what_is_not_found():
    """The teacher calls a tumor liver; the student, which sees it, goes on seeing it."""
    logits = torch.zeros(1, 4, 2, 1, 1)
    logits[0, TUMOR, 0], logits[0, LIVER, 1] = 6, 6
    logits.requires_grad_()
    label = torch.full((1, 2, 1, 1), LIVER)
    for merged, unteaches in ((TUMOR_IN_LIVER, False), (MergedChannels({}), True)):
        loss = segmentation_loss(merged.logits(logits), label)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()
        assert (gradient[0, TUMOR, 0].item() > 0.1) == unteaches


def test_where_the_truth_is_known_nothing_is_merged():
    logits = torch.randn(1, 4, 2, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
    apart = torch.tensor([True, False]).reshape(1, 2, 1, 1)
    merged = TUMOR_IN_LIVER.logits(logits, apart=apart)
    assert torch.equal(merged[..., 0, :, :], logits[..., 0, :, :])
    assert torch.equal(merged[..., 1, :, :], TUMOR_IN_LIVER.logits(logits)[..., 1, :, :])
    heads = TUMOR_IN_LIVER.logits(logits[:, None].expand(1, 3, 4, 2, 1, 1), 2, apart[:, None])
    assert torch.equal(heads, merged[:, None].expand(1, 3, 4, 2, 1, 1))
    loss = segmentation_loss(merged, torch.tensor([TUMOR, LIVER]).reshape(1, 2, 1, 1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all() and gradient[0, TUMOR, 0].item() < -0.1


def test_what_the_teacher_calls_what_it_does_not_find_is_told():
    said = torch.tensor([0, LIVER, TUMOR, SPLEEN]).reshape(1, 4, 1, 1)
    logits = torch.nn.functional.one_hot(said, 4).movedim(-1, 1).float()
    assert TUMOR_IN_LIVER.calls(logits).flatten().tolist() == [False, False, True, False]


def test_a_label_that_leaves_open_the_part_but_not_the_whole_is_told():
    labels = torch.tensor([0, LIVER, TUMOR, SPLEEN, 4, 5, 6]).reshape(1, 7, 1, 1)
    may_be = TUMOR_IN_LIVER.may_be(labels, TABLE).flatten().tolist()
    assert may_be == [False, False, True, False, True, False, False]
    assert not MergedChannels({}).may_be(labels, TABLE).any()


def test_where_everything_is_found_nothing_changes():
    logits = torch.randn(1, 4, 2, 2, 2)
    assert MergedChannels({}).logits(logits) is logits
