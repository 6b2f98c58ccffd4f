"""A run that learns a new structure and keeps those of the model that it starts from."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dinomix.cohort.case_label import UNLABELED, read_case_label
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort, LabeledSlices
from dinomix.demo.anatomy import SYNAPSE_ORGANS
from dinomix.demo.phantom import phantom_case
from dinomix.errors import DinomixError
from dinomix.evaluation.matched_model import MatchedModel, means
from dinomix.evaluation.references import reference_of
from dinomix.events import read_events
from dinomix.images.reading import read_image, read_label
from dinomix.images.volume import Volume
from dinomix.images.writing import write_image, write_labels
from dinomix.inference.segment import segment_volume
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.models.joining import joined_labels
from dinomix.models.model_under import model_under
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.cache import cache_cases
from dinomix.planning.plan import InputChannel, OnePiece
from dinomix.training.arranging import Arranged, arrange
from dinomix.training.control import RunPaused
from dinomix.training.kept_structures import _merged, cohort_with_kept
from dinomix.training.run_directory import RunDirectory
from dinomix.training.train import resume, train
from tiny_cohort import SIZE, make_cohort, make_plan, with_only

pytestmark = pytest.mark.usefixtures("without_graphs")

START = LabelSet.from_names({2: "spleen", 5: "liver"})


def silent(kind: str, **fields: object) -> None:
    """An ``emit``."""


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Model:
    """A model of spleen (2) and liver (5) that is bright and dark, and knows nothing of the rest."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(5)
    write_model(
        folder / "model", plan=make_plan(), labels=START, weights=build_network(make_plan(), 3).state_dict(), record={}
    )
    return load_model(folder / "model")


# -- Label sets


def test_new_structures_keep_their_ids_where_these_are_free() -> None:
    others = LabelSet.from_names({2: "tumor", 3: "liver", 7: "cyst"})
    labels, ids = joined_labels(START, others)
    assert dict(zip(labels.ids, labels.names, strict=True)) == {1: "tumor", 2: "spleen", 5: "liver", 7: "cyst"}
    assert ids == {2: 1, 3: 5, 7: 7}
    kept = {s.name: s for s in labels.structures}
    assert len({s.color for s in labels.structures}) == 4
    assert kept["spleen"] == START.structures[0]
    assert kept["tumor"].terminology == others.structures[0].terminology
    red = others.structures[0].model_copy(update={"color": (250, 0, 0)})
    given, _ = joined_labels(START, LabelSet(structures=(red,)))
    assert {s.name: s.color for s in given.structures}["tumor"] == (250, 0, 0)


def test_regions_come_along_by_their_structures() -> None:
    kept = START.with_regions({"both": [2, 5]})
    others = LabelSet.from_names({1: "liver", 2: "tumor"}).with_regions({"liver with tumor": [1, 2], "both": [1, 2]})
    labels, ids = joined_labels(kept, others)
    assert ids == {1: 5, 2: 1}
    assert {region.name: region.structures for region in labels.regions} == {"both": (2, 5), "liver with tumor": (1, 5)}


def test_the_name_and_the_codes_of_the_model_stay() -> None:
    labels, ids = joined_labels(START, LabelSet.from_names({1: "Liver"}))
    assert labels == START and ids == {1: 5}


@pytest.mark.parametrize("names", [{1: "Tumor", 2: "tumor"}, {1: "left cyst", 2: "cyst_left"}])
def test_names_that_differ_only_in_case_are_refused(names: dict[int, str]) -> None:
    for pair in ((START, LabelSet.from_names(names)), (LabelSet.from_names(names), START)):
        with pytest.raises(DinomixError, match="differ only in case") as raised:
            joined_labels(*pair)
        assert raised.value.code == "structures" and all(name in raised.value.problem for name in names.values())


def test_a_model_under_another_label_set_segments_the_same(start: Model, tmp_path: Path) -> None:
    plan = start.plan.model_copy(update={"one_piece": OnePiece(channels=(2,))})
    model = Model(start.path, start.labels, plan, start.weights, {})
    labels = LabelSet.from_names({1: "liver", 2: "spleen"})
    other = model_under(labels, model)
    assert other.plan.one_piece.channels == (1,)
    case = make_cohort(tmp_path, 1, 0, 0).cases[0]
    own, under = (segment_volume(read_image(case.image), m, device="cpu").array for m in (model, other))
    assert np.array_equal(np.array([0, 0, 2, 0, 0, 1])[own], under) and len(np.unique(own)) > 1


# -- The cohort


def test_the_cohort_has_all_structures_and_its_labels_go_by_their_ids(start: Model, tmp_path: Path) -> None:
    cohort = with_only(make_cohort(tmp_path), "gallbladder")
    told: list[str] = []
    joined = cohort_with_kept(cohort, start, lambda kind, **fields: told.append(fields["message"]))
    assert joined.labels.names == ("gallbladder", "spleen", "liver") and joined.labels.ids == (1, 2, 5)
    before, after = cohort.cases[0], joined.cases[0]
    assert after.label_values == {1: 0, 2: 1} and after.voxels == {1: before.voxels[2]} and after.drawn == (1,)
    assert any("do not show spleen, liver: kept as" in message for message in told)


def test_a_value_that_the_table_of_a_case_lacks_is_still_its_own_id(start: Model, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path, 1, 0, 0)
    bare = cohort.model_copy(update={"cases": (cohort.cases[0].model_copy(update={"label_values": {}}),)})
    assert cohort_with_kept(bare, start, silent).cases[0].label_values == {1: 5, 2: 1}


def test_what_no_label_shows_is_kept_too(start: Model, tmp_path: Path) -> None:
    """As of a label set that was given, or of an older cohort file, in which a template's empty segments count as drawn."""
    cohort = with_only(make_cohort(tmp_path), "gallbladder")
    labels = LabelSet.from_names({2: "gallbladder", 3: "liver"})
    voxels = {"labeled": 0, "validation": 5}
    cases = (
        case.model_copy(update={"voxels": {**case.voxels, 3: voxels[case.role]}}) if case.label else case
        for case in cohort.cases
    )
    cohort = cohort.model_copy(update={"labels": labels, "cases": tuple(cases)})
    joined = cohort_with_kept(cohort, start, silent)
    assert joined.labels.names == ("gallbladder", "spleen", "liver")
    drawn = {case.role: case.drawn for case in joined.cases if case.label}
    assert drawn == {"labeled": (1,), "validation": (1, 5)}


def test_what_cannot_be_kept_is_refused(start: Model, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path)
    with pytest.raises(DinomixError, match="must start from one") as raised:
        cohort_with_kept(cohort, None, silent)
    assert raised.value.code == "keep-structures"
    with pytest.raises(DinomixError, match="is for CT, the cohort is MR"):
        cohort_with_kept(cohort.model_copy(update={"modality": "MR"}), start, silent)
    plan = start.plan.model_copy(
        update={"channel": "T1", "more_channels": (InputChannel(name="T2", modality="CT", window=start.plan.window),)}
    )
    two = Model(start.path, start.labels, plan, start.weights, {})
    with pytest.raises(DinomixError, match="sees T1, T2, and the cases have"):
        cohort_with_kept(cohort.model_copy(update={"channels": ("PET",)}), two, silent)
    everything = cohort.model_copy(update={"labels": LabelSet.from_names({1: "liver", 2: "Spleen"})})
    with pytest.raises(DinomixError, match="knows no structure that the labels do not show"):
        cohort_with_kept(everything, start, silent)


def test_where_nobody_labeled_nothing_becomes_background(start: Model, tmp_path: Path) -> None:
    cohort = cohort_with_kept(with_only(make_cohort(tmp_path, 1, 0, 0), "gallbladder"), start, silent)
    every_other = LabeledSlices(numbers=tuple(range(0, SIZE, 2)))
    case = cohort.cases[0].model_copy(update={"labeled_slices": every_other})
    geometry = read_image(case.image).geometry
    predicted = Volume(np.full((SIZE,) * 3, 5, np.uint8), geometry)
    merged = _merged(case, cohort.labels, predicted, start, SimpleNamespace(path=tmp_path))
    values = read_case_label(merged, geometry).array
    assert (values[1::2] == UNLABELED).all() and set(np.unique(values[::2])) == {1, 5}
    assert sum(merged.voxels.values()) == SIZE**3 // 2 and merged.ignored == (6,)


# -- A run


@pytest.fixture(scope="module")
def cohort_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with_only(make_cohort(folder / "cases", 2, 2, 1), "gallbladder", "tumor").write(folder / "cohort.json")
    return folder / "cohort.json"


def arranged(cohort_file: Path, start: Model, **others: object) -> Arranged:
    settings = {"batch_labeled": 1, "batch_unlabeled": 1, "validate_every": 2, "checkpoint_every": 2, "record_every": 1}
    common = {"method": "mean-teacher", "fkd": "off", "steps": 3, "device": "cpu", "keep_structures": True}
    return arrange(cohort_file, start=start.path, settings=settings, **{**common, **others})  # type: ignore[arg-type]


def begun(made: Arranged, run: Path, start: Model, cache: Path, emit=silent) -> Path:
    return train(
        made.cohort, run, made.config, made.plan, cache=cache, start=made.weights, start_model=start.path, emit=emit
    )


def test_what_is_drawn_wins_over_what_is_predicted(cohort_file: Path, start: Model, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = arranged(cohort_file, start)
    model = load_model(begun(made, tmp_path / "run", start, cache))
    assert model.labels.names == ("tumor", "spleen", "liver")
    assert model.record["kept_structures"] == ["spleen", "liver"]

    cohort = RunDirectory.open(tmp_path / "run").cohort
    drawn = {case.name: case for case in Cohort.read(cohort_file).cases}
    for case in cohort.with_role("labeled"):
        assert case.predicted == (2, 5) and case.label == tmp_path / "run/kept" / f"{case.name}.nrrd"
        predicted = segment_volume(read_image(case.image), start, device="cpu", precision="float32").array
        tumor = read_label(drawn[case.name].label)[0].array == 2
        merged = read_label(case.label)[0].array
        assert (merged[tumor] == 1).all() and (predicted[tumor] > 0).any()
        assert np.array_equal(merged[~tumor], predicted[~tumor])
        assert case.voxels == {id: int((merged == id).sum()) for id in (1, 2, 5)}
    validation = cohort.with_role("validation")[0]
    assert validation.label == drawn[validation.name].label and not validation.predicted
    cached = cache_cases(cohort, made.plan, cache, silent)
    # Where nothing is drawn, there may be a spleen or a liver; what was left out is background.
    assert validation.drawn == (1,) and set(np.unique(cached[validation.name].label)) == {0, 1, cohort.labels.channels}
    assert all(case.is_whole for case in cohort.with_role("labeled"))

    events = list(read_events(tmp_path / "run/events.jsonl"))
    # The start model's probabilities teach from the first step on, before pseudo-labels do.
    losses = [event for event in events if event["kind"] == "loss"]
    assert made.config.kept_by == "probabilities" and all(event["kept"] > 0 for event in losses)
    assert losses[0]["unsupervised"] is None
    kept = [event for event in events if event["kind"] == "kept"]
    assert [event["step"] for event in kept] == [2, 3]
    assert set(kept[0]["agreement"]) == {"spleen", "liver"} and kept[0]["agreement"]["spleen"] > 0.5
    # No ground truth: it is told apart from Dice, and does not count as such.
    validations = [event for event in events if event["kind"] == "validation"]
    assert all(event["dice"]["liver"] is None and event["mean"] == event["dice"]["tumor"] for event in validations)


def test_predictions_are_made_once_and_a_paused_run_goes_on(
    cohort_file: Path, start: Model, tmp_path: Path, monkeypatch
) -> None:
    made, cache = arranged(cohort_file, start), tmp_path / "cache"
    begun(made, tmp_path / "whole", start, cache)

    def pause_within(kind: str, **fields: object) -> None:
        if kind == "progress" and fields["stage"] == "predict kept structures" and fields["step"] == 1:
            (tmp_path / "run/request.json").write_text(json.dumps({"request": "pause"}))

    monkeypatch.setattr("dinomix.training.control.POLL_SECONDS", 0.0)
    with pytest.raises(RunPaused, match="still being prepared"):
        begun(made, tmp_path / "run", start, tmp_path / "other", pause_within)
    assert len(list((tmp_path / "other").glob("start-*.nrrd"))) == 1
    assert not any(case.predicted for case in RunDirectory.open(tmp_path / "run").cohort.cases)
    resumed = load_model(resume(tmp_path / "run"))
    whole = load_model(tmp_path / "whole/model")
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)

    # With the same cache nothing is predicted again; another model of the run's name does not count.
    monkeypatch.setattr("dinomix.training.start_model.segment_volume", None)
    begun(made, tmp_path / "again", start, cache)


def test_a_model_that_is_gone_is_missed_only_as_long_as_it_is_needed(
    cohort_file: Path, start: Model, tmp_path: Path
) -> None:
    made = arranged(cohort_file, start)
    labels = {"start": made.weights, "start_model": tmp_path / "gone"}
    RunDirectory.create(tmp_path / "run", made.config, made.cohort, made.plan, None, **labels)  # type: ignore[arg-type]
    with pytest.raises(DinomixError, match="gone"):
        resume(tmp_path / "run")
    begun(made, tmp_path / "other", start, tmp_path / "cache")
    config = json.loads((tmp_path / "other/config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps({**config, "start_model": str(tmp_path / "gone")}))
    told: list[str] = []
    resume(tmp_path / "other", emit=lambda kind, **fields: told.append(fields.get("message", "")))
    assert any("cannot be compared" in message for message in told)


def test_a_model_of_another_network_teaches_by_its_predictions_alone(
    cohort_file: Path, start: Model, tmp_path: Path
) -> None:
    plan = start.plan.model_copy(update={
        "network": {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "strides": [2], "num_res_units": 0},
        "grid": start.plan.grid.model_copy(update={"spacing": (2.0, 2.0, 2.0)}), "patch": (16, 16, 16), "fkd_stage": 2,
    })  # fmt: skip
    plan.write(tmp_path / "plan.json")
    told: list[str] = []
    made = arranged(cohort_file, start, plan=tmp_path / "plan.json", steps=1,
                    emit=lambda kind, **fields: told.append(fields["message"]))  # fmt: skip
    assert made.weights is None and made.config.learning_rate == 0.003 and made.config.kept_by == "labels"
    assert any("Its weights are not taken over" in message for message in told)
    model = load_model(begun(made, tmp_path / "run", start, tmp_path / "cache"))
    assert model.plan.network["_target_"].endswith("UNet") and model.labels.names == ("tumor", "spleen", "liver")
    case = RunDirectory.open(tmp_path / "run").cohort.cases[0]
    assert case.voxels[2] + case.voxels[5] > 0
    with pytest.raises(DinomixError, match="is not the plan's network"):
        arranged(cohort_file, start, plan=tmp_path / "plan.json", keep_structures=False)


# -- What it is for


OLD, NEW = {1: "liver", 2: "spleen", 3: "kidneys"}, {4: "aorta"}
PLAN = {
    "plan.grid.spacing": [8.0, 8.0, 8.0], "plan.patch": [48, 32, 32], "plan.window.low": -160, "plan.window.high": 240,
    "plan.network": {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "channels": [16, 32, 64], "strides": [2, 2],
                     "num_res_units": 1, "norm": "batch"},
}  # fmt: skip


def write_phantoms(folder: Path, first: int, count: int, names: dict[int, str]) -> Path:
    """Phantom abdomens in which only some organs are drawn; both kidneys are one."""
    ids = {name: id for id, name in names.items()}
    of_organ = {
        organ: ids.get("kidneys" if name.startswith("kidney") else name, 0) for organ, name in SYNAPSE_ORGANS.items()
    }
    for seed in range(first, first + count):
        image, organs = phantom_case(seed, spacing=8.0)
        drawn = np.array([of_organ.get(organ, 0) for organ in range(14)], np.uint8)[organs.array]
        (folder / "images").mkdir(parents=True, exist_ok=True)
        write_image(image, folder / f"images/case{seed}.nii.gz")
        write_labels(drawn, organs.geometry, LabelSet.from_names(names), folder / f"labels/case{seed}.seg.nrrd")
    return folder


def test_an_organ_is_learned_and_the_others_are_not_forgotten(tmp_path: Path) -> None:
    """Measured: 0.850 before and 0.851 after of the three old ones, of which nobody drew any, and 0.79 of the new one."""
    settings = {"batch_labeled": 2, "validate_every": 100, "ema_decay": 0.95}
    common = {"method": "labeled-only", "device": "cpu"}
    old, new = (
        check_cohort([write_phantoms(tmp_path / str(first), first, count, names)], [], [], validation=1, seed=0,
                     out=tmp_path / f"{first}.json")
        for first, count, names in ((0, 8, OLD), (20, 5, NEW))
    )  # fmt: skip
    made = arrange(tmp_path / "0.json", steps=300, settings={**settings, **PLAN, "learning_rate": 0.01}, **common)
    start = train(old, tmp_path / "start", made.config, made.plan)
    made = arrange(tmp_path / "20.json", steps=200, settings={**settings, "learning_rate": 0.003}, start=start,
                   keep_structures=True, **common)  # fmt: skip
    assert new.labels.names == ("aorta",) and made.cohort.labels.names == ("liver", "spleen", "kidneys", "aorta")
    more = train(made.cohort, tmp_path / "more", made.config, made.plan, start=made.weights, start_model=start)

    held_out = check_cohort([write_phantoms(tmp_path / "40", 40, 4, OLD | NEW)], [], [], out=tmp_path / "40.json")
    before, after = (scores(path, held_out) for path in (start, more))
    assert np.mean([before[name] for name in OLD.values()]) - np.mean([after[name] for name in OLD.values()]) < 0.01
    assert before["aorta"] is None and after["aorta"] > 0.6


def scores(path: Path, cohort: Cohort) -> dict[str, float | None]:
    """Mean Dice of a model over all cases of a cohort."""
    model, dice = MatchedModel(load_model(path), cohort.labels), []
    for case in cohort.cases:
        image = read_image(case.image)
        dice.append(model.dice(model.segment([image], "cpu"), reference_of(case, image.geometry), case))
    return means(cohort.labels.names, dice)
