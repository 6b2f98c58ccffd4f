"""Encoders of elsewhere as a start: nnssl's and CT-FM's, with random weights in exactly the layouts that are published."""

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import residual_architecture, residual_weights
from monai.networks.nets import SegResNetDS
from monai.networks.nets.segresnet_ds import SegResEncoder
from safetensors.torch import save_file
from torch import Tensor, nn

from dinomix.errors import DinomixError
from dinomix.importing.encoders import Encoder, as_it_was_trained, encoder_weights, plan_around, read_encoder
from dinomix.models.network import RESIDUAL_ENCODER, build_network, network_on_paper
from dinomix.planning.plan import InputChannel, PercentileWindow, RangeWindow, StepsWindow
from dinomix.training.arranging import arrange
from tiny_cohort import make_cohort

SMALL = residual_architecture([[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [1, 2, 2]], [4, 8, 8], [1, 2, 1], [1, 1])[
    "arch_kwargs"
]


def write_nnssl(path: Path, kind: str = "ResidualEncoderUNet", weights: dict[str, Tensor] | None = None,
                **changes: Any) -> Path:  # fmt: skip
    """What nnssl's trainers save; ``changes``: fields of the adaptation plan."""
    configuration = {
        "data_identifier": "nnsslPlans_onemmiso", "preprocessor_name": "DefaultPreprocessor", "spacing_style": "onemmiso",
        "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": False, "spacing": [1, 1, 1],
        "patch_size": [160, 160, 160],
    }  # fmt: skip
    adaptation = {
        "architecture_plans": {"arch_class_name": kind, "arch_kwargs": SMALL if kind == "ResidualEncoderUNet" else None,
                               "arch_kwargs_requiring_import": None},
        "pretrain_plan": {"dataset_name": "Dataset745_OpenMind", "plans_name": "nnsslPlans",
                          "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
                          "configurations": {"onemmiso": configuration}},
        "pretrain_num_input_channels": 1, "recommended_downstream_patchsize": [160, 160, 160],
        "key_to_encoder": "encoder.stages", "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"], "key_to_lpe": None, **changes,
    }  # fmt: skip
    torch.save({
        "network_weights": residual_weights(SMALL, 1) if weights is None else weights,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None, "logging": {"train_losses": [0.5]}, "_best_ema": 0.4, "current_epoch": 1000,
        "init_args": {"fold": "all"}, "trainer_name": "BaseMAETrainer_BS8", "nnssl_adaptation_plan": adaptation,
    }, path)  # fmt: skip
    return path


def segresnet(filters: int = 4) -> SegResEncoder:
    torch.manual_seed(2)
    encoder = SegResEncoder(init_filters=filters, blocks_down=(1, 2, 2, 4, 4))
    for name, tensor in encoder.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(std=0.2).abs_().add_(0.5 if "running_var" in name else 0)
    return encoder


def write_segresnet(folder: Path, layout: str) -> Path:
    """``ct_fm_feature_extractor`` and ``ct_fm_segresnet`` as the hub has them, and the checkpoint of the training."""
    tensors = segresnet().state_dict()
    if layout == "training":
        state = {f"model.backbone.{name}": tensor for name, tensor in tensors.items()}
        state |= {"model.projection_head.layers.0.weight": torch.zeros(8, 64)}
        torch.save(
            {"state_dict": state, "epoch": 449, "global_step": 225000, "hyper_parameters": {}}, folder / "epoch.ckpt"
        )
        return folder / "epoch.ckpt"
    if layout == "segresnet":
        whole = SegResNetDS(init_filters=4, out_channels=7, blocks_down=(1, 2, 2, 4, 4), dsdepth=4).state_dict()
        tensors = {**whole, **{f"encoder.{name}": tensor for name, tensor in tensors.items()}}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


def loaded(encoder: Encoder, channels: int = 3) -> nn.Module:
    plan = plan_around(encoder, "CT")
    network = build_network(plan, channels)
    network.load_state_dict(encoder_weights(encoder, plan, channels, seed=0))
    return network.eval()


def test_nnssls_residual_encoder_gives_what_it_gave_there_with_its_axes_turned(tmp_path: Path):
    encoder = read_encoder(write_nnssl(tmp_path / "checkpoint_final.pth"))
    assert encoder.network["_target_"] == RESIDUAL_ENCODER and encoder.network["strides"][-1] == [2, 2, 1]
    assert isinstance(encoder.window, StepsWindow) and "BaseMAETrainer_BS8" in encoder.title
    # There, the axes are z, y and x.
    arguments = {**encoder.network, "strides": SMALL["strides"], "kernel_sizes": SMALL["kernel_sizes"]}
    plan = plan_around(encoder, "MR").model_copy(update={"network": arguments})
    there = build_network(plan, 1)
    there.load_state_dict({name: w for name, w in residual_weights(SMALL, 1).items() if name in there.state_dict()})
    image = torch.randn(1, 1, 16, 24, 32)
    with torch.inference_mode():
        here = loaded(encoder).encoder(image)
        for ours, theirs in zip(here, there.eval().encoder(image.permute(0, 1, 4, 3, 2)), strict=True):
            torch.testing.assert_close(ours, theirs.permute(0, 1, 4, 3, 2), rtol=1e-4, atol=1e-4)


def test_openminds_res_enc_l_is_known_by_its_name(tmp_path: Path):
    encoder = read_encoder(write_nnssl(tmp_path / "openmind.pth", "ResEncL"))
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in network_on_paper(plan_around(encoder, "MR"), 3).state_dict().items()
    }
    assert shapes["encoder.stem.convs.0.conv.weight"] == (32, 1, 3, 3, 3)
    assert shapes["encoder.stages.5.blocks.5.conv2.conv.weight"] == (320, 320, 3, 3, 3)
    assert sum(name.startswith("encoder.stages.") and name.endswith("conv2.conv.weight") for name in shapes) == 26
    # Those weights are of a smaller network, which is told before anything is trained.
    with pytest.raises(DinomixError, match=r"openmind\.pth, nnssl's ResEncL .* does not fit .* ResidualEncoderUNet"):
        encoder_weights(encoder, plan_around(encoder, "MR"), 3, 0)


@pytest.mark.parametrize("layout", ["encoder", "segresnet", "training"])
def test_ct_fms_encoder_gives_what_it_gave_there_with_its_axes_turned(tmp_path: Path, layout: str):
    encoder = read_encoder(write_segresnet(tmp_path, layout))
    assert encoder.network["init_filters"] == 4 and encoder.network["blocks_down"] == [1, 2, 2, 4, 4]
    assert (encoder.window, encoder.orientation, encoder.modality) == (RangeWindow(low=-1024, high=2048), "LPS", "CT")
    image = torch.rand(1, 1, 16, 32, 48)
    with torch.inference_mode():
        here = loaded(encoder).encoder(image)
        # There, the axes run to S, P and L, here to L, P and S.
        there = segresnet().eval()(image.permute(0, 1, 4, 3, 2))
    for ours, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(ours, theirs.permute(0, 1, 4, 3, 2), rtol=1e-4, atol=1e-4)


def test_a_decoder_is_drawn_from_the_seed(tmp_path: Path):
    encoder = read_encoder(write_segresnet(tmp_path, "segresnet"))
    plan = plan_around(encoder, "CT")
    one, same, other = (encoder_weights(encoder, plan, 3, seed) for seed in (1, 1, 2))
    decoder = [name for name in one if not name.startswith("encoder.") and one[name].ndim == 5]
    assert decoder and all(torch.equal(one[name], same[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in decoder)
    assert all(torch.equal(one[name], other[name]) for name in encoder.weights)


def test_each_of_several_channels_gets_an_equal_share_of_the_first_weights(tmp_path: Path):
    encoder = read_encoder(write_segresnet(tmp_path, "segresnet"))
    more = (InputChannel(name="pet", modality="PT", window=PercentileWindow()),)
    plan = plan_around(encoder, "CT").model_copy(update={"channel": "ct", "more_channels": more})
    weights = encoder_weights(encoder, plan, 3, 1)
    other = [name for name, tensor in encoder.weights.items() if weights[name].shape != tensor.shape]
    assert len(other) == 1 and weights[other[0]].shape[1] == 2
    torch.testing.assert_close(weights[other[0]].sum(1, keepdim=True), encoder.weights[other[0]])
    changed = as_it_was_trained(plan, encoder, (), lambda *_, **__: None)
    assert changed.windows == (encoder.window, PercentileWindow())  # the encoder is for CT


def test_a_run_starts_from_an_encoder_on_its_axes_and_intensities(tmp_path: Path):
    from dinomix.training.train import train

    make_cohort(tmp_path / "cases").write(tmp_path / "cohort.json")
    told: list[str] = []
    settings = {"steps": 1, "optimizer": "adamw", "learning_rate": 1e-6}
    run = arrange(
        tmp_path / "cohort.json", method="mean-teacher", start=write_segresnet(tmp_path, "encoder"), device="cpu",
        settings=settings, emit=lambda kind, **fields: told.append(fields.get("message", "")),
    )  # fmt: skip
    assert run.plan.window == RangeWindow(low=-1024, high=2048) and run.plan.grid.orientation == "LPS"
    assert all(side % 16 == 0 for side in run.plan.patch) and "decoder is learned anew" in told[0]
    model = train(run.cohort, tmp_path / "run", run.config, run.plan, start=run.weights)
    assert (model / "models").is_dir()


def test_what_the_user_fixes_stays_and_another_network_is_refused(tmp_path: Path):
    make_cohort(tmp_path / "cases").write(tmp_path / "cohort.json")
    start = write_segresnet(tmp_path, "encoder")
    settings: dict[str, Any] = {
        "plan.window": {"kind": "range", "low": -100, "high": 200},
        "plan.grid": {"kind": "spacing", "spacing": [1, 1, 1]},
    }
    run = arrange(tmp_path / "cohort.json", method="labeled-only", start=start, device="cpu", settings=settings)
    assert run.plan.window == RangeWindow(low=-100, high=200) and run.plan.grid.orientation == "RAS"
    settings = {"plan.network": {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 8, 8, 8, 4]}}
    with pytest.raises(
        DinomixError, match=r"SegResNet encoder .* does not fit the plan's network, a BasicUNet"
    ) as caught:
        arrange(tmp_path / "cohort.json", method="labeled-only", start=start, device="cpu", settings=settings)
    assert str(start) in str(caught.value) and "Leave out" in caught.value.remedy


def test_what_is_no_encoder_is_refused_in_a_sentence(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no weights")
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    torch.save({"nnssl_adaptation_plan": {}, "network_weights": {}}, tmp_path / "empty.pth")
    write_nnssl(tmp_path / "primus.pth", "PrimusM")
    write_nnssl(tmp_path / "two.pth", pretrain_num_input_channels=2)
    refused = {"notes.txt": "neither a model folder nor", "other.safetensors": "no encoder", "primus.pth": "kind PrimusM",
               "two.pth": "2 images", "empty.pth": "not as its format demands"}  # fmt: skip
    for name, reason in refused.items():
        with pytest.raises(DinomixError, match=reason) as caught:
            read_encoder(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and caught.value.remedy
