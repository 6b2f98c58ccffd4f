"""nnU-Net v2: which of its models is taken, what is told, and its PlainConvUNet as MONAI's DynUNet, with equal logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import nnunet_architecture, write_nnunet, zipped

from dinomix import cli
from dinomix.errors import DinomixError
from dinomix.importing.hints import Hints
from dinomix.importing.installing import import_model
from dinomix.importing.nnunet import read_nnunet
from dinomix.models.folder import load_model
from dinomix.models.matched_weights import matched_weights
from dinomix.models.network import build_network
from dinomix.planning.plan import MinMax, StepsWindow, ToRange, ZScore
from dinomix.training.train import train
from tiny_cohort import make_cohort, small_config

LABELS = {"liver": 1, "tumor": 2}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINOMIX_MODELS", str(tmp_path / "models"))


def dinomix(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("forward", "kernels", "strides", "bias"),
    [
        ([0, 1, 2], [[3, 3, 3]] * 4, [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 2, 2]], True),
        ([2, 0, 1], [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]], True),
        ([1, 2, 0], [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]], False),
    ],
)
def test_logits_are_those_of_the_real_network(
    forward: list[int], kernels: list, strides: list, bias: bool, tmp_path: Path
) -> None:
    """Against the class that nnU-Net itself builds, on an array as nnU-Net reads it from a file: (z, y, x), transposed."""
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    architecture = nnunet_architecture(kernels, strides, [8, 16, 32, 40], bias)
    classes = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    torch.manual_seed(0)
    real = unet.PlainConvUNet(input_channels=1, num_classes=3, deep_supervision=False,
                              **{**architecture["arch_kwargs"], **classes}).eval()  # fmt: skip
    for parameter in real.parameters():
        # Biases and scales that matter: as they are at the beginning of a training, they would hide a mistake.
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim == 1 else torch.nn.init.kaiming_normal_(parameter)
    source = write_nnunet(tmp_path / "nnunet", LABELS, real.state_dict(), architecture=architecture)
    plans = json.loads((source / "plans.json").read_text())
    plans["transpose_forward"] = forward
    (source / "plans.json").write_text(json.dumps(plans))
    model = read_nnunet(source)
    network = build_network(model.plan, 3)
    network.load_state_dict(model.weights)
    file = torch.randn(64, 48, 32)
    with torch.no_grad():
        theirs = real(file.permute(*forward)[None, None])[0]
        ours = network.eval()(file.permute(2, 1, 0)[None, None])[0]
    back = [forward.index(axis) + 1 for axis in range(3)]
    theirs = theirs.permute(0, *back).permute(0, 3, 2, 1)
    assert theirs.abs().max() > 1 and (theirs - ours).abs().max() < 1e-4
    spacing, patch = [5.0, 0.8, 0.9], [16, 32, 48]
    assert model.plan.grid.spacing == tuple(spacing[forward.index(axis)] for axis in (2, 1, 0))
    assert model.plan.patch == tuple(patch[forward.index(axis)] for axis in (2, 1, 0))


def test_a_trained_folder_is_imported_as_a_whole(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", LABELS)
    path = import_model(zipped(source, "Dataset509_Spleen/nnUNetTrainer__nnUNetPlans__3d_fullres"), name="nn",
                        folder=tmp_path / "models")  # fmt: skip
    model = load_model(path)
    assert model.labels.names == ("liver", "tumor") and model.plan.patch == (48, 32, 16)
    (step,) = model.plan.window.steps
    assert isinstance(step, ToRange) and (step.low, step.high, step.clip) == (-41.0, 176.0, True)
    assert step.to == pytest.approx(((-41 - 99.5) / 39.4, (176 - 99.5) / 39.4))
    assert model.record["trainer"] == "nnUNetTrainer" and model.record["fold"] == "fold_0"
    notes = " ".join(model.record["notes"])
    assert "--orientation LPS" in notes and "averages its mirror images" in notes
    assert "fold" not in notes and "3d_lowres" not in notes


def test_which_fold_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_nnunet(tmp_path / "nnunet", LABELS)
    other = write_nnunet(tmp_path / "other", LABELS)
    first = torch.load(source / "fold_0/checkpoint_final.pth", weights_only=False)
    second = torch.load(other / "fold_0/checkpoint_final.pth", weights_only=False)
    second["network_weights"]["decoder.seg_layers.1.bias"] += 1
    (source / "fold_3").mkdir()
    torch.save(second, source / "fold_3/checkpoint_best.pth")
    head = "output_block.conv.conv.bias"
    model = read_nnunet(source)
    assert model.record["fold"] == "fold_0" and "2 folds (fold_0, fold_3), fold_0 is used" in " ".join(model.notes)
    assert torch.equal(model.weights[head], first["network_weights"]["decoder.seg_layers.1.bias"])
    assert dinomix("models", "import", source, "--fold", "3", "--name", "three", "--json") == 0
    third = load_model(tmp_path / "models/three")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["notes"] == third.record["notes"]
    assert third.record["fold"] == "fold_3" and "checkpoint_best.pth is used" in " ".join(third.record["notes"])
    assert torch.allclose(third.weights[head], model.weights[head] + 1)
    with pytest.raises(DinomixError, match="has no fold_7") as caught:
        read_nnunet(source, fold="7")
    assert "fold_0, fold_3" in caught.value.remedy


def test_of_the_configurations_of_a_dataset_the_finest_in_3d_is_taken(tmp_path: Path) -> None:
    """nnU-Net exports all that it trained: the first by name is the 2D one."""
    for name, patch in (("2d", [32, 48]), ("3d_cascade_fullres", [16, 32, 48]), ("3d_lowres", [16, 32, 48])):
        source = write_nnunet(
            tmp_path / f"Dataset509_Spleen/nnUNetTrainer__nnUNetPlans__{name}", LABELS, patch_size=patch
        )
        _rename_configuration(source, name)
    low = import_model(tmp_path / "Dataset509_Spleen", name="low", folder=tmp_path / "models")
    notes = load_model(low).record["notes"]
    assert "__3d_lowres is used" in notes[0] and any("which a cascade would refine" in note for note in notes)
    write_nnunet(tmp_path / "Dataset509_Spleen/nnUNetTrainer__nnUNetPlans__3d_fullres", LABELS)
    full = import_model(zipped(tmp_path / "Dataset509_Spleen", "export"), name="full", folder=tmp_path / "models")
    assert load_model(full).record["configuration"] == "3d_fullres"
    with pytest.raises(DinomixError, match="2D configuration 2d") as caught:
        import_model(tmp_path / "Dataset509_Spleen/nnUNetTrainer__nnUNetPlans__2d", folder=tmp_path / "models")
    assert "3d_fullres" in caught.value.remedy


def _rename_configuration(source: Path, name: str) -> None:
    plans = json.loads((source / "plans.json").read_text())
    plans["configurations"][name] = plans["configurations"].pop("3d_fullres")
    (source / "plans.json").write_text(json.dumps(plans))
    checkpoint = torch.load(source / "fold_0/checkpoint_final.pth", weights_only=False)
    checkpoint["init_args"]["configuration"] = name
    torch.save(checkpoint, source / "fold_0/checkpoint_final.pth")


@pytest.mark.parametrize("axes", [None, (), "missing"])
def test_a_trainer_without_mirroring_is_told(axes: Any, tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", LABELS)
    checkpoint = torch.load(source / "fold_0/checkpoint_final.pth", weights_only=False)
    checkpoint["inference_allowed_mirroring_axes"] = axes
    if axes == "missing":
        del checkpoint["inference_allowed_mirroring_axes"]
    torch.save(checkpoint, source / "fold_0/checkpoint_final.pth")
    notes = " ".join(read_nnunet(source).notes)
    assert "allows no mirror images" in notes and "averages its mirror images" not in notes


def test_a_fine_tuning_starts_from_it_and_keeps_the_best(tmp_path: Path) -> None:
    """DynUNet holds its tensors under two names; everything that a run writes must cope with that."""
    source = write_nnunet(tmp_path / "nnunet", {"tumor": 1, "liver": 2})
    start = load_model(import_model(source, folder=tmp_path / "models"))
    cohort = make_cohort(tmp_path / "data", labeled=1, unlabeled=0)
    plan = start.plan.model_copy(update={"patch": (16, 16, 8)})
    config = small_config("labeled-only", steps=2, validate_every=1, checkpoint_every=1, batch_labeled=1,
                          learning_rate=1e-6)  # fmt: skip
    weights = matched_weights(start, cohort.labels, plan, 0, lambda kind, **fields: None)
    tuned = load_model(train(cohort, tmp_path / "run", config, plan, start=weights))
    assert (tmp_path / "run/checkpoints/best.safetensors").is_file()
    assert tuned.labels.names == ("liver", "gallbladder")
    head = "output_block.conv.conv.weight"
    assert torch.allclose(tuned.weights[head][:2], start.weights[head][[0, 2]], atol=1e-4)


def test_orientation_and_normalization(tmp_path: Path) -> None:
    z_score = {"normalization_schemes": ["ZScoreNormalization"]}
    source = write_nnunet(tmp_path / "one", LABELS, **z_score, use_mask_for_norm=[True])
    model = load_model(import_model(source, hints=Hints(orientation="lps"), folder=tmp_path / "models"))
    assert model.plan.grid.orientation == "LPS" and model.plan.window == StepsWindow(steps=(ZScore(nonzero=True),))
    assert read_nnunet(write_nnunet(tmp_path / "two", LABELS, **z_score)).plan.window == StepsWindow(steps=(ZScore(),))
    rescaled = write_nnunet(tmp_path / "three", LABELS, normalization_schemes=["RescaleTo01Normalization"])
    assert read_nnunet(rescaled).plan.window == StepsWindow(steps=(MinMax(),))


def test_plans_of_older_versions(tmp_path: Path) -> None:
    old = {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 8, "unet_max_num_features": 16,
        "n_conv_per_stage_encoder": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    }  # fmt: skip
    source = write_nnunet(tmp_path / "old", LABELS)
    plans = json.loads((source / "plans.json").read_text())
    new = read_nnunet(source).plan.network
    del plans["configurations"]["3d_fullres"]["architecture"]
    plans["configurations"]["parent"] = {**plans["configurations"]["3d_fullres"], **old}
    plans["configurations"]["3d_fullres"] = {"inherits_from": "parent"}
    (source / "plans.json").write_text(json.dumps(plans))
    assert read_nnunet(source).plan.network == new


def _other_network(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["architecture"]["network_class_name"] = "dynamic_network_architectures.architectures.primus.Primus"


def _another_package(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["architecture"]["network_class_name"] = "mine.PlainConvUNet"


def _code_for_a_class(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["architecture"]["arch_kwargs"]["norm_op"] = "os.system"


def _convolutions_in_2d(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["architecture"]["arch_kwargs"]["conv_op"] = "torch.nn.modules.conv.Conv2d"


def _three_convolutions(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["architecture"]["arch_kwargs"]["n_conv_per_stage"] = [2, 3, 2]


def _two_images(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    dataset["channel_names"] = {"0": "T1", "1": "T2"}


def _regions(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    dataset["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}


def _two_dimensions(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["patch_size"] = [256, 256]


def _cascade(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["previous_stage"] = "3d_lowres"


def _other_normalization(configuration: dict[str, Any], dataset: dict[str, Any]) -> None:
    configuration["normalization_schemes"] = ["MyOwnNormalization"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_other_network, "Primus"), (_another_package, "mine"), (_code_for_a_class, "instance normalization"),
        (_convolutions_in_2d, "convolutions in 3D"), (_three_convolutions, "two convolutions per stage"),
        (_two_images, "2 images of a case .T1, T2. and 1"), (_regions, "regions that overlap"), (_two_dimensions, "2D"),
        (_cascade, "cascade"), (_other_normalization, "MyOwnNormalization"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(change: Any, problem: str, tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", LABELS)
    plans, dataset = (json.loads((source / name).read_text()) for name in ("plans.json", "dataset.json"))
    change(plans["configurations"]["3d_fullres"], dataset)
    (source / "plans.json").write_text(json.dumps(plans))
    (source / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(DinomixError, match=problem) as caught:
        import_model(source, folder=tmp_path / "models")
    assert caught.value.remedy and "\n" not in str(caught.value)
    assert not list((tmp_path / "models").glob("[!.]*"))
