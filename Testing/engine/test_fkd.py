"""FKD: the loss, the weights of positions, the teacher's view of a patch, and both ways to its features."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dinomix.errors import DinomixError
from dinomix.training import fkd
from dinomix.training.config import FkdConfig
from dinomix.training.patches import random_placement, sample_features
from dinomix.training.teacher import load_teacher

SMALL = "vit_small_patch16_dinov3"


@pytest.fixture(scope="module")
def teacher():
    return load_teacher(FkdConfig(teacher=f"random:{SMALL}"))


def test_loss_is_twice_one_minus_cosine_summed_over_channels():
    angle = math.radians(60)
    student = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1, 1)
    target = 5 * torch.tensor([math.cos(angle), math.sin(angle)]).view(1, 2, 1, 1, 1)
    assert fkd.distillation_loss(student, target, False).item() == pytest.approx(2 * (1 - 0.5))
    assert fkd.distillation_loss(student, student * 7, False).item() == pytest.approx(0, abs=1e-6)
    assert fkd.distillation_loss(student, -student, False).item() == pytest.approx(4)


def test_loss_does_not_depend_on_the_width():
    one = torch.randn(2, 4, 3, 3, 2)
    other = torch.randn(2, 4, 3, 3, 2)
    wide = fkd.distillation_loss(one.repeat(1, 5, 1, 1, 1), other.repeat(1, 5, 1, 1, 1), True)
    assert wide.item() == pytest.approx(fkd.distillation_loss(one, other, True).item(), rel=1e-5)


def test_the_odd_token_is_the_unique_one():
    tokens = torch.zeros(1, 2, 3, 3, 1)
    tokens[:, 0] = 1
    tokens[:, :, 1, 1, 0] = torch.tensor([[0.0, 1.0]])
    weights = fkd.semantic_uniqueness(tokens)
    # Mean cosine to the 8 others: 0 for the odd one, 7/8 for the rest.
    assert (weights[0, 1, 1, 0] / weights[0, 0, 0, 0]).item() == pytest.approx(8)
    assert weights.mean().item() == pytest.approx(1)


def test_equal_tokens_are_equally_unique():
    tokens = torch.nn.functional.normalize(torch.ones(2, 4, 2, 2, 2), dim=1)
    assert torch.equal(fkd.semantic_uniqueness(tokens), torch.ones(2, 2, 2, 2))


def test_teacher_is_frozen_and_its_tokens_lie_where_the_slice_has_them(teacher):
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.train().training
    slices = torch.zeros(2, 64, 32)
    bright = slices.clone()
    bright[:, 48:, :16] = 1.0
    maps, changed = teacher.tokens(slices), teacher.tokens(bright)
    assert maps.shape == (2, 384, 4, 2)
    # An untrained ViT attends everywhere alike, yet the token of the changed place changes most.
    difference = (changed - maps).norm(dim=1)[0]
    assert difference.argmax().item() == 3 * 2 + 0


def test_features_lie_on_the_students_grid(teacher):
    features = fkd.features_on_the_fly(teacher, torch.rand(2, 1, 32, 48, 16), (4, 6, 2), stride=4)
    assert features.shape == (2, 384, 4, 6, 2) and features.dtype == torch.float32


def test_slices_that_differ_give_depth_cells_that_differ(teacher):
    image = torch.zeros(1, 1, 32, 32, 16)
    image[..., 8:] = torch.rand(32, 32, 1)
    features = fkd.features_on_the_fly(teacher, image, (4, 4, 2), stride=2)
    alone = fkd.features_on_the_fly(teacher, image[..., :8], (4, 4, 1), stride=2)
    torch.testing.assert_close(features[..., :1], alone)
    assert (features[..., 1] - features[..., 0]).abs().max() > 0.1


def test_cached_features_of_the_whole_volume_equal_those_on_the_fly(teacher):
    coarse = torch.rand(1, 1, 4, 6, 3)
    image = torch.nn.functional.interpolate(coarse, size=(32, 48, 16), mode="trilinear")[0, 0]
    cached = fkd.features_of_volume(teacher, image, stride=2)
    placement = random_placement(image.shape, image.shape, np.random.default_rng(0), augment=False)
    sampled = sample_features(cached, 2, 16, placement, image.shape, image.shape, (4, 6, 2))
    live = fkd.features_on_the_fly(teacher, image[None, None], (4, 6, 2), stride=2)[0]
    # Both average four slices in a cell; the cached ones are half precision and interpolated between slices.
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(sampled, live, dim=0).min() > 0.98
    for axis in (1, 2, 3):
        # Every cell is nearer to its own place than to its mirror image: no axis is turned round or swapped.
        assert (cosine(sampled, live, dim=0) >= cosine(sampled, live.flip(axis), dim=0)).all()


def test_every_slice_stride_sees_at_least_one_slice():
    for depth in range(1, 20):
        for stride in range(1, 30):
            numbers = list(fkd.slice_numbers(depth, stride))
            assert numbers and max(numbers) < depth


def test_a_wrong_stage_is_named():
    from dinomix.models.network import build_network
    from tiny_cohort import make_plan

    with pytest.raises(DinomixError, match="no stage down_9"):
        fkd.StudentWithProjector(build_network(make_plan(), 3), "down_9", (32, 32, 32), 3, 384)


def test_weights_from_timms_and_from_the_original_file(tmp_path: Path, teacher):
    state = teacher.backbone.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    loaded = load_teacher(FkdConfig(teacher=str(tmp_path / "model.safetensors")))
    slices = torch.rand(1, 32, 32)
    torch.testing.assert_close(loaded.tokens(slices), teacher.tokens(slices))
    assert "random" not in loaded.name


def test_files_that_are_no_weights_are_refused(tmp_path: Path):
    import pickle

    evil = tmp_path / "evil.pth"
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (marker,)

    evil.write_bytes(pickle.dumps(Evil()))
    for file in (evil, tmp_path / "absent.pth"):
        with pytest.raises(DinomixError):
            load_teacher(FkdConfig(teacher=str(file)))
    assert not marker.exists()


def test_absent_weights_are_neither_fetched_nor_replaced(monkeypatch, tmp_path: Path):
    import huggingface_hub

    def refuse(*arguments, **options):
        raise AssertionError("tried to fetch weights unasked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(DinomixError, match="licence"):
        load_teacher(FkdConfig(teacher="vit_large_patch16_dinov3"))


def test_other_timm_backbones_can_teach():
    teacher = load_teacher(FkdConfig(teacher="random:resnet18"))
    assert teacher.tokens(torch.rand(1, 64, 32)).shape == (1, 512, 2, 1)
    with pytest.raises(DinomixError, match="knows no backbone"):
        load_teacher(FkdConfig(teacher="random:no_such_net"))
