"""What a cache is said to take before it is filled, and what it then takes."""

import shutil
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_image
from dinomix.planning.cache import cache_cases, cache_features
from dinomix.planning.planning import override_plan
from dinomix.training import disk
from dinomix.training.control import RunPaused
from dinomix.training.disk import bytes_of_case, cached_size, needed
from dinomix.training.estimate import estimate
from dinomix.training.fkd import teacher_of
from dinomix.training.train import resume, train
from tiny_cohort import make_cohort, make_plan, small_config

pytestmark = pytest.mark.usefixtures("without_graphs")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def turned_cohort(folder: Path) -> Cohort:
    """A case for each of some axis orders and handednesses, off the axes a little."""
    for number, order in enumerate(permutations(range(3))):
        direction = Rotation.from_euler("xyz", [8, -5, 11], degrees=True).as_matrix() @ np.eye(3)[:, order]
        direction[:, number % 3] *= -1
        geometry = Geometry((21 + number, 30, 17), (0.8, 1.7, 2.5), (3.0, 4.0, 5.0), direction)
        rng = np.random.default_rng(number)
        label = np.zeros(geometry.size[::-1], np.uint8)
        label[3:9, 4:20, 5:15] = 1
        for part, array in (("images", rng.normal(0, 99, label.shape).astype(np.float32)), ("labels", label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            write_image(Volume(array, geometry), folder / part / f"case{number}.nii.gz")
    return check_cohort([folder], [], [], modality="CT", validation=2)


def test_images_and_labels_are_reckoned_to_the_byte(tmp_path: Path):
    cohort = turned_cohort(tmp_path / "in")
    assert len({case.orientation for case in cohort.cases}) == 6
    plan = override_plan(make_plan().model_dump(mode="json"), {"grid.spacing": (1.3, 0.9, 2.0)})
    cached = cache_cases(cohort, plan, tmp_path / "cache", lambda *_, **__: None)
    for case in cohort.cases:
        folder = cached[case.name].folder
        assert np.load(folder / "image.npy").shape == cached_size(case, plan)
        points = (folder / "locations.npz").stat().st_size
        assert abs(bytes_of_case(case, cohort, plan) - size_of(folder)) <= 0.2 * points


def test_what_is_told_before_a_run_is_what_it_writes(tmp_path: Path):
    cohort, plan, cache = make_cohort(tmp_path / "cases", validation=1), make_plan(), tmp_path / "cache"
    config = small_config("dino-mix", steps=2, fkd="cached", **{"fkd.slice_stride": 3})
    told: list[dict] = []
    said = estimate(cohort, config, plan, cache=cache)
    train(cohort, tmp_path / "run", config, plan, cache=cache,
          emit=lambda kind, **fields: told.append({"kind": kind, **fields}))  # fmt: skip
    kinds = [event["kind"] for event in told]
    assert kinds.count("disk") == 1 and kinds.index("disk") < kinds.index("progress")
    event = told[kinds.index("disk")]
    features = sum(path.stat().st_size for path in cache.rglob("features-*.npy"))
    assert event["features"] == features == said["cache_bytes"]["features"]
    assert event["cases"] == said["cache_bytes"]["cases"] == pytest.approx(size_of(cache) - features, rel=0.01)
    assert event["free"] > 0 and event["path"] == str(cache)

    told.clear()
    train(cohort, tmp_path / "again", config, plan, cache=cache,
          emit=lambda kind, **fields: told.append({"kind": kind, **fields}))  # fmt: skip
    assert "disk" not in [event["kind"] for event in told]
    assert estimate(cohort, config, plan, cache=cache)["cache_bytes"] == {"cases": 0, "features": 0}
    shutil.rmtree(next(cache.glob("*/features-*.npy")).parent)
    assert needed(cohort, config, plan, cache, None).features == 0
    foundation = teacher_of(config.fkd, plan, cohort)
    lacking = needed(cohort, config, plan, cache, foundation)
    assert 0 < lacking.cases < event["cases"] and 0 < lacking.features < features


def test_a_run_that_the_disk_cannot_hold_pauses_before_it_writes_cases(tmp_path: Path, monkeypatch):
    cohort, plan, config = make_cohort(tmp_path / "cases"), make_plan(), small_config("labeled-only", steps=2)
    with monkeypatch.context() as small:
        small.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(RunPaused, match=r"0\.0 GB left"):
            train(cohort, tmp_path / "run", config, plan)
    assert not list((tmp_path / "run").rglob("*.npy"))
    assert (resume(tmp_path / "run") / "models").is_dir()


def test_processes_share_the_features_of_a_cohort_out(tmp_path: Path):
    cohort, plan = make_cohort(tmp_path / "cases", labeled=3, unlabeled=4), make_plan()
    cases = list(cache_cases(cohort, plan, tmp_path / "cache", lambda *_, **__: None).values())
    seen: list[int] = []

    def features_of(image):
        seen.append(int(image.astype(np.float64).sum() * 1000))
        return np.zeros((2, 2, 2, 3), np.float16)

    told: list[tuple[int, int]] = []

    def emit(kind: str, **fields):
        told.append((fields["step"], fields["total"]))

    cache_features(cases, "key", features_of, emit, share=(0, 2))
    assert [case.has_features("key") for case in cases] == [True, False] * 4
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    cache_features(cases, "key", features_of, emit, share=(1, 2))
    assert all(case.has_features("key") for case in cases) and len(seen) == len(set(seen)) == 8
    cases[5].features_file("key").unlink()
    cache_features(cases, "key", features_of, emit, share=(1, 2))
    assert seen[-1] in seen[:8] and len(seen) == 9
