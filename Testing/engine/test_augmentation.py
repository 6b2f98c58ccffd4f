"""Augmentation: how far patches are changed, thick slices in their plane only, and each by its own generator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dinomix.cohort.cohort import Cohort
from dinomix.labels import LabelSet
from dinomix.planning.plan import Plan
from dinomix.planning.planning import override_plan
from dinomix.training import augmentation
from dinomix.training.augmentation import WIDTHS, Chance, Width, augmented_intensities, random_shape
from dinomix.training.batches import Batches
from dinomix.training.schedule import schedule_of_steps
from tiny_cohort import make_cohort, make_plan, small_config

NEVER = Chance(0.0, 0.0, 0.0)
CHANGES = {change.__name__: change for width in WIDTHS.values() for change, _ in width.intensities}


def rngs(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def only(name: str, amount: float) -> Width:
    return Width(0.0, NEVER, NEVER, 0.0, ((CHANGES[name], Chance(1.0, amount, amount)),), NEVER)


@pytest.mark.parametrize("name", ["narrow", "wide"])
def test_intensity_changes_repeat_with_their_generator_and_stay_in_range(name):
    patches, width = torch.rand(12, 1, 8, 8, 8), WIDTHS[name]
    before = patches.clone()
    once, again = (augmented_intensities(patches, rngs(*range(12)), width) for _ in range(2))
    assert torch.equal(once, again) and type(once) is torch.Tensor and torch.equal(patches, before)
    assert once.min() >= 0 and once.max() <= 1
    assert not torch.equal(once, augmented_intensities(patches, rngs(*range(20, 32)), width))
    # A patch does not depend on those beside it, so that a batch can be shared out among processes.
    alone = torch.cat([augmented_intensities(patches[i : i + 1], rngs(i), width) for i in range(12)])
    torch.testing.assert_close(once, alone)


def test_other_ranges_are_changed_as_the_unit_range_is():
    patches = torch.rand(8, 1, 8, 8, 8)
    unit = augmented_intensities(patches, rngs(*range(8)), WIDTHS["wide"])
    other = augmented_intensities(patches * 6 - 3, rngs(*range(8)), WIDTHS["wide"], [(-3.0, 3.0)])
    torch.testing.assert_close((other + 3) / 6, unit, atol=1e-5, rtol=0)


def test_off_changes_nothing():
    patches = torch.rand(2, 1, 8, 8, 8)
    torch.testing.assert_close(augmented_intensities(patches, rngs(0, 1), WIDTHS["off"]), patches)
    assert np.array_equal(random_shape(WIDTHS["off"], np.random.default_rng(0), (1, 1, 1)), np.eye(3))


@pytest.mark.parametrize(("name", "amount"), [("_blurred", 1.0), ("_coarse", 0.5)])
def test_thick_slices_are_blurred_and_coarsened_in_their_plane_only(name: str, amount: float):
    patch = torch.rand(1, 1, 16, 16, 6).round(decimals=3)
    flat = patch[..., :1].expand_as(patch).contiguous()
    everywhere = augmented_intensities(patch, rngs(0), only(name, amount))
    in_plane = augmented_intensities(patch, rngs(0), only(name, amount), thick=2)
    slices = torch.cat([augmented_intensities(patch[..., k : k + 1], rngs(0), only(name, amount), thick=2)
                        for k in range(6)], -1)  # fmt: skip
    torch.testing.assert_close(in_plane, slices)
    assert (everywhere - in_plane).abs().max() > 0.05
    # Where all slices are alike, it makes no difference within the volume whether they are mixed.
    assert (in_plane - patch).abs().max() > 0.05 and flat.std() > 0.1


def test_each_change_does_what_it_is_called():
    ramp = torch.linspace(0, 1, 9).view(1, 1, 9, 1, 1).expand(1, 1, 9, 8, 8).contiguous()
    line = {name: augmented_intensities(ramp, rngs(0), only(name, amount))[0, 0, :, 0, 0] for name, amount in (
        ("_brighter", 0.75), ("_shifted", 0.1), ("_contrasted", 0.5), ("_gamma", 2.0), ("_inverted_gamma", 2.0))}  # fmt: skip
    x = torch.linspace(0, 1, 9)
    torch.testing.assert_close(line["_brighter"], 0.75 * x)
    torch.testing.assert_close(line["_shifted"], (x + 0.1).clamp(max=1))
    torch.testing.assert_close(line["_contrasted"], 0.5 + 0.5 * (x - 0.5))
    torch.testing.assert_close(line["_gamma"], x**2)
    torch.testing.assert_close(line["_inverted_gamma"], 1 - (1 - x) ** 2)


def test_wide_shapes_are_turned_seldom_and_far_and_thick_ones_in_their_plane():
    rng = np.random.default_rng(0)
    shapes = [random_shape(WIDTHS["wide"], rng, (1.0, 1.0, 1.0)) for _ in range(400)]
    turned = [np.abs(shape[~np.eye(3, dtype=bool)]).max() > 1e-6 for shape in shapes]
    assert 0.13 < np.mean(turned) < 0.27
    assert 0.3 < np.mean([not np.array_equal(shape, np.eye(3)) for shape in shapes]) < 0.42
    for _ in range(100):
        shape = random_shape(WIDTHS["wide"], rng, (1.5, 1.5, 10.0))
        assert np.allclose(shape[2], [0, 0, 1]) and np.allclose(shape[:, 2], [0, 0, 1])


def test_changes_are_those_of_the_device_that_holds_the_patches():
    # A device without values takes every operation that is not bound to another one.
    patches = torch.empty(3, 1, 8, 8, 8, device="meta")
    for name, amount in (
        ("_brighter", 0.8),
        ("_shifted", 0.1),
        ("_contrasted", 0.8),
        ("_gamma", 1.2),
        ("_coarse", 0.5),
    ):
        assert CHANGES[name](patches, [amount] * 3, None).device.type == "meta"
    assert augmentation._blurred(patches, [0.7] * 3, 2).device.type == "meta"


@pytest.mark.parametrize(
    ("names", "sided"),
    [
        (("liver", "spleen"), False),
        (("anterior hippocampus", "posterior hippocampus"), False),
        (("liver", "Left Kidney"), True),
        (("kidney_right",), True),
        (("KidneyL",), True),
        (("ctx-lh-cuneus",), True),
        (("Niere links",), True),
        (("左肾",), True),
        (("upright tissue", "trouble", "cleft"), False),
    ],
)
def test_label_sets_tell_whether_a_structure_has_a_side(names: tuple[str, ...], sided: bool):
    assert LabelSet.from_names(dict(enumerate(names, 1))).has_sides is sided


def test_codes_tell_a_side_too():
    sided = LabelSet.from_names({1: "left kidney"}).structures[0]
    assert LabelSet(structures=(sided.model_copy(update={"name": "organ 1"}),)).has_sides


def plain_batches(cohort: Cohort, plan: Plan, volume: np.ndarray, method: str = "mean-teacher", **settings) -> Batches:
    """Batches of cases that all have the same image, without labels."""
    cases = {case.name: type("Case", (), {"name": case.name, "image": volume[None], "size": volume.shape,
                                          "label": np.zeros(volume.shape, np.uint8),
                                          "locations": staticmethod(dict)}) for case in cohort.cases}  # fmt: skip
    config = small_config(
        method, fkd="off", pic=True, **{"pseudo_label_start": 0.0, "steps": 30, "pic.probability": 0.0, **settings}
    )
    schedule = schedule_of_steps(config, 30)
    return Batches(cohort, cases, plan, config, schedule, rank=0, first_step=0, features=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("sided", [False, True])
def test_patches_are_mirrored_only_where_no_structure_has_a_side(sided: bool, tmp_path: Path):
    cohort = make_cohort(tmp_path)
    if sided:
        cohort = cohort.model_copy(update={"labels": LabelSet.from_names({1: "left kidney", 2: "gallbladder"})})
    ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float16)[:, None, None], (32, 32, 32))
    batches = plain_batches(cohort, make_plan(), ramp, augment="off", mirror=True)
    seen: set[bool] = set()
    for step in range(30):
        batch = batches[batches.wanted(step)]
        first, second = (bool(patch[0, 0, 0, 0] > patch[0, -1, 0, 0]) for patch in batch.unlabeled)
        assert first == second  # those that mix among each other
        seen |= {first, *(bool(patch[0, 0, 0, 0] > patch[0, -1, 0, 0]) for patch in batch.labeled)}
    assert seen == ({False} if sided else {False, True})


def test_flips_reverse_each_axis_named_whatever_it_shows(tmp_path: Path):
    cohort = make_cohort(tmp_path)
    cohort = cohort.model_copy(update={"labels": LabelSet.from_names({1: "left kidney", 2: "gallbladder"})})
    x, y, z = np.meshgrid(*[np.arange(32) / 32] * 3, indexing="ij")
    batches = plain_batches(cohort, make_plan(), (x + 2 * y + 4 * z) / 7, augment="off", flips=("x", "y"))
    seen: list[tuple[bool, ...]] = []
    for step in range(30):
        batch = batches[batches.wanted(step)]
        for patch in torch.cat([batch.labeled, batch.unlabeled])[:, 0]:
            start = patch[0, 0, 0]
            seen.append((bool(start > patch[-1, 0, 0]), bool(start > patch[0, -1, 0]), bool(start > patch[0, 0, -1])))
    shares = np.mean(seen, axis=0)
    assert len(set(seen)) == 4 and (abs(shares[:2] - 0.5) < 0.2).all() and shares[2] == 0


def test_on_a_grid_of_fixed_size_anatomy_is_turned_and_not_sheared(tmp_path: Path):
    """Cases of 64 x 64 x 40 voxels of 1 x 1 x 1.92 mm: on a grid of 32 x 32 x 32 a voxel is 2 x 2 x 2.4 mm."""
    cohort = make_cohort(tmp_path)
    cases = [case.model_copy(update={"spacing": (1.0, 1.0, 1.92), "size": (64, 64, 40)}) for case in cohort.cases]
    cohort = cohort.model_copy(update={"cases": tuple(cases)})
    plan = override_plan({**make_plan().model_dump(), "grid": {"kind": "size", "size": (32, 32, 32)}}, {})
    volume = np.zeros((32, 32, 32), np.float16)
    batches = plain_batches(cohort, plan, volume, augment="narrow")
    spacing, turned = np.array([2.0, 2.0, 2.4]), 0
    for step in range(10):
        for placement in batches[batches.wanted(step)].placements:
            in_millimeters = spacing[:, None] * placement.matrix / spacing
            angles = in_millimeters / np.linalg.norm(in_millimeters, axis=0)
            # Columns stay perpendicular: boxes of tissue stay boxes.
            np.testing.assert_allclose(angles.T @ angles, np.eye(3), atol=1e-9)
            turned += not np.array_equal(placement.matrix, np.eye(3))
    assert turned > 5
