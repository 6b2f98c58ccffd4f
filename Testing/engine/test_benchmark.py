"""`dinomix benchmark` on small generated folders that are laid out exactly like the originals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from dinomix.cli import main
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.benchmark import prepare, protocol_plan, segment_case
from dinomix.evaluation.comparison import as_text, compare
from dinomix.evaluation.layout import DATASETS, find_files, make_cohort
from dinomix.evaluation.published import PUBLISHED, comparability, published_numbers
from dinomix.evaluation.splits import DEFAULT_SPLIT, find_split, read_splits
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.planning.networks import relatives_vnet
from dinomix.planning.preprocessing import labels_to_plan_grid
from dinomix.training.run_directory import RunDirectory

Run = Callable[..., tuple[int, str, str]]
TINY = ("--set", "plan.grid.size=40,40,20", "--set", "plan.patch=32,32,16", "--set", "plan.network.features=[4,4,4,4,4,4]",
        "--set", "checkpoint_every=2", "--device", "cpu")  # fmt: skip


def write_scan(image_path: Path, label_path: Path | None, classes: int, seed: int) -> None:
    """A CT of 40 x 36 x 20 voxels, 2 x 2 x 4 mm, with one block per class."""
    random = np.random.default_rng(seed)
    label = np.zeros((20, 36, 40), np.uint8)
    for value in range(1, classes + 1):
        k, j, i = random.integers(0, (14, 28, 32))
        label[k : k + 6, j : j + 8, i : i + 8] = value
    image = (label * 15.0 - 100 + random.normal(0, 5, label.shape)).astype(np.int16)
    for path, array in ((image_path, image), (label_path, label)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            scan = sitk.GetImageFromArray(array)
            scan.SetSpacing((2.0, 2.0, 4.0))
            scan.SetOrigin((10.0, -20.0, 30.0))
            sitk.WriteImage(scan, str(path))


@pytest.fixture(scope="module")
def synapse_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BTCV's RawData.zip: 30 cases, all of them with a label."""
    root = tmp_path_factory.mktemp("Abdomen")
    for number in [*range(1, 11), *range(21, 41)]:
        training = root / "RawData/Training"
        write_scan(training / f"img/img{number:04}.nii.gz", training / f"label/label{number:04}.nii.gz", 13, number)
    return root


@pytest.fixture
def synapse(synapse_files: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(synapse_files, tmp_path / "Abdomen"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["benchmark", *map(str, arguments)])
        text = capsys.readouterr()
        return int(left.value.code or 0), text.out, text.err

    return run


def test_splits_are_whole_and_do_not_leak() -> None:
    splits = read_splits()
    assert set(DEFAULT_SPLIT.values()) <= set(splits)
    for split in splits.values():
        sizes = (len(split.labeled), len(split.unlabeled), len(split.val), len(split.test))
        assert sizes == ((4, 16, 4, 6) if split.dataset == "synapse" else (10, 206, 24, 120))
        assert len(split.roles) == sum(sizes)  # no case plays two parts
        assert split.source.startswith("https://github.com/")
    assert splits["synapse-20p-skcdf"].test == splits["synapse-20p-genericssl"].test
    assert splits["synapse-20p-skcdf"].labeled == ("0021", "0023", "0028", "0032")


def test_unknown_split() -> None:
    with pytest.raises(DinomixError, match="no split amos-5p of synapse"):
        find_split("synapse", "amos-5p")


def test_the_protocol_plan() -> None:
    plan = protocol_plan()
    assert plan.grid.size == (160, 160, 80)  # type: ignore[union-attr]
    assert (plan.window.low, plan.window.high) == (-75, 275)  # type: ignore[union-attr]
    assert plan.patch == (128, 128, 64) and plan.blend == "constant"
    strides = [int(side * (1 - overlap)) for side, overlap in zip(plan.patch, plan.overlap, strict=True)]
    assert strides == [32, 32, 16]


def test_published_numbers_name_source_and_split() -> None:
    known = {number.split for number in PUBLISHED} - {None}
    assert known <= set(read_splits())
    assert all(number.source for number in PUBLISHED)
    ours = {n.method: comparability(n, "synapse-20p-skcdf") for n in published_numbers("synapse")}
    assert ours["SKCDF"].startswith("same split and protocol")
    assert ours["DINO-Mix"].startswith("most likely the same")
    assert (
        "not comparable" in ours["A&D (GenericSSL)"]
        and "not comparable" in ours["DHC"]
        and "not comparable" in ours["GA"]
    )


def test_synapse_cohort(synapse_files: Path) -> None:
    _, split = find_split("synapse")
    cohort = make_cohort(DATASETS["synapse"], find_files(DATASETS["synapse"], synapse_files, split), split)
    assert {role: len(cohort.with_role(role)) for role in ("labeled", "unlabeled", "validation", "test")} == {
        "labeled": 4, "unlabeled": 16, "validation": 4, "test": 6}  # fmt: skip
    assert all(case.label is None and not case.voxels for case in cohort.with_role("unlabeled"))
    case = cohort.with_role("test")[0]
    assert case.name == "img0008" and case.label is not None and case.label.name == "label0008.nii.gz"
    assert (case.size, case.orientation) == ((40, 36, 20), "LPS")
    assert cohort.labels.names[9] == "portal and splenic veins" and cohort.labels.channels == 14


@pytest.mark.parametrize("below", ["", "RawData", "RawData/Training"])
def test_synapse_is_found_from_each_folder_above(synapse_files: Path, below: str) -> None:
    _, split = find_split("synapse")
    assert len(find_files(DATASETS["synapse"], synapse_files / below, split).images) == 30


def test_amos_layout_and_cohort(tmp_path: Path) -> None:
    _, split = find_split("amos")
    (tmp_path / "amos22").mkdir()
    (tmp_path / "amos22/dataset.json").write_text("{}")
    for number, (case, role) in enumerate(split.roles.items()):
        part = "Va" if role == "test" else "Tr"
        root = tmp_path / "amos22"
        image, label = root / f"images{part}/{case}.nii.gz", root / f"labels{part}/{case}.nii.gz"
        if number < 2 or case == split.test[0]:
            write_scan(image, label, 15, number)
        else:  # looking for files reads none of them
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    found = find_files(DATASETS["amos"], tmp_path, split)
    assert len(found.images) == 360 and len(found.labels) == 360
    assert found.images[split.test[0]].parent.name == "imagesVa"
    parts = {"labeled": split.labeled[:1], "unlabeled": split.labeled[1:2], "val": (), "test": split.test[:1]}
    few = split.model_copy(update=parts)
    cohort = make_cohort(DATASETS["amos"], found, few)
    assert [case.name for case in cohort.cases] == [split.labeled[0], split.labeled[1], split.test[0]]
    assert cohort.labels.names[-1] == "prostate/uterus"


def test_missing_files_are_named(synapse: Path) -> None:
    _, split = find_split("synapse")
    (synapse / "RawData/Training/label/label0008.nii.gz").unlink()
    (synapse / "RawData/Training/img/img0001.nii.gz").unlink()
    with pytest.raises(DinomixError, match="lacks the image of 0001, the label of 0008, which"):
        find_files(DATASETS["synapse"], synapse, split)
    # An unlabeled case needs no label.
    (synapse / "RawData/Training/label/label0001.nii.gz").unlink()
    with pytest.raises(DinomixError, match="lacks the image of 0001, the label of 0008, which"):
        find_files(DATASETS["synapse"], synapse, split)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    _, split = find_split("synapse")
    write_scan(tmp_path / "images/case1.nii.gz", tmp_path / "labels/case1.nii.gz", 2, 0)
    with pytest.raises(DinomixError, match="laid out like Synapse"):
        find_files(DATASETS["synapse"], tmp_path, split)


def test_a_foreign_label_value_is_refused(synapse: Path) -> None:
    _, split = find_split("synapse")
    training = synapse / "RawData/Training"
    write_scan(training / "img/img0021.nii.gz", training / "label/label0021.nii.gz", 14, 0)
    with pytest.raises(DinomixError, match=r"label0021\.nii\.gz holds the label 14"):
        make_cohort(DATASETS["synapse"], find_files(DATASETS["synapse"], synapse, split), split)


def test_no_label_of_an_unlabeled_case_is_read(synapse: Path, tmp_path: Path) -> None:
    _, split = find_split("synapse")
    for case in split.unlabeled:
        (synapse / f"RawData/Training/label/label{case}.nii.gz").write_text("not an image")
    prepared = prepare("synapse", synapse, split, tmp_path / "out")
    assert len(prepared.cohort.with_role("unlabeled")) == 16


class Oracle(torch.nn.Module):
    """Knows the labels on the network's grid: probability 1 for the right channel."""

    def __init__(self, labels: torch.Tensor, channels: int) -> None:
        super().__init__()
        self.answer = torch.nn.functional.one_hot(labels.long(), channels).permute(0, 4, 1, 2, 3).float()

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return self.answer.expand(len(window), -1, -1, -1, -1)


@pytest.mark.parametrize("size", [(50, 45, 20), (40, 36, 17), (33, 20, 9)])
def test_labels_come_back_where_they_were(size: tuple[int, int, int]) -> None:
    """What a perfect network says on the protocol's grid is not shifted, on the average, on the image's own grid."""
    plan = protocol_plan({"grid.size": (32, 32, 16), "patch": (32, 32, 16)})
    geometry = Geometry(size, (1.0, 1.0, 3.0), (5.0, 6.0, 7.0), np.eye(3))
    model = Model(Path(), LabelSet.from_names({3: "liver", 7: "spleen"}), plan, {}, {})
    random = np.random.default_rng(0)
    shifts = []
    for _ in range(60):
        array = np.zeros(size[::-1], np.uint8)
        start = random.integers(1, np.array(array.shape) // 3)
        stop = random.integers(np.array(array.shape) // 3 + 3, np.array(array.shape))
        array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = 7
        taken = labels_to_plan_grid(Volume(array, geometry), plan)
        image = Volume(array.astype(np.float32), geometry)
        resized, native = segment_case(
            image, model, Oracle(torch.from_numpy((taken == 7) * 2)[None], 3), torch.device("cpu")
        )
        assert np.array_equal(resized.array, taken.transpose(2, 1, 0))
        assert native.array.shape == array.shape and native.geometry is geometry
        shifts.append(np.argwhere(native.array == 7).mean(0) - np.argwhere(array == 7).mean(0))
    # Resized about voxel centers, as the image is, they would lie 0.5 to 0.8 voxels off.
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.2


def test_a_benchmark_from_end_to_end(run: Run, synapse_files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("synapse", synapse_files, "--out", out, "--method", "mean-teacher", "--steps", 2, *TINY)
    code, stdout, stderr = run(*arguments, "--seeds", 0, 1)
    assert code == 0, stderr
    result = json.loads((out / "benchmark.json").read_text())
    assert result["split"]["name"] == "synapse-20p-skcdf" and set(result["seeds"]) == {"0", "1"}
    for protocol in ("dhc-compat", "strict"):
        metrics = json.loads((out / f"seed-1/metrics-{protocol}.json").read_text())
        assert metrics["protocol"] == protocol and len(metrics["cases"]) == 6
        assert result["seeds"]["1"][protocol]["dice"] == metrics["mean"]["dice"]
    assert result["summary"]["dhc-compat"]["mean"]["dice"]["seeds"] == 2
    assert "NaN" not in (out / "benchmark.json").read_text()
    assert (out / "benchmark.txt").read_text() in stdout
    for words in ("66.45", "64.27 +- 1.36", "arXiv 2602.07819", "compare with nothing published", "seed 1"):
        assert words in stdout
    assert sitk.ReadImage(str(out / "seed-0/predictions/resized/img0008.nii.gz")).GetSize() == (40, 40, 20)
    assert sitk.ReadImage(str(out / "seed-0/predictions/native/img0008.nii.gz")).GetSize() == (40, 36, 20)

    # The same command finds everything done; another one does not touch it.
    model = out / "seed-0/run/model/manifest.json"
    before = model.stat().st_mtime_ns
    code, again, _ = run(*arguments, "--seeds", "0,1")
    assert code == 0 and model.stat().st_mtime_ns == before and again == stdout
    code, _, stderr = run(*arguments[:6], "--steps", 3, *TINY, "--seeds", 0)
    assert code == 2 and "other settings" in stderr
    code, _, stderr = run(*arguments, "--split", "synapse-20p-genericssl")
    assert code == 2 and "other cases" in stderr


def test_as_published_trains_the_published_network_on_flipped_patches(
    run: Run, synapse_files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    size = ("--set", "plan.grid.size=40,40,20", "--set", "plan.patch=32,32,16", "--set", "plan.network.filters=2")
    arguments = ("--as-published", "--method", "mean-teacher", "--steps", 1, *size, "--device", "cpu", "--seeds", 0)
    code, stdout, stderr = run("synapse", synapse_files, "--out", out, *arguments)
    assert code == 0, stderr
    assert "as published True" in stdout
    trained = RunDirectory.open(out / "seed-0/run")
    assert trained.plan.network == {**relatives_vnet(32), "filters": 2}
    assert (trained.config.augment, trained.config.flips) == ("off", ("x", "y"))
    model = load_model(trained.model)
    assert {module.p for module in model.network().modules() if isinstance(module, torch.nn.Dropout3d)} == {0.5}
    # A setting that is given goes before what was published.
    code, _, stderr = run("synapse", synapse_files, "--out", out, *arguments, "--set", "augment=narrow")
    assert code == 2 and "other settings" in stderr


def test_check_only(run: Run, synapse_files: Path, tmp_path: Path) -> None:
    code, stdout, _ = run(
        "synapse", synapse_files, "--check", "--out", tmp_path / "out", "--device", "cpu", "--fkd", "off"
    )
    assert code == 0 and "4 labeled, 16 unlabeled, 4 validation, 6 test" in stdout
    assert len(Cohort.read(tmp_path / "out/cohort.json").cases) == 30


def test_seeds_and_list(run: Run, tmp_path: Path) -> None:
    for wrong in (("--seeds", "0", "x"), ("--seeds", "1", "1"), ("7",)):
        code, _, stderr = run("synapse", tmp_path, *wrong)
        assert code == 2 and stderr.count("\n") == 1
    code, stdout, _ = run("synapse", tmp_path, "--list")
    assert code == 0 and stdout.count("\n") == 3 and "synapse-20p-dhc-2023-10" in stdout


def test_mean_and_deviation_over_seeds() -> None:
    name, split = find_split("synapse")

    def metrics(dice: float) -> dict:
        values = {"dice": dice, "nsd": None, "hd95": None, "asd": 2.0, "n": 6, "missed": 1, "false_positive": 0}
        return {"mean": values, "classes": {"spleen": values}}

    results = {seed: {"dhc-compat": metrics(d), "strict": metrics(d / 100)} for seed, d in ((0, 60.0), (1, 64.0))}
    comparison = compare("synapse", name, split, results, {"method": "dino-mix"}, [])  # type: ignore[arg-type]
    assert comparison["summary"]["dhc-compat"]["mean"]["dice"] == {"mean": 62.0, "sd": 2.0, "seeds": 2}
    assert comparison["summary"]["strict"]["classes"]["spleen"]["nsd"] == {"mean": None, "sd": None, "seeds": 0}
    text = as_text(comparison)
    assert "62.00 +- 2.00" in text and "2 of 12" in text and "compare with nothing published" not in text
