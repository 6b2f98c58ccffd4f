"""nnU-Net's ResidualEncoderUNet (ResEnc M, L and XL): imported, segmenting, run by MONAI, the start of a fine-tuning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import residual_architecture, write_nnunet
from monai_alone import assert_same_labels

from dinomix.errors import DinomixError
from dinomix.importing.installing import import_model
from dinomix.importing.nnunet import read_nnunet
from dinomix.inference.precision import Ends, InBfloat16
from dinomix.models.folder import Model, load_model
from dinomix.models.matched_weights import matched_weights
from dinomix.models.network import RESIDUAL_ENCODER, build_network, footprint
from dinomix.models.residual_encoder import ResidualEncoderUNet, _Average
from dinomix.planning.plan import patch_multiple
from dinomix.training.fkd import tapped_stage
from dinomix.training.train import train
from random_models import random_model
from tiny_cohort import make_cohort, small_config

LABELS = {"liver": 1, "tumor": 2}
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]]
ARCHITECTURE = residual_architecture(KERNELS, STRIDES, [8, 16, 24, 24], [1, 3, 2, 2], [1, 2, 1])


def real_network(architecture: dict[str, Any], classes: int = 3) -> torch.nn.Module:
    """The network that nnU-Net itself builds, with weights that matter."""
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    classes_of_torch = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    torch.manual_seed(0)
    real = unet.ResidualEncoderUNet(input_channels=1, num_classes=classes, deep_supervision=False,
                                    **{**architecture["arch_kwargs"], **classes_of_torch})  # fmt: skip
    for parameter in real.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim == 1 else torch.nn.init.kaiming_normal_(parameter)
    return real


@pytest.mark.parametrize("forward", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_are_those_of_the_real_network(forward: list[int], bias: bool, tmp_path: Path) -> None:
    """On an array as nnU-Net reads it from a file: (z, y, x), transposed."""
    architecture = json.loads(json.dumps(ARCHITECTURE))
    architecture["arch_kwargs"] |= {"conv_bias": bias, "nonlin_kwargs": {"inplace": True, "negative_slope": 0.2}}
    architecture["arch_kwargs"]["norm_op_kwargs"]["eps"] = 1e-3
    real = real_network(architecture)
    source = write_nnunet(tmp_path / "nnunet", LABELS, real.state_dict(), architecture=architecture)
    plans = json.loads((source / "plans.json").read_text())
    plans["transpose_forward"] = forward
    (source / "plans.json").write_text(json.dumps(plans))
    model = read_nnunet(source)
    network = build_network(model.plan, 3)
    network.load_state_dict(model.weights)
    file = torch.randn(64, 48, 32)
    with torch.no_grad():
        theirs = real.eval()(file.permute(*forward)[None, None])[0]
        ours = network.eval()(file.permute(2, 1, 0)[None, None])[0]
    back = [forward.index(axis) + 1 for axis in range(3)]
    theirs = theirs.permute(0, *back).permute(0, 3, 2, 1)
    assert theirs.abs().max() > 1 and (theirs - ours).abs().max() < 1e-4


def test_each_tensor_has_the_first_of_its_names_in_the_real_network_and_the_same_gradient() -> None:
    real = real_network(ARCHITECTURE)
    taken = {key: value for key, value in ARCHITECTURE["arch_kwargs"].items() if not key.endswith("_op")}
    taken = {key: value for key, value in taken.items() if key not in ("n_stages", "dropout_op_kwargs", "nonlin")}
    own = ResidualEncoderUNet(in_channels=1, out_channels=3, **taken)
    named = dict(real.named_parameters())
    assert [n for n in named if not n.startswith(("decoder.seg_layers.0", "decoder.seg_layers.1"))] == list(
        own.state_dict()
    )
    own.load_state_dict({name: named[name].detach() for name in own.state_dict()})
    image = torch.randn(1, 1, 4, 16, 24)
    for network in (real, own):
        network(image).square().mean().backward()
    for name, parameter in own.named_parameters():
        assert torch.allclose(parameter.grad, named[name].grad, atol=1e-7), name


def imported(folder: Path) -> Model:
    """(x, y, z) from nnU-Net's (z, y, x): a patch of 48 x 32 x 16."""
    source = write_nnunet(folder / "nnunet", LABELS, architecture=ARCHITECTURE)
    return load_model(import_model(source, name="resenc", folder=folder / "models"))


def test_a_trained_folder_is_imported(tmp_path: Path) -> None:
    model = imported(tmp_path)
    assert model.plan.network["_target_"] == RESIDUAL_ENCODER and model.plan.patch == (48, 32, 16)
    assert model.plan.network["kernel_sizes"][0] == [3, 3, 1] and model.plan.network["strides"][3] == [2, 2, 1]
    assert patch_multiple(model.plan.network) == (8, 8, 2)
    # The encoder's deepest stage, where there are eight times fewer voxels along x.
    assert tapped_stage(model.network(), model.plan, model.labels.channels).name == "encoder.stages.3"
    checkpoint = torch.load(tmp_path / "nnunet/fold_0/checkpoint_final.pth", weights_only=False)
    given = checkpoint["network_weights"]
    assert len(model.weights) < len(given) / 3 and model.weights.keys() <= given.keys()
    assert [name for name in model.weights if "seg_layers" in name] == [
        "decoder.seg_layers.2.bias", "decoder.seg_layers.2.weight",
    ]  # fmt: skip
    kernel = "encoder.stages.1.blocks.0.conv1.conv.weight"
    assert torch.equal(model.weights[kernel], given[kernel].permute(0, 1, 4, 3, 2))


def test_plans_of_older_versions(tmp_path: Path) -> None:
    old = {
        "UNet_class_name": "ResidualEncoderUNet", "UNet_base_num_features": 8, "unet_max_num_features": 16,
        "n_conv_per_stage_encoder": [1, 3, 4], "n_conv_per_stage_decoder": [1, 1],
        "conv_kernel_sizes": KERNELS[:3], "pool_op_kernel_sizes": STRIDES[:3],
    }  # fmt: skip
    architecture = residual_architecture(KERNELS[:3], STRIDES[:3], [8, 16, 16], [1, 3, 4], [1, 1])
    source = write_nnunet(tmp_path / "old", LABELS, architecture=architecture)
    new = read_nnunet(source).plan.network
    plans = json.loads((source / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    del configuration["architecture"]
    configuration.update(old)
    (source / "plans.json").write_text(json.dumps(plans))
    assert read_nnunet(source).plan.network == new


def test_monai_runs_the_folder_where_nnunets_networks_are(
    test_data: Path, tmp_path: Path, run_bundle: Callable[..., None]
) -> None:
    pytest.importorskip("dynamic_network_architectures.architectures.unet")
    image = test_data / "ct_spleen/ct.nii.gz"
    read = read_nnunet(write_nnunet(tmp_path / "nnunet", LABELS, architecture=ARCHITECTURE, spacing=[4.0, 1.8, 1.8]))
    model = random_model(tmp_path / "model", read.plan, read.labels, image)
    assert "dynamic-network-architectures" in (model.path / "configs/metadata.json").read_text()
    run_bundle(model, tmp_path, "--image", str(image))
    assert_same_labels(model, image, tmp_path / "out/ct_seg.nii.gz")


def test_bfloat16_and_the_memory_of_a_window(tmp_path: Path) -> None:
    model = imported(tmp_path)
    network = model.network()
    assert Ends.of(network, model.plan) == Ends(("encoder.stem.convs.0.conv",), ("decoder.seg_layers.2",))
    image = torch.rand(1, 1, *model.plan.patch)
    with torch.inference_mode():
        slow = network(image)
        fast = InBfloat16(network, model.plan, torch.device("cpu"))(image)
    assert fast.dtype == torch.float32 and (fast - slow).abs().max() < 0.1 * slow.abs().max()
    # At its peak the finest stage holds its input, two convolutions' outputs and the skip: 8 channels of float32 each.
    assert footprint(model.plan, model.labels.channels).window - 2**26 > 3 * 8 * 4 * 48 * 32 * 16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("steps", [(2, 2, 2), (1, 2, 2), (2, 1, 3)])
def test_averages_are_those_of_pytorch(dtype: torch.dtype, steps: tuple[int, int, int]) -> None:
    """In bfloat16 too, for which PyTorch has no average on the CPU."""
    image = torch.rand(2, 3, 4, 6, 12).to(dtype)
    expected = F.avg_pool3d(image.float(), steps, steps)
    assert torch.equal(_Average(steps, steps)(image), expected.to(dtype)) or (
        (_Average(steps, steps)(image).float() - expected).abs().max() < 0.004
    )


def test_a_fine_tuning_starts_from_it_with_distillation(tmp_path: Path) -> None:
    start = imported(tmp_path)
    cohort = make_cohort(tmp_path / "data", labeled=2, unlabeled=2)
    plan = start.plan.model_copy(update={"patch": (16, 16, 8)})
    config = small_config("dino-mix", steps=2, validate_every=1, checkpoint_every=1, learning_rate=1e-6)
    told: list[str] = []
    weights = matched_weights(start, cohort.labels, plan, 0, lambda kind, **fields: told.append(fields["message"]))
    tuned = load_model(train(cohort, tmp_path / "run", config, plan, start=weights))
    assert tuned.labels.names == ("liver", "gallbladder") and "gallbladder" in told[0]
    head = "decoder.seg_layers.2.weight"
    assert torch.allclose(tuned.weights[head][:2], start.weights[head][:2], atol=1e-4)
    deep = "encoder.stages.3.blocks.1.conv2.conv.weight"
    assert torch.allclose(tuned.weights[deep], start.weights[deep], atol=1e-4)
    assert not torch.equal(tuned.weights[deep], start.weights[deep])


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("network_class_name",), "dynamic_network_architectures.architectures.unet.ResidualUNet", "ResidualUNet"),
        (("network_class_name",), "elsewhere.ResidualEncoderUNet", r"elsewhere\.ResidualEncoderUNet"),
        (("arch_kwargs", "n_blocks_per_stage"), [1, 3, 2], "one entry per stage"),
        (("arch_kwargs", "norm_op"), "torch.nn.modules.batchnorm.BatchNorm3d", "instance normalization"),
        (("arch_kwargs", "nonlin"), "subprocess.call", "LeakyReLU"),
        (("arch_kwargs", "nonlin_kwargs"), {"args": "touch harmed"}, "LeakyReLU"),
        (("arch_kwargs", "norm_op_kwargs"), {"eps": 1e-5, "affine": True, "momentum": 1}, "instance normalization"),
        (("arch_kwargs", "dropout_op"), "torch.nn.Dropout3d", "dropout"),
        (("arch_kwargs", "block"), "dynamic_network_architectures.building_blocks.residual.BottleneckD", "residual blocks"),
        (("arch_kwargs", "kernel_sizes"), [[2, 2, 2]] * 4, "odd kernels"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(place: tuple[str, ...], value: Any, problem: str, tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", LABELS, architecture=ARCHITECTURE)
    plans = json.loads((source / "plans.json").read_text())
    target = plans["configurations"]["3d_fullres"]["architecture"]
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    (source / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(DinomixError, match=problem) as caught:
        import_model(source, folder=tmp_path / "models")
    assert "ResidualEncoderUNet" in caught.value.remedy and "\n" not in str(caught.value)
    assert not list((tmp_path / "models").glob("[!.]*"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"encoder.stem.convs.0.conv.weight": torch.zeros(8, 2, 1, 3, 3)}, "takes 2 images"),
        (
            {"encoder.stages.2.blocks.1.conv1.conv.weight": None},
            r"stages\.2\.blocks\.1\.conv1\.conv\.weight is missing",
        ),
        ({"encoder.stages.0.blocks.0.squeeze_excitation.fc1.weight": torch.zeros(1)}, "squeeze_excitation.*too much"),
        ({"encoder.stem.convs.0.norm.running_mean": torch.zeros(8)}, "batch normalization"),
    ],
)
def test_weights_of_another_network(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "nnunet", LABELS, architecture=ARCHITECTURE)
    path = source / "fold_0/checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    for name, tensor in change.items():
        checkpoint["network_weights"][name] = tensor
        if tensor is None:
            del checkpoint["network_weights"][name]
    torch.save(checkpoint, path)
    with pytest.raises(DinomixError, match=problem):
        import_model(source, folder=tmp_path / "models")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"_target_": RESIDUAL_ENCODER.replace("Encoder", "")}, "cannot be used"),
        ({"_target_": RESIDUAL_ENCODER.replace("unet.ResidualEncoderUNet", "primus.Primus")}, "cannot be used"),
        ({"conv_op": "$__import__('os').mkdir('harmed')"}, "expression"),
        ({"conv_op": "torch.nn.Conv2d"}, "unexpected keyword"),
        ({"strides": [1, 2, 2]}, "one entry for each"),
        ({"n_conv_per_stage_decoder": [1]}, "needs 3 entries"),
        ({"n_blocks_per_stage": [1, 0, 1, 1]}, "1 or more"),
        ({"kernel_sizes": [2, 3, 3, 3]}, "odd"),
        ({"kernel_sizes": [[3, 3], 3, 3, 3]}, "values to unpack"),
    ],
)
def test_a_plan_can_name_nothing_else(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    model = read_nnunet(write_nnunet(tmp_path / "nnunet", LABELS, architecture=ARCHITECTURE))
    plan = model.plan.model_copy(update={"network": {**model.plan.network, **change}})
    with pytest.raises(DinomixError, match=problem):
        build_network(plan, 3)
