"""Models of elsewhere become model folders that compute the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import (
    AUTO3DSEG_NETWORK,
    random_network,
    spleen_config,
    whole_body_config,
    write_auto3dseg,
    write_bundle,
    zipped,
)
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, NormalizeIntensity, ScaleIntensity, ScaleIntensityRange, Spacing

from dinomix.errors import DinomixError
from dinomix.images.reading import read_image
from dinomix.images.volume import Geometry, Volume
from dinomix.importing.hints import Hints
from dinomix.importing.installing import import_model
from dinomix.inference.segment import segment_volume
from dinomix.inference.sliding_window import predict_logits
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.planning.plan import MinMax, Sigmoid, StepsWindow, Tanh, ToRange, ZScore
from dinomix.planning.preprocessing import preprocess
from dinomix.training.fkd import tapped_stage

GEOMETRY = Geometry((70, 60, 50), (1.6, 1.4, 2.2), (5.0, -3.0, 9.0), np.diag([-1.0, -1.0, 1.0]))  # RAS axes
VOLUME = Volume(np.random.default_rng(0).normal(20, 150, (50, 60, 70)).round().astype(np.float32), GEOMETRY)
NAMES = ["spleen", "kidney_right", "kidney_left", "liver"]


def monai_image() -> MetaTensor:
    affine = torch.diag(torch.tensor([*GEOMETRY.spacing, 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(VOLUME.array.transpose(2, 1, 0).copy())[None], affine=affine)


def our_logits(model: Model, patch: tuple[int, int, int] | None = None) -> torch.Tensor:
    plan = model.plan if patch is None else model.plan.model_copy(update={"patch": patch})
    return predict_logits(model.network(), preprocess(VOLUME, plan).tensor, plan, "cpu")


def test_spleen_bundle_computes_what_monai_computes(tmp_path: Path) -> None:
    source = write_bundle(tmp_path / "spleen_ct_segmentation", spleen_config(), ["spleen"])
    model = load_model(import_model(source, folder=tmp_path / "models"))
    assert model.labels.names == ("spleen",) and model.labels.structures[0].terminology.type.value == "78961009"
    assert model.plan.grid.spacing == (1.5, 1.5, 2.0) and model.plan.patch == (96, 96, 96)
    steps = (ToRange(low=-57, high=164, to=(0, 1), clip=True),)
    assert model.plan.window == StepsWindow(on="grid", steps=steps) and model.plan.blend == "constant"
    image = Compose([Spacing((1.5, 1.5, 2.0), mode="bilinear"), ScaleIntensityRange(-57, 164, 0, 1, clip=True)])(
        monai_image()
    )
    network = random_network(spleen_config()["network_def"]).eval()
    with torch.no_grad():
        theirs = SlidingWindowInferer((96, 96, 96), 1, 0.5)(image.as_tensor()[None], network)[0]
    assert (our_logits(model) - theirs).abs().max() < 1e-4


def test_whole_body_bundle_in_both_resolutions(tmp_path: Path) -> None:
    source = write_bundle(tmp_path / "wholeBody_ct_segmentation", whole_body_config(), NAMES)
    (source / "models/model.pt").rename(source / "models/model_lowres.pt")
    hints = Hints(changes={"displayable_configs#highres": False}, weights="models/model_lowres.pt")
    model = load_model(import_model(source, name="coarse", hints=hints, folder=tmp_path / "models"))
    assert model.plan.grid.spacing == (3.0, 3.0, 3.0)
    assert model.plan.window == StepsWindow(on="grid", steps=(ZScore(nonzero=True), MinMax(to=(-1, 1))))
    assert model.plan.overlap == (0.25,) * 3 and model.plan.blend == "gaussian"
    assert model.labels == LabelSet.from_names(dict(enumerate(NAMES, 1)))
    assert any("replicate" in note for note in model.record["notes"])
    steps = [Spacing((3, 3, 3), mode="bilinear"), NormalizeIntensity(nonzero=True), ScaleIntensity(-1.0, 1.0)]
    tensor = Compose(steps)(monai_image()).as_tensor()
    assert (preprocess(VOLUME, model.plan).tensor - tensor).abs().max() < 1e-4
    network = random_network(whole_body_config()["network_def"]).eval()
    part = tensor[None, :, :32, :24, :32].contiguous()
    with torch.no_grad():
        assert torch.equal(model.network()(part), network(part))
    (source / "models/model_lowres.pt").rename(source / "models/model.pt")
    fine = load_model(import_model(source, name="fine", folder=tmp_path / "models"))
    assert fine.plan.grid.spacing == (1.5, 1.5, 1.5)


def test_auto3dseg_model_with_its_table_of_labels(tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "abdominal", ["Spleen", "Right Kidney", "Left Kidney", "Liver"])
    model = load_model(import_model(zipped(source, "inner"), name="abdominal", folder=tmp_path / "models"))
    assert model.labels.names == ("spleen", "kidney_right", "kidney_left", "liver")
    sides = [s.terminology.modifier.meaning if s.terminology.modifier else "" for s in model.labels.structures]
    assert sides == ["", "Right", "Left", ""]
    steps = (ToRange(low=-250.5, high=250.25, to=(-1, 1), clip=False), Sigmoid())
    assert model.plan.window == StepsWindow(on="grid", steps=steps)
    assert model.plan.network["dsdepth"] == 1 and model.record["epoch"] == 300 and model.record["best_metric"] == 0.91
    definition = {**AUTO3DSEG_NETWORK, "in_channels": 1, "out_channels": 5, "norm": "INSTANCE"}
    network = random_network(definition).eval()
    window = preprocess(VOLUME, model.plan).tensor[None, :, :16, :16, :16]
    with torch.no_grad():
        assert torch.allclose(model.network()(window), network(window), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "steps"), [("meanstd", (ZScore(nonzero=True),)), ("meanstdtanh", (ZScore(nonzero=True), Tanh(limit=3)))]
)
def test_auto3dseg_of_mr(mode: str, steps: tuple, tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "mr", ["Liver"], modality="mri", normalize_mode=mode)
    model = load_model(import_model(source, folder=tmp_path / "models"))
    assert model.plan.modality == "MR" and model.plan.window == StepsWindow(on="grid", steps=steps)


def test_auto3dseg_with_anisotropic_voxels(tmp_path: Path) -> None:
    network = {**AUTO3DSEG_NETWORK, "resolution": [0.8, 0.8, 5.0]}
    source = write_auto3dseg(
        tmp_path / "thick", ["Liver"], network=network, resample_resolution=[0.8, 0.8, 5.0], roi_size=[64, 64, 20],
        anisotropic_scales=True,
    )  # fmt: skip
    model = load_model(import_model(source, folder=tmp_path / "models"))
    assert model.plan.patch == (64, 64, 20) and model.plan.network["resolution"] == [0.8, 0.8, 5.0]


def test_sigmoid_outputs_get_a_background_that_wins_below_one_half(tmp_path: Path) -> None:
    source = write_auto3dseg(
        tmp_path / "sigmoid", ["Spleen", "Liver"], sigmoid=True, output_classes=2, class_index=[[1], [2]]
    )
    model = load_model(import_model(source, folder=tmp_path / "models"))
    network = random_network({**AUTO3DSEG_NETWORK, "in_channels": 1, "out_channels": 2, "norm": "INSTANCE"}).eval()
    window = preprocess(VOLUME, model.plan).tensor[None, :, :16, :16, :16]
    with torch.no_grad():
        ours, theirs = model.network()(window).argmax(1)[0], torch.sigmoid(network(window))[0]
    surest, channel = theirs.max(0)
    assert torch.equal(ours, torch.where(surest >= 0.5, channel + 1, 0))
    assert 0 < int((ours == 0).sum()) < ours.numel()


def test_bare_network_with_a_plan_and_labels(tmp_path: Path) -> None:
    definition = {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 8, 8, 8, 4]}
    torch.manual_seed(0)
    from monai.networks.nets import BasicUNet

    network = BasicUNet(3, 1, 3, features=(4, 4, 8, 8, 8, 4))
    torch.save({"model": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "weights.pth")
    plan = {
        "modality": "CT", "grid": {"kind": "spacing", "spacing": [1.5, 1.5, 2]}, "patch": [32, 32, 32],
        "window": {"kind": "range", "low": -150, "high": 250}, "network": definition,
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "labels.json").write_text('{"1": "liver", "2": "spleen"}')
    hints = Hints(plan=tmp_path / "plan.json", labels=tmp_path / "labels.json")
    path = import_model(tmp_path / "weights.pth", hints=hints, folder=tmp_path / "models")
    model = load_model(path)
    assert path.name == "weights" and model.labels.names == ("liver", "spleen")
    assert torch.equal(model.weights["final_conv.weight"], network.final_conv.weight)
    assert tapped_stage(model.network(), model.plan, model.labels.channels).name == "down_3"


def test_what_is_imported_segments_on_the_images_own_grid(test_data: Path, tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "abdominal", ["Spleen", "Right Kidney", "Left Kidney", "Liver"])
    model = load_model(import_model(source, folder=tmp_path / "models"))
    image = read_image(test_data / "ct_spleen/ct.nii.gz")
    labels = segment_volume(image, model, device="cpu")
    assert labels.array.shape == image.array.shape and set(np.unique(labels.array)) <= {0, 1, 2, 3, 4}


def test_a_model_folder_and_its_zip_are_copied_as_they_are(tmp_path: Path) -> None:
    first = import_model(write_auto3dseg(tmp_path / "abdominal", ["Liver"]), folder=tmp_path / "models")
    (first / "scripts").mkdir()
    (first / "scripts/run.py").write_text("raise SystemExit")
    for name, source in (("copy", first), ("from zip", zipped(first, "inside"))):
        copy = import_model(source, name=name, folder=tmp_path / "models")
        assert load_model(copy).fingerprint == load_model(first).fingerprint
        assert not (copy / "scripts").exists()


def test_a_name_that_is_taken_is_kept(tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "abdominal", ["Liver"])
    path = import_model(source, folder=tmp_path / "models")
    before = load_model(path).fingerprint
    with pytest.raises(DinomixError, match="already"):
        import_model(source, folder=tmp_path / "models")
    assert load_model(path).fingerprint == before
    with pytest.raises(DinomixError, match="cannot be a model's name"):
        import_model(source, name="../outside", folder=tmp_path / "models")
