"""What the teacher does not find is one with what it takes it for, in pseudo-labels and in what the student says of them."""

import torch

from dinomix.training.losses import segmentation_loss
from dinomix.training.merged_channels import MergedChannels

LIVER, TUMOR, SPLEEN = 1, 2, 3
TUMOR_IN_LIVER = MergedChannels({TUMOR: LIVER}, 4)
TABLE = torch.cat(
    [torch.eye(4, dtype=torch.bool), torch.tensor([[True, False, True, False], [True, False, False, True]])]
)
"""Candidates: label 4 is background or tumor, 5 background or spleen."""


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
    for merged, unteaches in ((TUMOR_IN_LIVER, False), (MergedChannels({}, 4), True)):
        loss = segmentation_loss(merged.logits(logits), label)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()
        assert (gradient[0, TUMOR, 0].item() > 0.1) == unteaches


def test_what_the_teacher_calls_by_a_name_that_it_does_not_know_does_not_count():
    said = torch.tensor([0, LIVER, TUMOR, SPLEEN]).reshape(1, 4, 1, 1)
    logits = torch.nn.functional.one_hot(said, 4).movedim(-1, 1).float()
    weight = TUMOR_IN_LIVER.weight(logits, torch.full((1, 4, 1, 1), 0.5))
    assert weight.flatten().tolist() == [0.5, 0.5, 0, 0.5]


def test_pasted_labels_are_merged_and_what_may_be_either_does_not_count():
    labels = torch.tensor([0, LIVER, TUMOR, SPLEEN, 4, 5]).reshape(1, 6, 1, 1)
    merged, weight = TUMOR_IN_LIVER.labels(labels, torch.ones(1, 6, 1, 1), TABLE)
    assert merged.flatten().tolist() == [0, LIVER, LIVER, SPLEEN, 4, 5]
    assert weight.flatten().tolist() == [1, 1, 1, 1, 0, 1]
    assert TUMOR_IN_LIVER.leaves_open(labels, TABLE).flatten().tolist() == [False, False, True, False, True, False]
    logits = torch.randn(1, 4, 6, 1, 1)
    assert segmentation_loss(TUMOR_IN_LIVER.logits(logits), merged, weight, TABLE).isfinite()


def test_where_everything_is_found_nothing_changes():
    nothing, logits = MergedChannels({}, 4), torch.randn(1, 4, 2, 2, 2)
    labels, weight = torch.ones(1, 2, 2, 2, dtype=torch.long), torch.ones(1, 2, 2, 2)
    assert nothing.logits(logits) is logits and nothing.weight(logits, weight) is weight
    assert nothing.labels(labels, weight, TABLE) == (labels, weight)
