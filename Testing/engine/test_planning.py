"""The plan and the cache of cases."""

from pathlib import Path

import numpy as np
import pytest

from dinomix.errors import DinomixError
from dinomix.events import silent
from dinomix.labels import LabelSet
from dinomix.models.network import build_network
from dinomix.planning.cache import cache_cases
from dinomix.planning.field_of_view import field_of_view
from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow, SpacingGrid
from dinomix.planning.planning import make_plan
from dinomix.planning.ras_axes import size_in_ras, spacing_in_ras
from dinomix.training.augmentation import WIDTHS
from dinomix.training.patches import random_placement
from dinomix.training.trial import find_stage, try_network
from tiny_cohort import make_cohort
from tiny_cohort import make_plan as tiny_plan

GIB = 2**30


@pytest.fixture
def cohort(tmp_path: Path):
    return make_cohort(tmp_path / "cases")


def changed(cohort, **fields):
    return cohort.model_copy(update={"cases": tuple(case.model_copy(update=fields) for case in cohort.cases)})


def test_spacing_is_told_in_ras_whatever_the_file_has(cohort):
    case = cohort.cases[0].model_copy(update={"orientation": "SPL", "spacing": (5.0, 0.7, 0.8), "size": (20, 512, 480)})
    assert spacing_in_ras(case) == (0.8, 0.7, 5.0)
    assert size_in_ras(case) == (480, 512, 20)


def test_ct_takes_its_window_from_the_structures(cohort):
    plan = make_plan(cohort, device_kind="cpu", memory_bytes=8 * GIB, batch=4)
    assert isinstance(plan.window, RangeWindow)
    assert plan.window.low <= -100 and plan.window.high >= 220
    assert plan.grid == SpacingGrid(spacing=(1.0, 1.0, 1.0))
    assert set(plan.reasons) == {"spacing", "window", "patch", "network"}


def test_labels_of_validation_and_test_cases_have_no_say_in_the_window(cohort):
    plain = make_plan(cohort, device_kind="cpu", memory_bytes=8 * GIB, batch=4)
    held_out = [c.model_copy(update={"foreground_intensity": (-900.0, 0.0, 1900.0)}) for c in cohort.cases]
    for role in ("validation", "test"):
        others = [c.model_copy(update={"role": role}) for c in held_out]
        more = cohort.model_copy(update={"cases": (*cohort.cases, *others)})
        assert make_plan(more, device_kind="cpu", memory_bytes=8 * GIB, batch=4).window == plain.window


def test_a_cohort_without_labels_is_refused(cohort):
    with pytest.raises(DinomixError, match="no labeled case"):
        make_plan(
            cohort.model_copy(update={"cases": cohort.with_role("unlabeled")}),
            device_kind="cpu",
            memory_bytes=GIB,
            batch=4,
        )


def test_arguments_of_the_network_can_be_added(cohort):
    plan = make_plan(cohort, device_kind="cpu", memory_bytes=GIB, batch=4, overrides={"network.dropout": 0.1})
    assert plan.network["dropout"] == 0.1


def test_mr_takes_each_volumes_own_percentiles(cohort):
    mr = cohort.model_copy(update={"modality": "MR"})
    assert isinstance(make_plan(mr, device_kind="gpu", memory_bytes=40 * GIB, batch=4).window, PercentileWindow)


def test_the_patch_keeps_to_memory_and_follows_anisotropy(cohort):
    large = changed(cohort, size=(512, 512, 200), spacing=(0.8, 0.8, 2.3), orientation="LPS")
    roomy = make_plan(large, device_kind="gpu", memory_bytes=80 * GIB, batch=4)
    tight = make_plan(large, device_kind="gpu", memory_bytes=4 * GIB, batch=4)
    for plan in (roomy, tight):
        assert try_network(build_network(plan, 3), plan.patch, 3)
        assert max(plan.grid.spacing) < 1.5 * min(plan.grid.spacing) or plan.grid.spacing[2] == 2.3
    assert np.prod(tight.patch) < np.prod(roomy.patch) <= 128 * 128 * 64


def test_many_structures_leave_room_for_a_smaller_patch(cohort):
    labels = LabelSet.from_names({id: f"structure {id}" for id in range(1, 101)})
    many = trunk(cohort).model_copy(update={"labels": labels})
    few, patch = (make_plan(c, device_kind="gpu", memory_bytes=14 * GIB, batch=4).patch for c in (trunk(cohort), many))
    # Measured: 32 start channels and 101 outputs take 5,046 bytes a voxel in float32.
    assert np.prod(patch) < np.prod(few) and np.prod(patch) * 4 * 5046 < 14 * GIB


@pytest.mark.parametrize("size", [(40, 40, 640), (32, 32, 1200), (64, 64, 4000)])
def test_long_cases_get_a_patch_as_long_as_one_may_be(cohort, size):
    long = changed(cohort, size=size, spacing=(1.0, 1.0, 1.0), voxels={1: 9000, 2: 6000})
    plan = make_plan(long, device_kind="gpu", memory_bytes=80 * GIB, batch=4)
    assert max(plan.patch) == 512


def thick(cohort, **fields):
    """A cohort like short-axis cardiac MR; given voxels, the smallest structure is a ball of about 3 cm."""
    fields = {"size": (216, 256, 10), "spacing": (1.5, 1.5, 10.0), "voxels": {1: 4000, 2: 600}, **fields}
    return changed(cohort, **fields)


def test_thick_slices_are_not_padded_and_mix_late(cohort):
    plan = make_plan(thick(cohort), device_kind="gpu", memory_bytes=80 * GIB, batch=4)
    assert plan.grid.spacing == (1.5, 1.5, 10.0) and plan.patch == (224, 256, 10)
    strides, kernels = plan.network["strides"], plan.network["kernel_size"]
    # 1.5, 3 and 6 mm: slices of 10 mm stay apart until the voxels are about as long.
    assert kernels[:3] == [[3, 3, 1], [3, 3, 1], [3, 3, 3]] and strides[1:4] == [[2, 2, 1], [2, 2, 1], [2, 2, 2]]
    outputs = try_network(build_network(plan, 3), plan.patch, 3)
    assert find_stage(outputs, plan.patch, plan.fkd_stage).grid == (28, 32, 5)


def test_the_plane_of_thick_slices_is_coarsened_until_a_quarter_is_seen(cohort):
    plan = make_plan(thick(cohort), device_kind="cpu", memory_bytes=16 * GIB, batch=4)
    x, y, z = plan.grid.spacing
    assert x == y and 1.5 < x < 2 and z == 10.0
    millimeters = np.prod(plan.patch) * x * y * z
    assert 0.2 < millimeters / (216 * 256 * 10 * 1.5 * 1.5 * 10) < 0.3
    assert "25%" in plan.reasons["spacing"]


def test_small_structures_keep_three_voxels_when_the_plane_is_coarsened(cohort):
    # A ball of 22 voxels of 22.5 cubic millimeters measures 9.8 mm across.
    small = thick(cohort, size=(512, 512, 12), voxels={1: 4000, 2: 22})
    plan = make_plan(small, device_kind="cpu", memory_bytes=16 * GIB, batch=4)
    assert plan.grid.spacing[0] == pytest.approx(9.8 / 3, abs=0.02)


def test_thick_slices_of_any_size_get_a_patch_within_the_limit(cohort):
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, z = (int(n) for n in rng.integers([40, 40, 8], [600, 600, 120]))
        fine, coarse = float(rng.uniform(0.4, 2)), float(rng.uniform(6, 10))
        limit = int(rng.integers(20_000, 128 * 128 * 64))
        case = thick(cohort, size=(x, y, z), spacing=(fine, fine, coarse)).cases[0]
        planned = field_of_view([case], (fine, fine, coarse), limit)
        assert np.prod(planned.patch) <= limit or min(planned.patch[:2]) <= 32
        assert all(side <= 1.05 * size + 32 for side, size in zip(planned.patch, (x, y, z), strict=True))


def test_a_start_model_keeps_its_network_on_the_cohorts_own_grid(cohort):
    start = tiny_plan()
    plan = make_plan(thick(cohort), device_kind="cpu", memory_bytes=16 * GIB, batch=4, start=start)
    scratch = make_plan(thick(cohort), device_kind="cpu", memory_bytes=16 * GIB, batch=4)
    assert plan.network == start.network and plan.grid == scratch.grid
    assert try_network(build_network(plan, 3), plan.patch, 3)


def trunk(cohort, **fields):
    """A cohort like trunk CT; given voxels, the smallest structure is a ball of about 2 cm."""
    usual = {
        "size": (512, 512, 450),
        "spacing": (0.8, 0.8, 1.0),
        "orientation": "LPS",
        "voxels": {1: 2_000_000, 2: 6000},
    }
    return changed(cohort, **{**usual, **fields})


@pytest.mark.parametrize(("kind", "memory"), [("cpu", 16), ("gpu", 80)])
def test_a_patch_of_a_trunk_shows_a_quarter_of_it(cohort, kind, memory):
    plan = make_plan(trunk(cohort), device_kind=kind, memory_bytes=memory * GIB, batch=4)
    spacing = np.array(plan.grid.spacing)
    assert np.ptp(spacing) < 0.2 * spacing.min()
    share = np.prod(plan.patch * spacing) / (512 * 512 * 450 * 0.8 * 0.8)
    assert 0.2 < share < 0.3
    assert "25%" in plan.reasons["spacing"]


def test_small_structures_end_the_coarsening_of_a_trunk(cohort):
    # A ball of 10 mm: three voxels of 3.3 mm; the reason says what is seen then.
    plan = make_plan(trunk(cohort, voxels={1: 2_000_000, 2: 818}), device_kind="cpu", memory_bytes=16 * GIB, batch=4)
    assert plan.grid.spacing == pytest.approx((3.33, 3.33, 3.33), abs=0.02)
    assert "leaves the smallest structure 3 voxels" in plan.reasons["spacing"]


def test_small_cases_are_seen_whole_on_their_own_grid(cohort):
    plan = make_plan(changed(cohort, size=(35, 50, 36)), device_kind="cpu", memory_bytes=16 * GIB, batch=4)
    assert plan.grid.spacing == (1.0, 1.0, 1.0)
    assert all(side >= size for side, size in zip(plan.patch, (35, 50, 36), strict=True))
    assert np.prod(plan.patch) < 1.8 * 35 * 50 * 36


def test_the_slices_of_any_axis_may_be_thick(cohort):
    plan = make_plan(thick(cohort, orientation="SPL", spacing=(10.0, 1.5, 1.5), size=(10, 256, 216)),
                     device_kind="gpu", memory_bytes=80 * GIB, batch=4)  # fmt: skip
    assert plan.patch == (224, 256, 10)
    sagittal = make_plan(thick(cohort, orientation="LPS", spacing=(10.0, 1.5, 1.5), size=(10, 256, 216)),
                         device_kind="gpu", memory_bytes=80 * GIB, batch=4)  # fmt: skip
    assert sagittal.patch == (10, 256, 224) and sagittal.network["kernel_size"][0] == [1, 3, 3]


def test_thick_slices_are_turned_in_their_plane_only():
    rng, width = np.random.default_rng(0), WIDTHS["narrow"]
    for _ in range(20):
        placement = random_placement((216, 256, 10), (96, 96, 10), rng, width, spacing=(1.5, 1.5, 10.0))
        assert np.allclose(placement.matrix[2], [0, 0, 1]) and np.allclose(placement.matrix[:, 2], [0, 0, 1])
    turned = [random_placement((96, 96, 96), (48, 48, 48), rng, width, spacing=(1, 1, 2)).matrix for _ in range(20)]
    assert any(abs(matrix[2, 0]) > 0.01 for matrix in turned)


def test_the_coarse_axis_of_an_anisotropic_cohort_keeps_detail(cohort):
    spacings = [(1.0, 1.0, 2.5), *[(1.0, 1.0, 6.0)] * 5]
    cases = tuple(c.model_copy(update={"spacing": s}) for c, s in zip(cohort.cases, spacings, strict=True))
    plan = make_plan(cohort.model_copy(update={"cases": cases}), device_kind="cpu", memory_bytes=GIB, batch=4)
    assert 2.5 <= plan.grid.spacing[2] < 6.0


def test_what_the_user_fixes_is_obeyed_and_written_down(cohort, tmp_path: Path):
    overrides = {"patch": [48, 32, 32], "grid.spacing": [2, 2, 2]}
    plan = make_plan(cohort, device_kind="cpu", memory_bytes=GIB, batch=4, overrides=overrides)
    plan.write(tmp_path / "plan.json")
    again = Plan.read(tmp_path / "plan.json")
    assert again == plan and again.patch == (48, 32, 32) and again.grid.spacing == (2, 2, 2)
    assert again.reasons["patch"] == "given by the user"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"patch": [50, 32, 32]}, "multiple of 8"),
        ({"colour": 1}, "no field colour"),
        ({"grids.spacing": [1, 1, 1]}, "no field grids.spacing"),
        ({"modality.patch": 1}, "no field modality.patch"),
        ({"grid.spacing": [0, 1, 1]}, "greater than or equal to 0.001"),
        ({"overlap": [1, 0.5, 0.5]}, "less than or equal to 0.95"),
        ({"window.low": 500, "window.high": 400}, "not below"),
    ],
)
def test_what_cannot_be_is_refused(cohort, overrides, words):
    with pytest.raises(DinomixError, match=words):
        make_plan(cohort, device_kind="cpu", memory_bytes=GIB, batch=4, overrides=overrides)


def test_cached_cases_are_memory_mapped_and_kept(cohort, tmp_path: Path):
    cached = cache_cases(cohort, tiny_plan(), tmp_path / "cache", silent)
    labeled = cached["case0"]
    assert isinstance(labeled.image, np.memmap) and labeled.image.dtype == np.float16
    assert labeled.image.min() >= 0 and labeled.image.max() <= 1
    counts = cohort.cases[0].voxels
    assert {c: len(v) for c, v in labeled.locations().items()} == {c: min(n, 2000) for c, n in counts.items()}
    for channel, voxels in labeled.locations().items():
        assert (labeled.label[tuple(voxels.T)] == channel).all()
    unlabeled = cached[cohort.with_role("unlabeled")[0].name]
    assert not (unlabeled.folder / "label.npy").exists()

    before = labeled.folder.stat().st_mtime_ns
    events = []
    cache_cases(cohort, tiny_plan(), tmp_path / "cache", lambda kind, **fields: events.append(kind))
    assert labeled.folder.stat().st_mtime_ns == before and not events


def test_structures_with_gaps_in_their_ids_become_channels(cohort, tmp_path: Path):
    from dinomix.labels import LabelSet

    labels = LabelSet.from_names({5: "gallbladder", 9: "liver"})
    cases = tuple(c.model_copy(update={"label_values": {1: 9, 2: 5}}) if c.label else c for c in cohort.cases)
    renamed = cohort.model_copy(update={"labels": labels, "cases": cases})
    label = cache_cases(renamed, tiny_plan(), tmp_path / "cache", silent)["case0"].label
    counts = cohort.cases[0].voxels
    assert {int(v): int((label == v).sum()) for v in (1, 2)} == {1: counts[2], 2: counts[1]}


def test_a_file_that_changed_since_it_was_checked_is_refused(cohort, tmp_path: Path):
    label = cohort.with_role("labeled")[0].label
    label.write_bytes(cohort.with_role("labeled")[1].label.read_bytes())
    with pytest.raises(DinomixError, match=f"{label.name} has changed"):
        cache_cases(cohort, tiny_plan(), tmp_path / "cache", silent)


def test_what_a_killed_run_left_in_the_cache_is_removed(cohort, tmp_path: Path):
    (tmp_path / "cache/.partial-abc-entry").mkdir(parents=True)
    cache_cases(cohort, tiny_plan(), tmp_path / "cache", silent)
    assert not list((tmp_path / "cache").glob(".partial-*"))
