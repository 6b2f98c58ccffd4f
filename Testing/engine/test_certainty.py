"""How sure a model is: maps and predicted Dice that change no label, and a calibration that is right where the truth is known."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dinomix.cli import main
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.calibrating import LabeledCase, calibrated, reliability
from dinomix.evaluation.calibration_cases import calibrate_model, labeled_case
from dinomix.images.reading import read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.expected_dice import FLOOR, ExpectedDice
from dinomix.inference.options import Options
from dinomix.inference.segment import segment_taken, segment_volume
from dinomix.inference.several_models import Models, segment_by_all
from dinomix.inference.sureness import Sureness
from dinomix.labels import LabelSet
from dinomix.models.calibration import BINS, KEY, Calibration, OfStructure, Reliability
from dinomix.models.folder import Model, load_model
from dinomix.planning.cache import PreparedCase
from dinomix.planning.plan import Plan, RangeWindow, SpacingGrid
from dinomix.report.calibration import calibration_figure
from random_models import random_model, small_plan
from tiny_cohort import LABELS, make_cohort

CPU = torch.device("cpu")
NOTHING = Reliability(probability=(0.0,), right=(0.0,), voxels=(0,))


def silent(kind: str, **fields: Any) -> None:
    pass


class Linear(nn.Module):
    """Logits that are linear in the intensity: 0 for the background, and steeper ones for each structure."""

    def __init__(self, steepness: float = 6.0) -> None:
        super().__init__()
        self.unused = nn.Conv3d(1, 1, 1)
        self.steepness = steepness

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        x = windows[:, 0]
        return self.steepness * torch.stack([torch.zeros_like(x), 2 * x - 0.7, 4 * x - 2.3], 1)


def plan_of(spacing: float) -> Plan:
    grid = SpacingGrid(spacing=(spacing, spacing, spacing))
    return small_plan(grid, RangeWindow(low=0, high=100), patch=(16, 16, 16))


def model_of(spacing: float, calibration: Calibration | None = None, steepness: float = 6.0) -> Model:
    record = {} if calibration is None else {KEY: calibration.model_dump(mode="json")}
    model = Model(Path("nowhere"), LabelSet.from_names({2: "liver", 7: "spleen"}), plan_of(spacing), {}, record)
    model.__dict__["warm_network"] = Linear(steepness)
    return model


def smooth_volume(size: tuple[int, int, int] = (30, 26, 22)) -> Volume:
    k, j, i = np.indices(size) / 5
    array = (50 + 25 * (np.sin(k) + np.cos(j + 0.3 * i))).astype(np.float32)
    direction = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    return Volume(array, Geometry(size[::-1], (1.0, 1.3, 0.9), (3.0, -4.0, 5.0), direction))


def segmented(volume: Volume, model: Model) -> tuple[Volume, Sureness]:
    sureness = Sureness(wants_map=True, wants_dice=True)
    labels = segment_taken(
        [volume], 0, model, Options("cpu", precision="float32", runtime="pytorch"),
        emit=silent, network=model.warm_network, sureness=sureness,
    )  # fmt: skip
    return labels, sureness


def calibration(temperature: float = 2.0, **more: Any) -> Calibration:
    return Calibration(temperature=temperature, cases=3, before=NOTHING, after=NOTHING, **more)


@pytest.mark.parametrize("spacing", [0.8, 1.0, 2.7])
def test_a_map_holds_what_the_network_says_and_no_label_changes(spacing: float) -> None:
    volume, model = smooth_volume(), model_of(spacing, calibration())
    alone = segment_volume(volume, model, device="cpu", precision="float32", network=model.warm_network)
    labels, sureness = segmented(volume, model)
    assert np.array_equal(labels.array, alone.array) and set(np.unique(alone.array)) == {0, 2, 7}
    percent = sureness.uncertainty
    assert percent is not None
    assert percent.dtype == np.uint8 and percent.shape == volume.array.shape
    # By hand, on the image's own voxels: as near as a coarse grid allows.
    logits = Linear()(torch.from_numpy(volume.array / 100)[None, None].clamp(0, 1))[0].numpy() / 2.0
    shares = np.exp(logits) / np.exp(logits).sum(0)
    own = np.take_along_axis(shares, np.searchsorted([0, 2, 7], alone.array)[None], 0)[0]
    error = np.abs(percent - 100 * (1 - own))
    assert np.median(error) < {0.8: 0.6, 1.0: 0.6, 2.7: 1.2}[spacing]
    assert np.percentile(error, 95) < {0.8: 6, 1.0: 6, 2.7: 12}[spacing]
    assert 20 < percent.max() <= 67


def test_a_map_is_the_same_in_slabs_of_any_thickness(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, model = smooth_volume(), model_of(1.7)
    whole = segmented(volume, model)[1].uncertainty
    monkeypatch.setattr("dinomix.inference.uncertainty.BYTES_PER_VOXEL", 10**9)  # a row of the image at a time
    assert np.array_equal(segmented(volume, model)[1].uncertainty, whole) and whole is not None and whole.any()


def test_the_expected_dice_is_that_of_truths_drawn_from_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((3, 12, 12, 12), generator=generator) + torch.tensor([2.0, 0.0, 1.0])[:, None, None, None]
    expected = ExpectedDice(3)
    for slab in logits.split(5, 1):
        expected.add(slab)
    shares = torch.softmax(logits, 0)
    shares = torch.where(shares >= FLOOR, shares, 0.0)
    shares[0] += 1 - shares.sum(0)
    labels = logits.argmax(0)
    drawn = torch.multinomial(shares.flatten(1).T, 400, replacement=True, generator=generator)
    for channel, told in enumerate(expected.dice(), 1):
        of_label, of_truth = (labels == channel).flatten()[:, None], drawn == channel
        dice = 2 * (of_label & of_truth).sum(0) / (of_label.sum() + of_truth.sum(0))
        assert told is not None and abs(told - float(dice.mean())) < 0.005


def test_what_was_not_found_has_no_predicted_dice() -> None:
    known = calibration(factor=3.0, structures={"liver": OfStructure(factor=2.0, usual=0.9)})
    volume = smooth_volume()
    dark = Volume(volume.array * 0.5, volume.geometry)
    predicted = segmented(dark, model_of(1.0, known))[1].predicted_dice
    assert 0 < (predicted["liver"] or 0) < 1 and predicted["spleen"] is None
    assert segmented(volume, model_of(1.0))[1].predicted_dice == {}
    assert known.predicted_dice("liver", 0.9) == pytest.approx(0.8)
    assert known.predicted_dice("spleen", 0.9) == pytest.approx(0.7)
    assert known.is_unsure("liver", 0.82) and not known.is_unsure("liver", 0.88) and known.is_unsure("spleen", 0.69)


def overconfident_case(number: int) -> LabeledCase:
    """Labels drawn from the probabilities of ``Linear(2)``, in a model that is surer than that."""
    generator = torch.Generator().manual_seed(number)
    image = torch.rand((1, 20, 20, 20), generator=generator)
    shares = torch.softmax(Linear(2.0)(image[None])[0], 0)
    label = torch.multinomial(shares.flatten(1).T, 1, generator=generator)[:, 0].reshape(20, 20, 20)
    return LabeledCase(
        PreparedCase(f"case{number}", image.numpy().astype(np.float16), label.numpy().astype(np.uint8), {})
    )


def test_calibration_finds_the_temperature_and_halves_the_error_at_least() -> None:
    cases = [overconfident_case(number) for number in range(4)]
    found = calibrated(model_of(1.0, steepness=8.0), cases, len(cases), CPU, silent)
    assert found.temperature == pytest.approx(4.0, rel=0.1)
    assert found.after.error < 0.03 < 0.1 < found.before.error
    assert found.dice_error is not None and found.dice_error < 0.05
    assert found.factor > 1.5 and set(found.structures) == {"liver", "spleen"}
    assert Calibration.of_record(json.loads(json.dumps({KEY: found.model_dump(mode="json")}))) == found
    assert calibration_figure(found) is not None and calibration_figure(None) is None


def test_what_nobody_drew_does_not_count() -> None:
    whole = overconfident_case(0)
    label = np.array(whole.case.label)
    label[10:] = 4  # C + 1: nobody labeled
    part = LabeledCase(PreparedCase("part", whole.case.image, label, {}), frozenset({2}))
    found = calibrated(model_of(1.0, steepness=8.0), [part], 1, CPU, silent)
    assert sum(found.before.voxels) < 10 * 20 * 20 and set(found.structures) == {"liver"}
    nothing = LabeledCase(PreparedCase("air", whole.case.image, np.full_like(label, 4), {}))
    with pytest.raises(DinomixError, match="shows a structure"):
        calibrated(model_of(1.0), [nothing], 1, CPU, silent)


def test_the_expected_calibration_error_by_hand() -> None:
    probability = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    measured = reliability(probability, np.array([True, True, True, False, True, False]))
    assert measured.error == pytest.approx((4 * abs(0.95 - 0.75) + 2 * abs(0.55 - 0.5)) / 6)
    assert len(measured.voxels) == BINS


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_cohort(tmp_path_factory.mktemp("cases"), labeled=1, unlabeled=0, validation=2)


@pytest.fixture
def folder(tmp_path: Path, cohort: Cohort) -> Path:
    plan = small_plan(SpacingGrid(spacing=(1.0,) * 3), RangeWindow(low=-200, high=300))
    random_model(tmp_path / "model", plan, LABELS, cohort.cases[0].image)
    return tmp_path / "model"


def test_a_model_folder_is_calibrated_and_gives_the_same_labels(folder: Path, cohort: Cohort) -> None:
    before = load_model(folder)
    fingerprint = before.fingerprint
    assert "not calibrated" in (folder / "README.md").read_text(encoding="utf-8")
    weights = (folder / "models/model.safetensors").read_bytes()
    (folder / "notes.txt").write_text("a file of the user's")
    found = calibrate_model(folder, cohort)
    after = load_model(folder)
    assert after.calibration == found and after.fingerprint != fingerprint and after.record["seed"] == 0
    assert (folder / "models/model.safetensors").read_bytes() == weights and (folder / "notes.txt").is_file()
    assert found.in_words in (folder / "README.md").read_text(encoding="utf-8")
    image = read_image(cohort.cases[0].image)
    labels = [segment_volume(image, m, device="cpu", precision="float32").array for m in (before, after)]
    assert np.array_equal(*labels)


def test_structures_are_matched_by_name_and_what_the_cases_lack_does_not_count(folder: Path, cohort: Cohort) -> None:
    model = load_model(folder)
    others = LabelSet.from_names({5: "Gallbladder", 9: "kidney"})
    cases = tuple(c.model_copy(update={"label_values": {1: 9, 2: 5}, "voxels": {}}) for c in cohort.cases)
    other = cohort.model_copy(update={"labels": others, "cases": cases})
    labeled = labeled_case(other.cases[0], other, model)
    whole = labeled_case(cohort.cases[0], cohort, model)
    assert labeled.not_drawn == {1} and whole.not_drawn == set()
    assert np.array_equal(labeled.case.label, np.where(whole.case.label == 2, 2, 0))


def test_cases_that_are_not_there_are_refused(folder: Path, cohort: Cohort) -> None:
    with pytest.raises(DinomixError, match="no test case"):
        calibrate_model(folder, cohort, role="test")


def test_from_the_command_line_to_map_table_and_page(
    folder: Path, cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        assert not left.value.code
        return capsys.readouterr().out

    cohort.write(tmp_path / "cohort.json")
    images = [str(case.image) for case in cohort.cases]
    places = ["--uncertainty", str(tmp_path / "maps"), "--out", str(tmp_path / "out")]
    segment = ["segment", "--model", str(folder), *places, "--json"]
    assert "is not calibrated" in told(*segment, images[0])
    calibrated = told("models", "calibrate", str(folder), "--cohort", str(tmp_path / "cohort.json"), "--json")
    assert json.loads(calibrated.splitlines()[-1])["cases"] == 2
    assert "Calibrated:      On 2 cases" in told("models", "info", str(folder))
    table = tmp_path / "table.csv"
    segment += ["--statistics", str(table), "--preview", *images]
    assert "is not calibrated" not in told(*segment, "--overwrite")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [f"case{n}-image.nii.gz" for n in range(3)]
    with table.open(newline="", encoding="utf-8") as file:
        predicted = [row["predicted_dice"] for row in csv.DictReader(file)]
    assert len(predicted) == 6 and all(0 <= float(value) <= 1 for value in predicted if value) and any(predicted)
    page = (tmp_path / "out/overview.html").read_text(encoding="utf-8")
    assert "The model is unsure of " in page and "Least predicted Dice" in page
    # The same again changes nothing and forgets nothing; nor does measuring the files apart.
    kept = table.read_bytes()
    assert "it is kept" in told(*segment) and table.read_bytes() == kept
    measured = tmp_path / "measured.csv"
    told("measure", str(tmp_path / "out"), "--labels", str(folder / "labels.json"), "--out", str(measured))
    with measured.open(newline="", encoding="utf-8") as file:
        assert [row["predicted_dice"] for row in csv.DictReader(file)] == predicted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("one.nii.gz", "names one file"),
        ("out", "would overwrite"),
        ("scan.txt", "is no folder"),
        ("images", "would overwrite"),
    ],
)
def test_a_map_takes_the_place_of_nothing(given: str, message: str, tmp_path: Path) -> None:
    from dinomix.inference.outputs import Output
    from dinomix.inference.uncertainty_files import uncertainty_files

    (tmp_path / "scan.txt").write_text("")
    outputs = [
        Output(name, (tmp_path / "images" / f"{name}.nii.gz",), tmp_path / "out" / f"{name}.nii.gz")
        for name in ("a", "b")
    ]
    with pytest.raises(DinomixError, match=message):
        uncertainty_files(outputs, tmp_path / given, overwrite=True)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/b.nii.gz").write_text("somebody's")
    with pytest.raises(DinomixError, match="exists"):
        uncertainty_files(outputs, tmp_path / "maps", overwrite=False)
    assert uncertainty_files(outputs, tmp_path / "new", False)[outputs[0].path] == tmp_path / "new/a.nii.gz"


def test_of_several_models_each_speaks_for_what_it_has_added(monkeypatch: pytest.MonkeyPatch) -> None:
    first = model_of(1.0, calibration(factor=2.0))
    other = replace(model_of(1.0, calibration(4.0, factor=3.0)), labels=LabelSet.from_names({3: "Liver", 5: "kidney"}))
    for model, fingerprint in ((first, "a"), (other, "b")):
        model.__dict__["fingerprint"] = fingerprint
    models, volume = Models.of([first, other]), smooth_volume()
    sureness = Sureness(wants_map=True, wants_dice=True)
    networks = [Linear(), Linear()]
    labels = segment_by_all(
        [volume], 0, models, Options("cpu", precision="float32"), networks=networks, sureness=sureness
    ).array
    assert list(sureness.predicted_dice) == ["liver", "spleen", "kidney"]
    assert models.is_unsure("kidney", 0.69) and not models.is_unsure("kidney", 0.71)
    its_own = segmented(volume, first)[1].uncertainty
    assert its_own is not None and sureness.uncertainty is not None
    assert np.array_equal(sureness.uncertainty[labels > 0], its_own[labels > 0])
    # Both call the same voxels background, and the second one is less sure of it.
    assert (sureness.uncertainty[labels == 0] >= its_own[labels == 0]).all()


def test_a_second_stage_speaks_for_its_own_structures() -> None:
    first, second, third = (ExpectedDice(3) for _ in range(3))
    logits = torch.zeros((3, 4, 4, 4))
    logits[1, :2], logits[2, 2:] = 2.0, 1.0
    first.add(logits)
    second.add(4 * logits)
    third.add(4 * logits)
    alone = first.dice()
    first.take_over([second, third], [2])
    assert first.dice()[0] == alone[0] and first.dice()[1] == pytest.approx(second.dice()[1])


def test_a_model_of_two_stages_is_refused_with_a_sentence(folder: Path, cohort: Cohort, monkeypatch: Any) -> None:
    model = load_model(folder)
    two = replace(model)
    two.__dict__["second"] = model
    monkeypatch.setattr("dinomix.evaluation.calibration_cases.load_model", lambda path: two)
    with pytest.raises(DinomixError, match="two stages"):
        calibrate_model(folder, cohort)
