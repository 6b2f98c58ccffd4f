"""FKD: the loss, the weights of positions, the teacher's view of a patch, and both ways to its features."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import dinomix.training.foundation
from dinomix.errors import DinomixError
from dinomix.training import fkd
from dinomix.training.augmentation import WIDTHS
from dinomix.training.compiled_backbone import SAME_TOKENS
from dinomix.training.config import FkdConfig
from dinomix.training.foundation import load_foundation
from dinomix.training.patches import random_placement, sample_features
from dinomix.training.view import View

pytestmark = pytest.mark.usefixtures("without_graphs")

SMALL = "vit_small_patch16_dinov3"


@pytest.fixture(scope="module")
def teacher():
    return load_foundation(FkdConfig(teacher=f"random:{SMALL}"))


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


def test_the_loss_of_several_layers_is_the_mean_of_theirs():
    ours, theirs = torch.randn(2, 7, 3, 3, 2), torch.randn(2, 7, 3, 3, 2)
    each = [fkd.distillation_loss(ours[:, part], theirs[:, part], True) for part in (slice(0, 4), slice(4, 7))]
    # One long vector would let the layer with the larger numbers decide.
    theirs[:, 4:] *= 100
    assert fkd.distillation_loss(ours, theirs, True, (4, 3)).item() == pytest.approx(float(sum(each)) / 2)


def test_the_weight_goes_from_the_first_steps_to_the_last():
    config = FkdConfig(weight=2.0, weight_end=0.0)
    assert [config.weight_at(part) for part in (0, 0.25, 1)] == [2.0, 1.5, 0.0]
    assert FkdConfig(weight=0.5).weight_at(0.7) == 0.5


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
    coarse = torch.rand(1, 1, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, size=(32, 48, 16), mode="trilinear")[0, 0]
    cached = fkd.features_of_volume(teacher, image[None], stride=2)
    placement = random_placement(image.shape, image.shape, np.random.default_rng(0), WIDTHS["off"])
    sampled = sample_features(cached, 2, 16, placement, image.shape, image.shape, (4, 6, 2))
    live = fkd.features_on_the_fly(teacher, image[None, None], (4, 6, 2), stride=2)[0]
    # Both average four slices in a cell; the cached ones are half precision and interpolated between slices.
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(sampled, live, dim=0).min() > 0.98
    for axis in (1, 2, 3):
        # Every cell is nearer to its own place than to its mirror image: no axis is turned round or swapped.
        assert (cosine(sampled, live, dim=0) >= cosine(sampled, live.flip(axis), dim=0)).all()


def test_cached_features_are_interpolated_linearly_between_tokens():
    rng = np.random.default_rng(0)
    # Tokens whose three channels are their own place are, interpolated, the place that was asked for.
    places = np.stack(np.meshgrid(np.arange(9), np.arange(4), np.arange(5), indexing="ij"), -1).astype(np.float16)
    size, patch, grid = (64, 80, 18), (32, 32, 8), (4, 4, 2)
    for seed in range(20):
        placement = random_placement(size, patch, np.random.default_rng(seed), WIDTHS[("narrow", "off")[seed % 2]])
        sampled = sample_features(places, 2, 18, placement, patch, size, grid).movedim(0, -1).numpy()
        points = placement.coordinates(patch, (4, 4, 4)).astype(np.float64)
        slices, x, y = (points[..., 2] - 1) / 2, (points[..., 0] + 0.5) / 16 - 0.5, (points[..., 1] + 0.5) / 16 - 0.5
        wanted = np.stack([slices.clip(0, 8), x.clip(0, 3), y.clip(0, 4)], -1).reshape(4, 4, 2, 2, 3).mean(3)
        np.testing.assert_allclose(sampled, wanted, atol=1e-3)
    one = sample_features(rng.random((1, 1, 1, 7)).astype(np.float16), 4, 1, placement, patch, (16, 16, 1), grid)
    assert one.shape == (7, 4, 4, 2) and (one - one[:, :1, :1, :1]).abs().max() < 1e-6


@pytest.fixture
def in_bfloat16_by_pytorch(monkeypatch):
    monkeypatch.setattr(dinomix.training.foundation, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(dinomix.training.foundation, "can_compile", lambda: False)


@pytest.mark.parametrize("name", [SMALL, "resnet18"])
def test_a_teacher_in_bfloat16_gives_the_same_tokens_and_keeps_its_name(name: str, in_bfloat16_by_pytorch):
    exact, fast = [load_foundation(FkdConfig(teacher=f"random:{name}")) for _ in range(2)]
    cpu, slices = torch.device("cpu"), 5 * torch.rand(3, 64, 64) - 1
    exact.view = fast.view = View(black=-1.0, white=4.0)
    exact.on(cpu, "fp32")
    fast.on(cpu, "auto")
    assert next(exact.maps.parameters()).dtype == torch.float32
    assert next(fast.maps.parameters()).dtype == torch.bfloat16
    tokens = fast.tokens(slices)
    assert tokens.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(tokens, exact.tokens(slices), dim=1).min() > 0.99
    assert fkd.features_key(fast, FkdConfig()) == fkd.features_key(exact, FkdConfig())
    assert fkd.features_key(fast, FkdConfig()) != fkd.features_key(exact, FkdConfig(slice_stride=3))


def test_a_teacher_whose_tokens_would_change_stays_in_float32(monkeypatch, in_bfloat16_by_pytorch):
    monkeypatch.setitem(SAME_TOKENS, "bfloat16", 1.1)
    teacher = load_foundation(FkdConfig(teacher="random:resnet18")).on(torch.device("cpu"), "auto")
    assert all(parameter.dtype == torch.float32 for parameter in teacher.maps.parameters())


def test_every_slice_stride_sees_at_least_one_slice():
    for depth in range(1, 20):
        for stride in range(1, 30):
            numbers = list(fkd.slice_numbers(depth, stride))
            assert numbers and max(numbers) < depth


@pytest.mark.parametrize(
    ("name", "width", "reduction"),
    [
        ("resnet50", 2048, 32),
        ("tf_efficientnet_lite0", 320, 32),  # its num_features, 1280, are those of a head behind the maps
        ("ghostnet_050", 80, 32),
        ("convnext_tiny", 768, 32),
        ("swin_tiny_patch4_window7_224", 768, 32),  # channels come last in it
        (SMALL, 384, 16),
        ("vit_small_patch14_dinov2", 384, 14),
        ("vit_tiny_patch16_224", 192, 16),
        ("deit_tiny_distilled_patch16_224", 192, 16),  # a second token without a place
        ("xcit_nano_12_p16_224", 128, 16),
        ("vit_tiny_r_s16_p8_224", 192, 32),  # a ViT behind a convolutional stem
    ],
)  # fmt: skip
def test_backbones_of_every_kind_can_teach(name: str, width: int, reduction: int):
    teacher = load_foundation(FkdConfig(teacher=f"random:{name}", layers=1))
    assert teacher.width == width
    size = (math.ceil(160 / reduction), math.ceil(64 / reduction))
    assert teacher.tokens(torch.rand(2, 160, 64)).shape == (2, width, *size)
    features = fkd.features_on_the_fly(teacher, torch.rand(1, 1, 40, 56, 4), (5, 7, 2), stride=2)
    assert features.shape == (1, width, 5, 7, 2) and features.isfinite().all()


def test_several_layers_lie_one_after_the_other_on_the_finest_grid():
    both = load_foundation(FkdConfig(teacher="random:resnet18", layers=2))
    assert both.layers == (3, 4) and both.widths == (256, 512) and both.reductions == [16, 32]
    slices = torch.rand(2, 160, 96)
    tokens = both.tokens(slices)
    assert tokens.shape == (2, 768, 10, 6) and both.tokens_of(160, 96) == (10, 6)
    fine = load_foundation(FkdConfig(teacher="random:resnet18", layers=(-2,)))
    assert fine.layers == (3,) and torch.equal(fine.tokens(slices), tokens[:, :256])
    last = load_foundation(FkdConfig(teacher="random:resnet18", layers=1))
    resized = torch.nn.functional.interpolate(last.tokens(slices), (10, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(tokens[:, 256:], resized)
    assert len({fkd.features_key(teacher, FkdConfig()) for teacher in (both, fine, last)}) == 3


@pytest.mark.parametrize(
    ("name", "layers"),
    [("resnet18", (3,)), ("swin_tiny_patch4_window7_224", (2,)), ("vit_small_patch16_dinov3", (11,))],
)
def test_the_usual_layer_is_the_last_that_still_tells_where_things_are(name: str, layers: tuple[int, ...]):
    assert load_foundation(FkdConfig(teacher=f"random:{name}")).layers == layers


@pytest.mark.parametrize("layers", [6, (-6,), (5,)])
def test_layers_that_a_teacher_has_not_are_refused_with_how_many_it_has(layers: int | tuple[int, ...]):
    with pytest.raises(DinomixError, match="has 5 layers that give maps"):
        load_foundation(FkdConfig(teacher="random:resnet18", layers=layers))


@pytest.mark.parametrize(
    "name", ["no_such_net", "beit_base_patch16_224", "crossvit_tiny_240", "maxvit_tiny_tf_224", "hiera_tiny_224"]
)
def test_backbones_that_give_no_map_of_any_slice_are_refused_in_a_sentence(name: str):
    with pytest.raises(DinomixError, match=r"knows no backbone|gives no feature map") as caught:
        load_foundation(FkdConfig(teacher=f"random:{name}"))
    assert caught.value.remedy and "\n" not in str(caught.value)


def test_a_teacher_that_cannot_take_the_runs_slices_is_refused_before_the_run_is_written(tmp_path: Path):
    from dinomix.training.train import train
    from tiny_cohort import make_cohort, make_plan, small_config

    cohort, plan = make_cohort(tmp_path / "cases"), make_plan().model_copy(update={"patch": (320, 320, 32)})
    # Its table of relative positions ends at slices of 224 pixels.
    config = small_config(steps=1, **{"fkd.teacher": "random:mvitv2_tiny"})
    assert load_foundation(config.fkd).width == 384
    with pytest.raises(DinomixError, match="no feature map of slices of 320x320 voxels"):
        train(cohort, tmp_path / "run", config, plan)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["on-the-fly", "cached"])
@pytest.mark.parametrize("waits", [False, True])
def test_unlabeled_patches_are_distilled_once_they_are_labeled(tmp_path: Path, monkeypatch, mode: str, waits: bool):
    from dinomix.training.methods import mean_teacher, parts
    from dinomix.training.train import train
    from tiny_cohort import make_cohort, make_plan, small_config

    taught: list[int] = []
    loss = parts.fkd.distillation_loss

    def counted(student, teacher, *others):
        taught.append(len(student))
        assert len(teacher) == len(student)
        return loss(student, teacher, *others)

    monkeypatch.setattr(parts.fkd, "distillation_loss", counted)
    monkeypatch.setattr(mean_teacher.MeanTeacher, "waits", lambda self, run: waits and run.state.step < 5)
    config = small_config("mean-teacher", fkd=mode, steps=6, pseudo_label_start=0.5, validate_every=6)
    train(make_cohort(tmp_path / "cases", validation=0), tmp_path / "run", config, make_plan())
    assert taught == ([2, 2, 2, 2, 2, 4] if waits else [2, 2, 2, 4, 4, 4])


@pytest.mark.parametrize("mode", ["on-the-fly", "cached"])
def test_a_convolutional_teacher_trains_with_all_that_can_be_set(tmp_path: Path, mode: str):
    from dinomix.training.train import train
    from tiny_cohort import make_cohort, make_plan, small_config

    cohort, plan = make_cohort(tmp_path / "cases", validation=0), make_plan()
    settings = {"layers": 2, "scale": "auto", "weight": 0.5, "weight_end": 0.0, "hounsfield": (60.0, 180.0)}
    settings |= {"teacher": "random:tf_efficientnet_lite0"}
    config = small_config(steps=2, fkd=mode, **{f"fkd.{name}": value for name, value in settings.items()})
    assert (train(cohort, tmp_path / "run", config, plan) / "models").is_dir()
