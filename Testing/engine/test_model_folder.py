import json
import os
from pathlib import Path

import pytest
import torch

from dinomix.errors import DinomixError
from dinomix.models.folder import load_model
from dinomix.models.manifest import FILES, MANIFEST, PREVIEW
from dinomix.models.network import build_network, footprint
from dinomix.models.writing import changed_aside, write_model, write_record
from random_models import labels_with_ids, random_model, random_weights, small_plan


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "Modell für 臓器"
    random_model(path, small_plan(), labels_with_ids(3, 7))
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    import shutil

    shutil.copytree(whole, tmp_path / "model")
    return tmp_path / "model"


def problem_of(path: Path) -> str:
    with pytest.raises(DinomixError) as caught:
        load_model(path)
    assert caught.value.remedy and "\n" not in str(caught.value)
    return caught.value.problem


def test_what_is_written_is_read(tmp_path: Path) -> None:
    plan, labels = small_plan(), labels_with_ids(3, 7)
    weights = random_weights(plan, labels)
    record = {"seed": 5, "steps": 100, "license": "CC-BY-4.0", "validation": {"mean": 0.5}}
    write_model(tmp_path / "model", plan=plan, labels=labels, weights=weights, record=record)
    model = load_model(tmp_path / "model")
    assert (model.plan, model.labels, model.record) == (plan, labels, record)
    assert model.weights.keys() == weights.keys()
    assert all(torch.equal(model.weights[name], weights[name]) for name in weights)
    network = model.network()
    assert not network.training
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.skipif(os.name == "nt", reason="who may read a file is POSIX's here")
def test_others_may_read_all_of_a_model_as_they_may_read_what_else_is_written_there(tmp_path: Path) -> None:
    model = random_model(tmp_path / "model", small_plan(), labels_with_ids(1))
    plain = tmp_path / "plain"
    plain.write_text("")
    files = [path for path in model.path.rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_mode for path in files} == {path.name: plain.stat().st_mode for path in files}


def test_equal_models_have_equal_fingerprints(tmp_path: Path) -> None:
    plan, labels = small_plan(), labels_with_ids(3, 7)
    one, same = (random_model(tmp_path / name, plan, labels, seed=1) for name in ("one", "same"))
    other = random_model(tmp_path / "other", plan, labels, seed=2)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_card_names_structures_and_asks_for_what_is_not_stated(whole: Path) -> None:
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert "| 3 | structure 3 |" in card and "| 7 | structure 7 |" in card
    assert "License of the weights: _Not stated yet." in card


def test_metadata_counts_channels_not_ids(whole: Path) -> None:
    outputs = json.loads((whole / "configs/metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert outputs["num_channels"] == 3
    assert outputs["channel_def"] == {"0": "background", "1": "structure 3", "2": "structure 7"}


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"{name} is missing" in problem_of(copy)


@pytest.mark.parametrize("name", FILES)
def test_changed_file_is_named(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    assert name in problem_of(copy)


def test_truncated_weights_are_named(copy: Path) -> None:
    weights = copy / "models/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors" in problem_of(copy)


def test_a_foreign_folder_is_told_apart(tmp_path: Path, copy: Path) -> None:
    assert "There is no model folder" in problem_of(tmp_path / "nowhere")
    assert "is not a model folder" in problem_of(tmp_path)
    for content in ("no json", "[]", '{"files": 3}', '{"format": "dinomix-model", "version": 1, "files": null}'):
        (copy / MANIFEST).write_text(content)
        assert "is damaged" in problem_of(copy)
    (copy / MANIFEST).write_text('{"format": "dinomix-model", "version": 6, "files": {}}')
    assert "later DINOMix" in problem_of(copy)


def test_a_manifest_that_fits_a_foreign_plan_executes_nothing(copy: Path) -> None:
    from dinomix.files import sha256

    plan = json.loads((copy / "plan.json").read_text())
    plan["network"] = {"_target_": "os.makedirs", "name": str(copy / "made")}
    (copy / "plan.json").write_text(json.dumps(plan))
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["plan.json"] = sha256(copy / "plan.json")
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DinomixError, match=r"os\.makedirs"):
        load_model(copy).network()
    assert not (copy / "made").exists()


def test_a_plan_that_speaks_of_more_structures_than_there_are_is_refused(copy: Path) -> None:
    from dinomix.files import sha256

    plan = json.loads((copy / "plan.json").read_text())
    plan["one_piece"] = {"channels": [1, 3], "together": False}
    (copy / "plan.json").write_text(json.dumps(plan))
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["plan.json"] = sha256(copy / "plan.json")
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert "structure number 3; labels.json has 2" in problem_of(copy)


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"_target_": 3},
        {"_target_": "monai.networks.nets.HoVerNet", "pretrained_url": "file:///weights.pt"},
        {"_target_": "monai.networks.nets.DynUNet.__init__"},
        {"_target_": "monai.networks.nets.UNet", "channels": "$__import__('os').getcwd()", "strides": [2]},
        {"_target_": "monai.networks.nets.UNet", "channels": {"_target_": "os.getcwd"}, "strides": [2]},
        {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "strides": [2], "no_such_argument": 1},
    ],
)
def test_only_plain_monai_networks_are_built(network: dict) -> None:
    plan = small_plan().model_copy(update={"network": network})
    with pytest.raises(DinomixError) as caught:
        build_network(plan, 3)
    assert caught.value.remedy


def test_weights_that_do_not_fit_leave_the_old_model(copy: Path) -> None:
    before = load_model(copy).fingerprint
    with pytest.raises(DinomixError, match="do not fit"):
        write_model(copy, plan=small_plan(), labels=labels_with_ids(1), weights=load_model(copy).weights, record={})
    assert load_model(copy).fingerprint == before
    assert [path.name for path in copy.parent.iterdir()] == ["model"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped is not told here")
@pytest.mark.usefixtures("without_graphs")
def test_no_weights_are_mapped_while_a_folder_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to rename a folder with a file that is mapped."""
    rename, mapped = os.replace, []

    def replace(old: Path, new: Path) -> None:
        if Path(old).is_dir():
            mapped.append("model.safetensors" in Path("/proc/self/maps").read_text())
        rename(old, new)

    monkeypatch.setattr(os, "replace", replace)
    model = random_model(tmp_path / "model", small_plan(), labels_with_ids(1))
    network = model.network()
    with changed_aside(model.path) as aside:  # as a calibration does, which holds the model that it has measured
        write_record(aside, model.plan, model.labels, {"changed": True})
    assert mapped == [False, False, False, False]
    assert torch.equal(model.weights[name := next(iter(model.weights))], network.state_dict()[name])


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    plan, labels = small_plan(), labels_with_ids(1)
    weights = random_weights(plan, labels)
    next(iter(weights.values())).fill_(torch.nan)
    with pytest.raises(DinomixError, match="not finite"):
        write_model(tmp_path / "model", plan=plan, labels=labels, weights=weights, record={})


def test_a_preview_belongs_to_the_folder_where_it_has_one(tmp_path: Path) -> None:
    plan, labels = small_plan(), labels_with_ids(3, 7)
    path = tmp_path / "model"
    write_model(path, plan=plan, labels=labels, weights=random_weights(plan, labels), record={}, preview=b"picture")
    assert load_model(path).labels == labels
    assert PREVIEW in json.loads((path / MANIFEST).read_text())["files"]
    (path / PREVIEW).write_bytes(b"other")
    assert PREVIEW in problem_of(path)
    (path / PREVIEW).unlink()
    assert f"{PREVIEW} is missing" in problem_of(path)


@pytest.mark.parametrize(
    "network",
    [
        {"_target_": "monai.networks.nets.SwinUNETR", "feature_size": 12},
        {
            "_target_": "monai.networks.nets.UNETR", "img_size": [64, 64, 64], "hidden_size": 48, "mlp_dim": 96,
            "num_heads": 4, "feature_size": 8,
        },
    ],
)  # fmt: skip
def test_transformers_can_be_used(network: dict, tmp_path: Path):
    """MONAI builds them only where einops is installed, or fails at the first image."""
    plan = small_plan(patch=(64, 64, 64)).model_copy(update={"network": network})
    torch.manual_seed(0)
    write_model(
        tmp_path / "model",
        plan=plan,
        labels=labels_with_ids(1, 2),
        weights=build_network(plan, 3).state_dict(),
        record={},
    )
    model = load_model(tmp_path / "model")
    assert footprint(plan, 3).window > 64**3 * 4
    with torch.inference_mode():
        assert model.network()(torch.zeros(1, 1, 64, 64, 64)).shape == (1, 3, 64, 64, 64)
