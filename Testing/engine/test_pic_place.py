"""PIC: what is mixed comes from about the same place of the body, however small the patches are."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from dinomix.training.alignment import Bodies
from dinomix.training.batches import Batches
from dinomix.training.schedule import schedule_of_steps
from tiny_cohort import make_cohort, make_plan, small_config

SIDE = 16
SIZES = ((96, 96, 96), (144, 120, 96))


def ramp_case(name: str, size: tuple[int, int, int], channel: int) -> SimpleNamespace:
    """A volume whose voxels tell their place along x, as a share of its extent, and a structure at three quarters of it."""
    x = ((np.arange(size[0]) + 0.5) / size[0])[:, None, None]
    voxel = np.array([3 * size[0] // 4, size[1] // 2, size[2] // 2])
    label = np.zeros(size, np.uint8)
    label[tuple(slice(v - 2, v + 3) for v in voxel)] = channel
    image = np.broadcast_to(x, size).astype(np.float16)
    locations = {channel: np.argwhere(label == channel)}
    return SimpleNamespace(name=name, size=size, image=image, label=label, locations=lambda: locations)


def batches(tmp_path: Path, *, pic: bool) -> Batches:
    cohort = make_cohort(tmp_path)
    cases = {
        case.name: ramp_case(case.name, SIZES[number % 2], 1 + number % 2) for number, case in enumerate(cohort.cases)
    }
    settings = {"pic.probability": 1.0, "augment": "off", "foreground_fraction": 0.0, "pseudo_label_start": 0.0}
    config = small_config(method="mean-teacher", fkd="off", pic=pic, **settings)
    plan = make_plan().model_copy(update={"patch": (SIDE, SIDE, SIDE)})
    schedule = schedule_of_steps(config, 12)
    return Batches(cohort, cases, plan, config, schedule, rank=0, first_step=0, features=None)  # type: ignore[arg-type]


def test_a_box_is_pasted_where_it_belongs_in_the_body(tmp_path: Path):
    source = batches(tmp_path, pic=True)
    draws = 0
    for step in range(8):
        batch = source[source.wanted(step)]
        for draw in batch.draws:
            patch = batch.labeled[draw.receiver, 0].numpy()
            inside = np.zeros(patch.shape, bool)
            inside[draw.box] = True
            # Patches lie off the voxel that they are cut around by up to a quarter of their side, each on its own.
            assert abs(patch[inside].mean() - patch[~inside].mean()) < 1.5 * SIDE / SIZES[0][0]
            assert abs(patch.mean() - 0.75) < SIDE / SIZES[0][0] or draw.channel is None
            draws += 1
    assert draws == 16


def cube_case(size: tuple[int, int, int], corner: tuple[int, int, int]) -> SimpleNamespace:
    """A volume with a structure of 4 x 4 x 4 voxels, bright as it is."""
    label = np.zeros(size, np.uint8)
    label[tuple(slice(c, c + 4) for c in corner)] = 1
    return SimpleNamespace(
        name="cube",
        size=size,
        image=label.astype(np.float16),
        label=label,
        locations=lambda: {1: np.argwhere(label == 1)},
    )


def test_a_structure_is_pasted_upon_itself_wherever_it_lies_in_the_volumes(tmp_path: Path):
    source = batches(tmp_path, pic=True)
    places = ((90, 40, 30), (40, 60, 50), (60, 30, 40))
    source.labeled_cases = [cube_case((144, 120, 96), place) for place in places]  # type: ignore[misc]
    source.bodies = Bodies(source.labeled_cases)
    source.spacings["cube"] = (1.0, 1.0, 1.0)
    source.channels = {number: {1} for number in range(3)}
    source.counts = np.array([64.0, *source.counts[1:] * 0])
    draws = 0
    for step in range(8):
        batch = source[source.wanted(step)]
        for draw in batch.draws:
            # One that lay elsewhere would be seen twice, or cut.
            assert int((batch.labels[draw.receiver] == 1).sum()) == 64
            draws += draw.channel is not None
    assert draws == 16


def test_unlabeled_patches_that_mix_show_the_same_place(tmp_path: Path):
    source = batches(tmp_path, pic=True)
    places = []
    for step in range(8):
        first, second = (float(patch.mean()) for patch in source[source.wanted(step)].unlabeled)
        assert abs(first - second) < SIDE / SIZES[0][0]
        places.append(first)
    assert np.ptp(places) > 0.3


def test_without_pic_unlabeled_patches_lie_anywhere(tmp_path: Path):
    source = batches(tmp_path, pic=False)
    apart = [
        abs(float(a.mean()) - float(b.mean())) for a, b in (source[source.wanted(step)].unlabeled for step in range(8))
    ]
    assert max(apart) > 0.3
