"""Images that a model cannot know are told, and those that it knows are not: generated bodies, and real scans."""

import os
from pathlib import Path

import numpy as np
import pytest

from dinomix.cohort.cohort import Cohort
from dinomix.images.reading import read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.suitability import doubts_of_image, doubts_of_result
from dinomix.labels import LabelSet
from dinomix.models.training_cases import TrainingCases
from dinomix.planning.plan import PercentileWindow, RangeWindow
from dinomix.planning.ras_axes import spacing_in_ras
from tiny_cohort import make_cohort, make_plan

CASES = TrainingCases(
    spacing=((0.7, 1.0), (0.7, 1.0), (1.0, 3.0)),
    extent=((300, 400), (300, 400), (200, 600)),
    volume={"liver": (900, 2000)},
)


def body(seed: int = 0) -> np.ndarray:
    """A cylinder of fat, muscle and bone in air, (k, j, i), HU."""
    rng = np.random.default_rng(seed)
    _, j, i = np.indices((20, 60, 60)) - np.array([10, 30, 30]).reshape(3, 1, 1, 1)
    radius = np.hypot(i, j)
    hu = np.where(radius < 26, -100.0, -1000.0)
    hu[radius < 22] = 50
    hu[np.hypot(i, j - 14) < 4] = 600
    return (hu + rng.normal(0, 15, hu.shape)).astype(np.float32)


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (6.0, 6.0, 12.0)) -> Volume:
    return Volume(array, Geometry(array.shape[::-1], spacing, (0.0, 0.0, 0.0), np.eye(3)))


def rescaled(low: float, high: float) -> np.ndarray:
    hu = body()
    return (hu - hu.min()) / (hu.max() - hu.min()) * (high - low) + low


PLANS = {
    "CT": make_plan().model_copy(update={"modality": "CT", "window": RangeWindow(low=-160, high=240)}),
    "brain CT": make_plan().model_copy(update={"modality": "CT", "window": RangeWindow(low=0, high=80)}),
    "MR": make_plan().model_copy(update={"modality": "MR", "window": PercentileWindow()}),
}


def words(image: Volume, wanted: str, cases: TrainingCases | None = None, modality: str | None = None) -> list[str]:
    return [
        f"{'grave' if d.grave else 'notice'}: {d.message}"
        for d in doubts_of_image(image, PLANS[wanted], cases, modality)
    ]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (rescaled(0, 1), "scaled to a small range"),
        (rescaled(-1, 1), "scaled to a small range"),
        (rescaled(0, 255), "8 bits"),
        (np.rint(rescaled(0, 255)), "8 bits"),
        (body() + 1024, "stored values"),
        ((body() - body().mean()) / body().std(), "scaled to a small range"),
        (np.abs(np.random.default_rng(1).normal(300, 200, (20, 60, 60))), "not look like a CT"),
    ],
)
def test_what_is_not_in_hu_is_grave_for_a_ct_model(array: np.ndarray, told: str) -> None:
    found = words(volume(array), "CT")
    assert len(found) == 1 and found[0].startswith("grave") and told in found[0]


@pytest.mark.parametrize(
    "how", [lambda hu: hu, lambda hu: np.maximum(hu, -200), lambda hu: np.clip(hu, -1024, 3071), np.rint]
)
def test_a_ct_is_not_doubted(how) -> None:  # type: ignore[no-untyped-def]
    assert words(volume(how(body())), "CT") == []


def test_a_ct_for_an_mr_model_and_what_the_header_says() -> None:
    assert "for MR" in words(volume(body()), "MR")[0]
    assert words(volume(rescaled(0, 900)), "MR") == []
    assert words(volume((rescaled(0, 900) - 300) / 150), "MR") == []  # standardized
    assert "header" in words(volume(rescaled(0, 900)), "MR", modality="CT")[0]
    assert words(volume(body()), "CT", modality="CT") == []


def test_what_the_training_cases_were_like_is_not_doubted() -> None:
    cut_off = volume(np.clip(body(), 0, 80))
    assert "8 bits" in words(cut_off, "CT")[0]
    assert words(cut_off, "brain CT") == []  # below 0 all is the same to this model
    assert "small range" in words(volume(rescaled(0, 1)), "brain CT")[0]
    trained = CASES.model_copy(
        update={"intensity": ((0.0, 0.0, 70.0, 80.0),), "spacing": ((9, 9),) * 3, "extent": ((1, 1),) * 3}
    )
    assert words(cut_off, "CT", trained) == [] and "stored values" in words(volume(body() + 1024), "CT", trained)[0]


def test_a_coarser_grid_and_a_smaller_field_are_told_with_figures() -> None:
    image = volume(body(), (6.0, 6.0, 12.0))
    found = words(image, "CT", CASES)
    assert len(found) == 3 and all(said.startswith("notice") for said in found)
    assert "From right to left, the image has a voxel each 6 mm, and the training cases each 0.7 to 1 mm" in found[0]
    assert "each 12 mm" in found[2]
    near = volume(np.repeat(body(), 2, 0), (1.0, 6.0, 1.0))
    assert any("shows 60 mm, and the training cases 300 to 400 mm" in said for said in words(near, "CT", CASES))


def test_axes_of_the_body_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    case = make_cohort(tmp_path).cases[0].model_copy(update={"spacing": (1, 2, 3)})
    in_body = [spacing_in_ras(case.model_copy(update={"orientation": code})) for code in ("LPS", "SAR")]
    assert in_body == [(1, 2, 3), (3, 2, 1)]


def test_results_that_no_body_has() -> None:
    labels = LabelSet.from_names({1: "liver", 5: "spleen"})
    grid = Geometry((50, 50, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
    array = np.zeros((40, 50, 50), np.uint8)
    nothing = doubts_of_result(Volume(array, grid), labels, CASES)
    assert len(nothing) == 1 and "None of the model's 2 structures" in nothing[0].message
    array[:5] = 1
    small = doubts_of_result(Volume(array, grid), labels, CASES)
    assert len(small) == 0  # 100 ml of at least 900
    array[1:5] = 5
    small = doubts_of_result(Volume(array, grid), labels, CASES)
    assert (
        len(small) == 1 and "Much smaller" in small[0].message and "liver (20 ml; 900 to 2e+03 ml" in small[0].message
    )
    assert doubts_of_result(Volume(array, grid), labels, None) == []


def test_training_cases_are_those_of_the_cohort_and_survive_a_record(tmp_path: Path) -> None:
    cohort: Cohort = make_cohort(tmp_path)
    cases = TrainingCases.of(cohort)
    assert TrainingCases.of_record({"training_cases": cases.model_dump(mode="json")}) == cases
    assert TrainingCases.of_record({}) is None and TrainingCases.of_record({"training_cases": {"spacing": 3}}) is None
    case = cohort.with_role("labeled")[0]
    for low_high, value in zip(cases.spacing, spacing_in_ras(case), strict=True):
        assert low_high[0] <= value + 1e-3 and value <= low_high[1] + 1e-3
    assert set(cases.volume) <= set(cohort.labels.names) and cases.volume
    assert all(cases.has_like(case.intensity[0], case.intensity[2], 0) for case in cohort.cases if case.role != "test")
    assert not cases.has_like(-1e5, 1e5, 0) and not cases.has_like(0, 1, 7)


@pytest.mark.skipif(not os.environ.get("DINOMIX_TEST_DATA"), reason="needs the real scans of DINOMIX_TEST_DATA")
def test_real_scans_are_known_for_what_they_are() -> None:
    data = Path(os.environ["DINOMIX_TEST_DATA"])
    for path in (data / "ct_multiorgan/ct.nii.gz", data / "ct_spleen/ct.nii.gz"):
        image = read_image(path)
        assert words(image, "CT") == [], path
        assert words(image, "MR"), path
        for change in (
            lambda hu: (hu + 1024) / 4095,
            lambda hu: np.clip((hu + 160) / 400, 0, 1) * 255,
            lambda hu: hu + 1024,
        ):
            assert words(Volume(change(image.array), image.geometry), "CT"), path
    for path in [
        *sorted((data / "cardiac/images").iterdir())[:12],
        *sorted((data / "hippocampus/images").iterdir())[:20],
    ]:
        image = read_image(path)
        assert words(image, "MR") == [] and words(image, "CT"), path
