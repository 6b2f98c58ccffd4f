"""Regions of several structures: made of ``dataset.json``, kept with the labels, and compared for themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from cohort_folders import SHAPE, image_array, write
from dinomix.cohort.checking import check_cohort
from dinomix.cohort.cohort import Cohort
from dinomix.cohort.problems import CohortError
from dinomix.cohort.renaming import Renames
from dinomix.cohort.table import summary
from dinomix.cohort.table import table as cohort_table
from dinomix.evaluation.evaluate import evaluate_folders, table
from dinomix.inference.segment import kept_labels
from dinomix.labels import LabelSet
from dinomix.models.folder import load_model
from dinomix.regions import parts_and_regions
from random_models import labels_with_ids, random_model, small_plan

BRATS = {
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "regions_class_order": [1, 2, 3],
    "channel_names": {"0": "T1"},
    "file_ending": ".nii.gz",
}
PARTS = {1: "rest of whole tumor", 2: "rest of tumor core", 3: "enhancing tumor"}


def label() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[1:5, 1:7, 1:7] = 1
    array[2:4, 2:6, 2:6] = 2
    array[2:3, 3:5, 3:5] = 3
    return array


def brats(folder: Path, count: int = 2, data: object = BRATS) -> Path:
    for number in range(count):
        write(folder / "imagesTr" / f"b{number}_0000.nii.gz", image_array(number))
        write(folder / "labelsTr" / f"b{number}.nii.gz", label())
    (folder / "dataset.json").write_text(json.dumps(data))
    return folder


def test_nested_regions_become_structures_that_exclude_each_other(tmp_path: Path) -> None:
    out = tmp_path / "cohort.json"
    cohort = check_cohort([brats(tmp_path / "data")], [], [], out=out)
    assert dict(zip(cohort.labels.ids, cohort.labels.names, strict=True)) == PARTS
    regions = {region.name: region.structures for region in cohort.labels.regions}
    assert regions == {"whole tumor": (1, 2, 3), "tumor core": (2, 3)}
    assert Cohort.read(out) == cohort
    assert "Region        tumor core = 2 + 3" in cohort_table(summary(cohort))


@pytest.mark.parametrize(
    ("labels", "order", "structures", "regions"),
    [
        ({"a": [1, 2], "b": [2]}, None, {"b": 2, "rest of a": 1}, {"a": (1, 2)}),
        ({"a": [1, 2, 3], "b": 3}, None, {"b": 3, "rest of a": 1, "rest of a (2)": 2}, {"a": (1, 2, 3)}),
        ({"a": [1, 2], "b": [2, 3]}, [2, 3], {"rest of a": 1, "rest of b": 3, "rest of a (2)": 2},
         {"a": (1, 2), "b": (2, 3)}),
        ({"background": 0, "liver": 1}, None, {"background": 0, "liver": 1}, {}),
        ({"1": "liver"}, None, {"1": "liver"}, {}),
    ],
)  # fmt: skip
def test_parts(labels: dict, order: list | None, structures: dict, regions: dict) -> None:
    table, found = parts_and_regions(labels, order)
    assert found == regions
    assert set(table) == set(structures)
    assert sorted(map(str, table.values())) == sorted(map(str, structures.values()))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"a": []}, "a region of"),
        ({"a": [0, 1]}, "a region of"),
        ({"a": [1, "2"]}, "a region of"),
        ({"a": [1, 1]}, "a number twice"),
        ({"a": [1, 2], "A": 1}, "a region and of a structure"),
        ({"a": [3], "b": 3}, "the same number 3"),
    ],
)
def test_regions_that_cannot_be_used(tmp_path: Path, labels: dict, says: str) -> None:
    folder = brats(tmp_path / "data", 1, {"labels": labels})
    with pytest.raises(CohortError, match=says) as refused:
        check_cohort([folder], [], [])
    assert str(folder / "dataset.json") in refused.value.problems[0].problem


def test_regions_follow_their_structures_when_these_are_renamed_or_dropped(tmp_path: Path) -> None:
    folder = brats(tmp_path / "data")
    renamed = check_cohort([folder], [], [], renames=Renames({"rest tumor whole": "edema"}))
    assert renamed.labels.names == ("edema", "rest of tumor core", "enhancing tumor")
    assert [region.structures for region in renamed.labels.regions] == [(1, 2, 3), (2, 3)]
    dropped = check_cohort([folder], [], [], renames=Renames({"enhancing tumor": None}))
    assert [(region.name, region.structures) for region in dropped.labels.regions] == [("whole tumor", (1, 2))]
    with pytest.raises(CohortError, match='called "whole tumor"'):
        check_cohort([folder], [], [], renames=Renames({"rest tumor whole": "whole tumor"}))


def test_label_sets_keep_regions_and_are_as_before_without(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(BRATS))
    labels = LabelSet.read(tmp_path / "dataset.json")
    labels.write(tmp_path / "labels.json")
    assert LabelSet.read(tmp_path / "labels.json") == labels
    assert "regions" not in LabelSet.from_names({1: "liver"}).model_dump()
    assert [region.name for region in kept_labels(labels, ("rest of tumor core", "enhancing tumor")).regions] == [
        "tumor core"
    ]
    assert not kept_labels(labels, ("enhancing tumor",)).regions


def test_regions_are_compared_as_one(tmp_path: Path) -> None:
    """A core that is taken for edema costs the core, and nothing of the whole."""
    (tmp_path / "dataset.json").write_text(json.dumps(BRATS))
    labels = LabelSet.read(tmp_path / "dataset.json")
    write(tmp_path / "reference" / "a.nii.gz", label())
    write(tmp_path / "prediction" / "a.nii.gz", np.where(label() == 2, 1, label()).astype(np.uint8))
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", labels, tolerance=2)
    assert metrics["regions"]["whole tumor"]["dice"] == 1.0
    assert metrics["regions"]["tumor core"]["dice"] == pytest.approx(2 * 4 / (4 + 32))
    assert metrics["cases"]["a"]["tumor core"]["dice"] == metrics["regions"]["tumor core"]["dice"]
    assert list(metrics["classes"]) == list(PARTS.values())
    of_classes = [metrics["classes"][name]["dice"] for name in PARTS.values()]
    assert metrics["mean"]["dice"] == pytest.approx(np.mean(of_classes))
    assert metrics["tolerance_mm"]["whole tumor"] == 2
    lines = table(metrics).splitlines()
    assert [line.split("  ")[0] for line in lines[-3:]] == ["mean", "whole tumor", "tumor core"]
    write(tmp_path / "prediction" / "a.nii.gz", np.where(label() == 1, 1, 0).astype(np.uint8))
    metrics = evaluate_folders(tmp_path / "prediction", tmp_path / "reference", labels)
    assert metrics["cases"]["a"]["tumor core"]["status"] == "missed"


def test_a_model_keeps_regions_and_says_so_to_earlier_versions(tmp_path: Path) -> None:
    plain = labels_with_ids(2, 5)
    versions = {}
    for labels in (plain, plain.with_regions({"both": [2, 5]})):
        model = random_model(tmp_path / str(len(labels.regions)), small_plan(), labels)
        assert load_model(model.path).labels == labels
        versions[len(labels.regions)] = json.loads((model.path / "manifest.json").read_text())["version"]
    assert versions == {0: 1, 1: 3}
    assert "| 2 or 5 | both |" in (tmp_path / "1" / "README.md").read_text()
