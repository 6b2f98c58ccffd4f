"""Models that ask for more than any model needs: refused with a figure, before anything is allocated."""

import json
import os
import resource
import struct
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import change_json, spleen_config, write_auto3dseg, write_bundle, write_nnunet
from test_models_refusals import refusal

from dinomix import memory
from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry
from dinomix.importing.hints import Hints
from dinomix.importing.weights import read_checkpoint, state_dict_of
from dinomix.inference.memory import plan_memory
from dinomix.models.folder import load_model
from dinomix.models.footprint import on_paper
from dinomix.models.manifest import write_manifest
from dinomix.models.network import build_network, footprint
from dinomix.models.writing import write_model
from dinomix.planning.plan import Plan
from random_models import labels_with_ids, random_weights, small_plan

LABELS = labels_with_ids(1, 2)
NOT_NUMBERS = "its tensor a is not stored as numbers|would run code"


@pytest.fixture(autouse=True)
def _takes_no_memory() -> Iterator[None]:
    """No test here takes much more memory than the one before it, whatever it asks for."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    kilobyte = 1 if os.uname().sysname == "Linux" else 1024  # macOS counts bytes
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / kilobyte < 500_000


def model_folder(path: Path, **changes: Any) -> Path:
    """A model folder, whole but for what its plan asks for."""
    plan = small_plan()
    write_model(path, plan=plan, labels=LABELS, weights=random_weights(plan, LABELS), record={})
    data = json.loads((path / "plan.json").read_text())
    data.update({key: {**data[key], **value} if isinstance(value, dict) else value for key, value in changes.items()})
    (path / "plan.json").write_text(json.dumps(data))
    write_manifest(path)
    return path


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"network": {"filters": [10_000] * 3}}, r"do not fit .* instead of \(10000"),
        ({"network": {"kernel_size": [301] * 3}}, "do not fit .*301"),
        ({"network": {"filters": [10**8] * 3}}, "hold the number 100000000"),
        ({"network": {"filters": [8] * 2000}}, "hold more than 1000 values"),
        ({"network": {"norm_name": ["x"] * 900 + [{"a": ["y"] * 200}]}}, "hold more than 1000 values"),
        ({"network": {"act_name": "x" * 10**5}}, "hold an expression or a reference"),
        ({"patch": [640, 640, 640]}, r"patch\.0: .*less than or equal to 512"),
        ({"patch": [10**6, 32, 32]}, r"patch\.0: .*less than or equal to 512"),
        ({"patch": [512, 512, 512]}, r"134,217,728 voxels; up to 33,554,432 are possible"),
        ({"overlap": [0.9999, 0.5, 0.5]}, "less than or equal to 0.95"),
        ({"grid": {"spacing": [1e-300, 1, 1]}}, "greater than or equal to 0.001"),
        ({"grid": {"spacing": [1, 1, 1e6]}}, "less than or equal to 100"),
        ({"grid": {"kind": "size", "size": [10**5] * 3, "spacing": None}}, "not permitted|less than or equal to 512"),
        ({"window": {"kind": "range", "low": -1e300, "high": 1e300}}, "window"),
        ({"network": {"_target_": 5}}, "no _target_"),
    ],
)
def test_a_model_folder_whose_plan_asks_for_too_much(changes: dict, problem: str, tmp_path: Path):
    path = model_folder(tmp_path / "model", **changes)
    with pytest.raises(DinomixError, match=problem) as caught:
        load_model(path).network()
    assert str(path) in str(caught.value) or "The plan's" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_window_that_this_computer_cannot_hold_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch):
    plan = small_plan(patch=(320, 320, 320))
    takes = footprint(plan, 3)
    assert 3 * 320**3 * 4 < takes.window < 100 * 320**3 * 4
    monkeypatch.setattr(memory, "main_memory", lambda: 2**30)
    with pytest.raises(DinomixError, match=r"320 x 320 x 320 voxels, takes about \d+\.\d GB of memory; .* has 1\.0 GB"):
        build_network(plan, 3)


def test_a_grid_that_this_computer_cannot_hold_is_refused_with_both_figures(tmp_path: Path):
    model = load_model(model_folder(tmp_path / "model", grid={"spacing": [0.2, 0.2, 0.2]}))
    geometry = Geometry((900, 900, 900), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), torch.eye(3).double().numpy())
    with pytest.raises(DinomixError, match=r"takes about [\d,]+\.\d GB of memory; this computer has"):
        plan_memory(geometry, model, None)


def test_a_network_without_end_is_given_up():
    unet = {"_target_": "monai.networks.nets.UNet", "channels": [4, 8], "strides": [2], "num_res_units": 100_000}
    with pytest.raises(DinomixError, match="more than 10,000 layers"):
        build_network(small_plan().model_copy(update={"network": unet}), 3)


def test_networks_on_paper_have_the_shapes_of_the_real_ones():
    plan = small_plan()
    real = build_network(plan, 3)
    takes = footprint(plan, 3)
    assert takes.shapes == {name: tuple(tensor.shape) for name, tensor in real.state_dict().items()}
    assert takes.weights == sum(tensor.nbytes for tensor in real.parameters())
    with on_paper():
        assert torch.nn.Linear(10**6, 10**6).weight.is_meta
    assert not torch.nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("network_def", "channels"), [10_000, 10_000, 10_000, 10_000, 10_000], "do not fit"),
        (("network_def", "kernel_size"), 301, "do not fit"),
        (("network_def", "num_res_units"), 10**8, "hold the number 100000000"),
        (("network_def", "num_res_units"), 50_000, "more than 10,000 layers"),
        (("network_def", "out_channels"), 90_000, "how many classes"),
        (("inferer", "roi_size"), [640, 640, 640], "less than or equal to 512"),
        (("inferer", "roi_size"), [10**6] * 3, "less than or equal to 512"),
        (("inferer", "overlap"), 0.999999, r"less than or equal to 0\.95"),
        (("preprocessing", "transforms", 3, "pixdim"), [1e-300, 1, 1], "cannot be brought to"),
        (("preprocessing", "transforms"), [{"_target_": "ScaleIntensityd"}] * 20_000, "in 20000 steps"),
        (("network_def", "norm"), "$" + "-" * 50_000 + "1", "more than describe"),
        (("network_def", "norm"), "$" + "(" * 5_000, "it is code"),
        (("network_def", "channels"), "$" + "+".join(["'a'"] * 3000), "more than describe"),
    ],
)
def test_a_bundle_that_asks_for_too_much(place: tuple, value: Any, problem: str, tmp_path: Path):
    source = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    change_json(source / "configs/inference.json", place, value)
    refusal(tmp_path, source, problem)


def test_a_bundle_of_references_that_explode(tmp_path: Path):
    config = deepcopy(spleen_config())
    config["level_0"] = [1] * 10
    for level in range(1, 12):
        config[f"level_{level}"] = "$[" + ", ".join([f"@level_{level - 1}"] * 10) + "]"
    config["network_def"]["channels"] = "@level_11"
    source = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    (source / "configs/inference.json").write_text(json.dumps(config))
    refusal(tmp_path, source, "stand for more than 10,000 values")


def test_a_bundle_of_texts_that_explode(tmp_path: Path):
    config = deepcopy(spleen_config())
    config["text_0"] = "x" * 100
    for level in range(1, 12):
        config[f"text_{level}"] = f"$@text_{level - 1} + @text_{level - 1}"
    config["network_def"]["norm"] = "@text_11"
    source = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    (source / "configs/inference.json").write_text(json.dumps(config))
    refusal(tmp_path, source, "it is code")


def test_a_configuration_of_many_megabytes_is_not_read(tmp_path: Path):
    source = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    (source / "configs/inference.json").write_text(json.dumps(spleen_config(padding="x" * 2 * 10**6)))
    refusal(tmp_path, source, r"inference\.json cannot be read \(it is larger than 1 MB\)")


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("architecture", "arch_kwargs", "n_stages"), 10**8, "100000000 stages"),
        (("architecture", "arch_kwargs", "features_per_stage"), [10**4] * 3, "do not fit"),
        (("architecture", "arch_kwargs", "features_per_stage"), [10**9] * 3, "hold the number"),
        (("patch_size",), [10**6] * 3, "less than or equal to 512"),
        (("spacing",), [1e-300] * 3, "cannot be brought to"),
        (("architecture",), None, "incomplete|holds a network without a name"),
    ],
)
def test_an_nnunet_that_asks_for_too_much(place: tuple, value: Any, problem: str, tmp_path: Path):
    source = write_nnunet(tmp_path / "nnunet", {"liver": 1})
    change_json(source / "plans.json", ("configurations", "3d_fullres", *place), value)
    refusal(tmp_path, source, problem)


def test_old_plans_of_a_million_stages(tmp_path: Path):
    source = write_nnunet(tmp_path / "nnunet", {"liver": 1})
    plans = json.loads((source / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    del configuration["architecture"]
    configuration |= {"UNet_class_name": "PlainConvUNet", "n_conv_per_stage_encoder": [2] * 10**6}
    (source / "plans.json").write_text(json.dumps(plans))
    refusal(tmp_path, source, "a network of 1000000 stages")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"roi_size": [640, 640, 640]}, "less than or equal to 512"),
        ({"resample_resolution": [1e-300, 1, 1]}, "greater than or equal to 0.001"),
        ({"intensity_bounds": [-1e300, 1e300]}, "format demands|cannot be used"),
    ],
)
def test_an_auto3dseg_model_that_asks_for_too_much(changes: dict, problem: str, tmp_path: Path):
    refusal(tmp_path, write_auto3dseg(tmp_path / "model", ["Liver"], **changes), problem)


def test_an_auto3dseg_model_of_ninety_thousand_classes(tmp_path: Path):
    source = write_auto3dseg(tmp_path / "model", ["Liver"])
    checkpoint = torch.load(source / "model.pt", weights_only=False)
    checkpoint["config"]["output_classes"] = 90_000
    torch.save(checkpoint, source / "model.pt")
    refusal(tmp_path, source, "how many classes")


def test_a_checkpoint_whose_lists_explode(tmp_path: Path):
    source = write_auto3dseg(tmp_path / "model", ["Liver"])
    checkpoint = torch.load(source / "model.pt", weights_only=False)
    nested: list = [1, 2]
    for _ in range(60):
        nested = [nested, nested]
    checkpoint["config"]["network"]["blocks_up"] = nested
    torch.save(checkpoint, source / "model.pt")
    refusal(tmp_path, source, "hold more than 1000 values")


def test_weights_that_claim_more_than_their_file_holds(tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**5)}, path)
    with pytest.raises(DinomixError, match=r"claims weights of 372\.5 GB in a file of 0\.0 GB"):
        state_dict_of(read_checkpoint(path), path)
    torch.save({"a": torch.zeros(3, 3).to_sparse()}, path)
    with pytest.raises(DinomixError, match=NOT_NUMBERS):
        state_dict_of(read_checkpoint(path), path)
    torch.save({"a": torch.zeros(3, 3, device="meta")}, path)
    with pytest.raises(DinomixError, match=NOT_NUMBERS):
        state_dict_of(read_checkpoint(path), path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 99_999_999) + b"{}",
        struct.pack("<Q", 83) + b'{"a":{"dtype":"F32","shape":[100000,100000],"data_offsets":[0,40000000000]}}       ',
        struct.pack("<Q", 100_000) + b"[" * 100_000,
    ],
)
def test_safetensors_whose_header_claims_what_is_not_there(content: bytes, tmp_path: Path):
    path = model_folder(tmp_path / "model")
    (path / "models/model.safetensors").write_bytes(content)
    write_manifest(path)
    with pytest.raises(DinomixError, match=r"model\.safetensors cannot be read"):
        load_model(path)
    with pytest.raises(DinomixError, match="cannot be read as weights"):
        read_checkpoint(path / "models/model.safetensors")


@pytest.mark.parametrize("name", ["manifest.json", "record.json", "labels.json", "plan.json", "README.md"])
def test_a_pipe_in_a_model_folder(name: str, tmp_path: Path):
    path = model_folder(tmp_path / "model")
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(DinomixError, match=f"{name}"):
        load_model(path)


def test_pipes_and_devices_where_a_model_is_expected(tmp_path: Path):
    (tmp_path / "models").mkdir()
    os.mkfifo(tmp_path / "model.zip")
    os.mkfifo(tmp_path / "model.pt")
    for source in (tmp_path / "model.zip", tmp_path / "model.pt", Path("/dev/zero")):
        refusal(tmp_path, source, "neither a file nor a folder")
    bundle = write_bundle(tmp_path / "bundle", spleen_config(), ["spleen"])
    (bundle / "models/model.pt").unlink()
    os.mkfifo(bundle / "models/model.pt")
    refusal(tmp_path, bundle, r"holds no model\.pt")
    torch.save({}, tmp_path / "weights.pt")
    os.mkfifo(tmp_path / "plan.json")
    hints = Hints(plan=tmp_path / "plan.json", labels=Path("/dev/zero"))
    refusal(tmp_path, tmp_path / "weights.pt", "plan.json is not a plan .*not a file", hints)


def test_limits_leave_room_for_real_models():
    """nnU-Net's largest published patches and a bundle of MONAI's with the finest grid."""
    for patch, spacing in (
        ((28, 256, 256), (5.0, 0.6, 0.6)),
        ((192, 192, 192), (0.3, 0.3, 0.3)),
        ((320, 320, 320), (10, 1, 1)),
    ):
        unet = {"_target_": "monai.networks.nets.DynUNet", "strides": [1, 2, 2]}
        plan = Plan.model_validate({
            "modality": "CT", "grid": {"kind": "spacing", "spacing": spacing}, "patch": patch, "network": unet,
            "window": {"kind": "range", "low": -1000, "high": 3000}, "fkd_stage": "bottleneck",
        })  # fmt: skip
        assert plan.patch == patch
