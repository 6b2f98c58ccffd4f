"""Training with several channels: what is prepared, mixed and distilled, and what two channels reach that one cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from channel_cases import blobs, difference_cohort, two_channel_model, two_channel_plan

import dinomix
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.commands.settings import parse_settings
from dinomix.errors import DinomixError
from dinomix.events import silent
from dinomix.images.channel_files import Channel
from dinomix.images.reading import read_image
from dinomix.models.folder import load_model
from dinomix.models.matched_weights import matched_weights
from dinomix.planning.cache import cache_cases
from dinomix.planning.plan import InputChannel, PercentileWindow, RangeWindow, SecondStage, SpacingGrid
from dinomix.planning.planning import make_plan
from dinomix.report.comparing import compare_run
from dinomix.training.augmentation import WIDTHS, augmented_intensities
from dinomix.training.config import FkdConfig, make_config
from dinomix.training.ranking import rank_run
from dinomix.training.train import train
from dinomix.training.trial import Stage
from dinomix.training.view import make_view
from random_models import NETWORK
from tiny_cohort import small_config

pytestmark = pytest.mark.usefixtures("without_graphs")

SMALL = {"plan.patch": [16, 16, 16], "plan.network": NETWORK, "plan.fkd_stage": "bottleneck", "plan.overlap": [0.25] * 3,
         "validate_every": 2, "checkpoint_every": 2, "wait_until_found": False, "pic.start": 0.0,
         "pseudo_label_start": 0.25, "fkd.slice_stride": 4}  # fmt: skip


@pytest.fixture(scope="module")
def cohort_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = difference_cohort(tmp_path_factory.mktemp("two"), labeled=3, unlabeled=2, size=24)
    check_cohort([folder / "labeled"], [folder / "unlabeled"], [], validation=1, out=folder / "cohort.json")
    return folder / "cohort.json"


def test_the_plan_of_a_cohort_has_its_channels_and_a_window_for_each(cohort_file: Path) -> None:
    cohort = Cohort.read(cohort_file)
    plan = make_plan(cohort, device_kind="cpu", memory_bytes=2**31, batch=4)
    assert plan.channels == ("one", "two") and plan.windows == (PercentileWindow(), PercentileWindow())
    mixed = cohort.model_copy(update={"more_modalities": ("CT",)})
    plan = make_plan(
        mixed, device_kind="cpu", memory_bytes=2**31, batch=4, overrides={"more_channels.0.window.low": -77}
    )
    assert isinstance(plan.windows[1], RangeWindow) and plan.windows[1].low == -77
    assert "one: MR" in plan.reasons["window"] or "given by the user" in plan.reasons["more_channels"]


def test_a_prepared_case_holds_all_channels_and_is_another_for_another_second_one(
    cohort_file: Path, tmp_path: Path
) -> None:
    cohort = Cohort.read(cohort_file)
    plan = make_plan(cohort, device_kind="cpu", memory_bytes=2**31, batch=4)
    cached = cache_cases(cohort, plan, tmp_path, silent)
    case = cached["case0"]
    assert case.image.shape == (2, 24, 24, 24) and case.size == (24, 24, 24)
    assert not np.array_equal(case.image[0], case.image[1])
    other = plan.more_channels[0].model_copy(update={"window": PercentileWindow(lower=10, upper=90)})
    again = cache_cases(cohort, plan.model_copy(update={"more_channels": (other,)}), tmp_path, silent)["case0"]
    assert again.folder != case.folder
    assert np.array_equal(again.image[0], case.image[0]) and not np.array_equal(again.image[1], case.image[1])


def test_intensities_of_each_channel_are_changed_by_amounts_of_their_own() -> None:
    patches = torch.rand(2, 1, 6, 6, 6).expand(2, 2, 6, 6, 6).clone()
    changed = augmented_intensities(patches, [np.random.default_rng(n) for n in (0, 1)], WIDTHS["narrow"])
    assert not torch.allclose(changed[:, 0], changed[:, 1])
    alone = augmented_intensities(patches[1:], [np.random.default_rng(1)], WIDTHS["narrow"])
    torch.testing.assert_close(alone[0], changed[1])  # whatever else is in the batch
    wide = torch.cat([patches[:, :1], 6 * patches[:, 1:] - 3], 1)
    ranged = augmented_intensities(
        wide, [np.random.default_rng(n) for n in (0, 1)], WIDTHS["narrow"], [(0.0, 1.0), (-3.0, 3.0)]
    )
    torch.testing.assert_close(torch.cat([ranged[:, :1], (ranged[:, 1:] + 3) / 6], 1), changed, atol=1e-5, rtol=0)


def view_of(channels: tuple[str, ...], cohort: Cohort, windows: int = 2):
    more = tuple(InputChannel(name=f"c{n}", modality="MR", window=PercentileWindow()) for n in range(2, windows + 1))
    plan = two_channel_plan(channel="c1", more_channels=more)
    return make_view(FkdConfig(channels=channels, scale=1.0), plan, cohort, Stage("", 1, (4, 4, 4)), 16)


@pytest.mark.parametrize(
    ("chosen", "count", "shown"),
    [((), 2, [0, 1, 1]), ((), 3, [0, 1, 2]), ((), 5, [0, 1, 2]), (("c2",), 2, [1, 1, 1]), (("c3", "C1"), 3, [2, 0, 0])],
)
def test_the_teachers_colors_show_the_channels_that_the_setting_names(
    chosen: tuple[str, ...], count: int, shown: list[int], cohort_file: Path
) -> None:
    view = view_of(chosen, Cohort.read(cohort_file), count)
    images = torch.rand(1, count, 4, 4, 4)
    assert torch.equal(view.seen(images)[0], images[0, shown])
    pictures = view.shown(view.seen(images)[..., 0], (4, 4))
    assert pictures.shape == (1, 3, 4, 4)


@pytest.mark.parametrize(("text", "names"), [("t1,flair", ("t1", "flair")), ("t2", ("t2",)), ("", ())])
def test_the_channels_of_the_colors_are_given_as_words(text: str, names: tuple[str, ...]) -> None:
    settings = parse_settings((f"fkd.channels={text}",))
    assert make_config(**settings).fkd.channels == names
    with pytest.raises(DinomixError, match="at most 3"):
        make_config(**parse_settings(("fkd.channels=a,b,c,d",)))


def test_a_color_of_no_channel_is_refused(cohort_file: Path) -> None:
    with pytest.raises(DinomixError, match=r"fkd\.channels names flair; the channels are c1, c2"):
        view_of(("flair",), Cohort.read(cohort_file))


@pytest.mark.parametrize("fkd", ["on-the-fly", "cached"])
def test_a_run_with_pic_and_fkd_goes_through_and_resumes_alike(fkd: str, cohort_file: Path, tmp_path: Path) -> None:
    def train(name: str, steps: int) -> Path:
        return dinomix.train(
            cohort_file, tmp_path / name, fkd=fkd, pic=True, teacher="random:vit_tiny_patch16_224", steps=steps, device="cpu",
            settings=SMALL, cache=tmp_path / "cache",
        )  # fmt: skip

    model = load_model(train("run", 4))
    assert model.plan.channels == ("one", "two") and model.weights
    if fkd == "on-the-fly":
        pictures = compare_run(tmp_path / "run", device="cpu")
        assert pictures["cases"] and (tmp_path / "run" / pictures["cases"][0]["picture"]).exists()
        ranked = rank_run(tmp_path / "run", device="cpu")
        assert [case["name"] for case in ranked["cases"]]
        written = dinomix.segment(model, cohort_file.parent / "unlabeled", tmp_path / "out", device="cpu")
        assert [path.name for path in written] == ["more0.nii.gz", "more1.nii.gz"]


def test_a_plan_for_other_channels_is_refused(cohort_file: Path, tmp_path: Path) -> None:
    two_channel_plan().write(tmp_path / "plan.json")
    with pytest.raises(DinomixError, match="The plan is for the images t1, t2, the cohort has one, two"):
        dinomix.train(
            cohort_file, tmp_path / "run", method="labeled-only", steps=1, device="cpu", plan=tmp_path / "plan.json"
        )


def test_a_start_with_other_channels_gives_each_its_weights_by_name(tmp_path: Path) -> None:
    start = two_channel_model(tmp_path / "start")
    first = "input_block.conv1.conv.weight"
    flair = InputChannel(name="flair", modality="MR", window=PercentileWindow())
    told: list[str] = []
    plan = two_channel_plan(channel="T2", more_channels=(flair,))
    weights = matched_weights(start, start.labels, plan, 0, lambda kind, **fields: told.append(fields["message"]))
    assert torch.equal(weights[first][:, 0], start.weights[first][:, 1]) and not weights[first][:, 1].any()
    assert any("does not see flair" in text for text in told) and any("also sees t1" in text for text in told)
    one = two_channel_plan(channel="", more_channels=())
    alone = matched_weights(start, start.labels, one, 0, silent)
    assert torch.equal(alone[first], start.weights[first][:, :1])
    with pytest.raises(DinomixError, match="sees t1, t2; the cases have adc, flair") as caught:
        matched_weights(start, start.labels, two_channel_plan(channel="adc", more_channels=(flair,)), 0, silent)
    assert caught.value.code == "start-model"


def test_a_model_that_starts_from_one_channel_says_at_first_what_that_one_says(tmp_path: Path) -> None:
    one = two_channel_plan(channel="", more_channels=())
    start = two_channel_model(tmp_path / "start", one, [blobs(1)])
    plan = two_channel_plan()
    weights = matched_weights(start, start.labels, plan, 0, silent)
    model = replace(start, plan=plan, weights=weights)
    images = torch.rand(1, 2, 16, 16, 16)
    torch.testing.assert_close(model.network()(images), start.network()(images[:, :1]))


def test_two_stages_see_all_channels(cohort_file: Path, tmp_path: Path) -> None:
    cohort = Cohort.read(cohort_file)
    coarse = two_channel_plan(
        channel="one", more_channels=(InputChannel(name="two", modality="MR", window=PercentileWindow()),),
        grid=SpacingGrid(spacing=(2.0, 2.0, 2.0)),
    )  # fmt: skip
    in_boxes = RangeWindow(low=0, high=1)
    fine = coarse.model_copy(
        update={
            "grid": SpacingGrid(spacing=(1.0, 1.0, 1.0)),
            "window": in_boxes,
            "more_channels": (coarse.more_channels[0].model_copy(update={"window": in_boxes}),),
        }
    )
    plan = coarse.model_copy(update={"second": SecondStage(plan=fine, structures=cohort.labels.names, margin=2)})
    config = small_config("labeled-only", steps=4, checkpoint_every=2, validate_every=2, record_every=1)
    model = load_model(train(cohort, tmp_path / "run", config, plan))
    assert model.second is not None and model.second.plan.channels == ("one", "two")
    boxes = Cohort.read(tmp_path / "run/second/cohort.json")
    assert boxes.channels == ("one", "two")
    images = [read_image(image).array for image in boxes.cases[0].images]
    assert (
        len(images) == 2
        and not np.array_equal(*images)
        and all(0 <= image.min() < image.max() <= 1 for image in images)
    )
    case = cohort.with_role("validation")[0]
    labels = dinomix.segment_volume([read_image(image) for image in case.images], model, device="cpu")
    assert labels.array.shape == (24, 24, 24)


def test_a_run_of_two_channels_starts_from_a_model_of_one(cohort_file: Path, tmp_path: Path) -> None:
    folder = cohort_file.parent
    check_cohort([folder / "labeled"], [], [], validation=1, out=tmp_path / "one.json", channels=[Channel("one")])
    options = {"method": "labeled-only", "device": "cpu", "settings": SMALL}
    first = dinomix.train(tmp_path / "one.json", tmp_path / "first", steps=2, **options)
    told: list[str] = []
    second = dinomix.train(
        cohort_file, tmp_path / "second", steps=2, start=first,
        **{**options, "settings": {**SMALL, "plan.network": NETWORK}},
        emit=lambda kind, **fields: told.append(str(fields.get("message", ""))),
    )  # fmt: skip
    assert load_model(second).plan.channels == ("one", "two")
    assert any("is for MR, the cohort is one and two: weights are taken over" in text for text in told)
    assert any("does not see two; the run begins as if it were not there" in text for text in told)


@pytest.mark.slow
def test_two_channels_reach_what_one_cannot(tmp_path: Path) -> None:
    difference_cohort(tmp_path, labeled=10)
    settings = {**SMALL, "plan.patch": [32, 32, 32], "plan.network": {**NETWORK, "filters": [8, 16, 16]}, "learning_rate": 0.01,
                "validate_every": 40, "checkpoint_every": 40}  # fmt: skip
    reached = {}
    for channels in (("one", "two"), ("two",)):
        name = "_".join(channels)
        check_cohort(
            [tmp_path / "labeled"],
            [],
            [],
            validation=2,
            out=tmp_path / f"{name}.json",
            channels=[*map(Channel, channels)],
        )
        seen = []
        dinomix.train(
            tmp_path / f"{name}.json",
            tmp_path / name,
            method="labeled-only",
            steps=60,
            device="cpu",
            settings=settings,
            emit=lambda kind, seen=seen, **fields: seen.append(fields["mean"]) if kind == "validation" else None,
        )
        reached[channels] = seen[-1]
    assert reached["one", "two"] > 0.7 and reached[("two",)] < 0.35
