"""Models of elsewhere that see several images of a case: each is scaled as its own software does it, in its own order."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import (
    AUTO3DSEG_NETWORK,
    nnunet_architecture,
    random_network,
    spleen_config,
    write_auto3dseg,
    write_bundle,
    write_nnunet,
)
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensity, ScaleIntensityRange, Spacing

from dinomix.errors import DinomixError
from dinomix.images.volume import Geometry, Volume
from dinomix.importing.installing import import_model
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model, load_model
from dinomix.planning.preprocessing import preprocess

GEOMETRY = Geometry((40, 36, 30), (1.6, 1.4, 2.2), (5.0, -3.0, 9.0), np.diag([-1.0, -1.0, 1.0]))  # RAS axes
RANDOM = np.random.default_rng(0)
CT = Volume(RANDOM.normal(20, 150, (30, 36, 40)).round().astype(np.float32), GEOMETRY)
PET = Volume(np.maximum(RANDOM.normal(1, 2, (30, 36, 40)), 0).astype(np.float32), GEOMETRY)
MR = Volume(RANDOM.uniform(5, 200, (30, 36, 40)).astype(np.float32), GEOMETRY)
LABELS = {"liver": 1, "tumor": 2}


def imported(source: Path, tmp_path: Path) -> Model:
    return load_model(import_model(source, name="imported", folder=tmp_path / "models"))


def as_monai(volume: Volume) -> MetaTensor:
    affine = torch.diag(torch.tensor([*volume.geometry.spacing, 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(volume.array.transpose(2, 1, 0).copy())[None], affine=affine)


def test_each_image_of_an_nnunet_model_is_normalized_by_its_own_scheme(tmp_path: Path) -> None:
    """Against nnU-Net's formulas, on voxels of the model's spacing, which are not resampled."""
    schemes = ["CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization",
               "ZScoreNormalization", "RGBTo01Normalization"]  # fmt: skip
    names = ("CT", "PET", "noNorm", "rescale_0_1", "zscore", "rgb")
    source = write_nnunet(
        tmp_path / "nnunet", LABELS, images=names, normalization_schemes=schemes, spacing=[2.2, 1.4, 1.6],
        use_mask_for_norm=[False, False, False, False, True, False],
    )  # fmt: skip
    model = imported(source, tmp_path)
    assert model.plan.channels == names and model.plan.modalities == ("CT", "PT", "MR", "MR", "MR", "MR")
    got = preprocess([CT, PET, PET, PET, PET, PET], model.plan).tensor.numpy()

    ct, pet = (volume.array.transpose(2, 1, 0).astype(np.float64) for volume in (CT, PET))
    inside = pet != 0
    masked = np.zeros_like(pet)
    masked[inside] = (pet[inside] - pet[inside].mean()) / max(pet[inside].std(), 1e-8)
    expected = [
        (np.clip(ct, -41.0, 176.0) - 99.5) / 39.4,
        (pet - pet.mean()) / max(pet.std(), 1e-8),
        pet,
        (pet - pet.min()) / (pet.max() - pet.min()),
        masked,
        pet / 255,
    ]
    np.testing.assert_allclose(got, np.stack(expected), atol=2e-4)
    notes = " ".join(model.record["notes"])
    assert "'zscore'; they are taken for MR" in notes and "not 0 in any image" in notes and "PET" not in notes


def test_an_nnunet_model_of_two_images_computes_what_the_real_network_does(tmp_path: Path) -> None:
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    kernels, strides = [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    architecture = nnunet_architecture(kernels, strides, [8, 16, 16])
    classes = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    torch.manual_seed(0)
    real = unet.PlainConvUNet(input_channels=2, num_classes=3, deep_supervision=False,
                              **{**architecture["arch_kwargs"], **classes}).eval()  # fmt: skip
    for parameter in real.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim == 1 else torch.nn.init.kaiming_normal_(parameter)
    schemes = ["ZScoreNormalization"] * 2
    source = write_nnunet(tmp_path / "nnunet", LABELS, real.state_dict(), images=("T1", "T2"), architecture=architecture,
                          normalization_schemes=schemes, use_mask_for_norm=[False] * 2)  # fmt: skip
    model = imported(source, tmp_path)
    assert model.plan.channels == ("T1", "T2") and model.plan.modality == "MR"
    file = torch.randn(2, 48, 32, 16)  # x, y, z
    with torch.no_grad():
        theirs = real(file.permute(0, 3, 2, 1)[None])[0].permute(0, 3, 2, 1)
        ours = model.network()(file[None])[0]
    assert theirs.abs().max() > 1 and (theirs - ours).abs().max() < 1e-4
    swapped = segment_volume([PET, CT], model, device="cpu").array
    assert not np.array_equal(segment_volume([CT, PET], model, device="cpu").array, swapped)


def test_a_residual_nnunet_model_of_two_images(tmp_path: Path) -> None:
    from foreign_models import residual_architecture

    kernels, strides = [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    architecture = residual_architecture(kernels, strides, [8, 16, 16], [1, 2, 2], [1, 1])
    source = write_nnunet(tmp_path / "nnunet", LABELS, images=("T1", "T2"), architecture=architecture,
                          normalization_schemes=["ZScoreNormalization"] * 2)  # fmt: skip
    assert imported(source, tmp_path).plan.channels == ("T1", "T2")


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (("zscore", "zscore"), ("zscore", "zscore 2")),
        (("T1/T2=x", ""), ("T1 T2 x", "image 2")),
        (("MR T1", "T1_MR", "mr-t1"), ("MR T1", "T1_MR 2", "mr-t1 3")),
    ],
)
def test_names_that_cannot_tell_images_apart_are_changed(names: tuple, channels: tuple, tmp_path: Path) -> None:
    schemes = ["ZScoreNormalization"] * len(names)
    source = write_nnunet(tmp_path / "nnunet", LABELS, images=names, normalization_schemes=schemes)
    assert imported(source, tmp_path).plan.channels == channels


def test_an_auto3dseg_model_of_several_images(tmp_path: Path) -> None:
    """Each image as ``segmenter.py`` of the algorithm scales it, on the grid of the model."""
    extra = {"image2": "mri", "image3": "meanstdtanh"}
    source = write_auto3dseg(tmp_path / "mr_ct", ["Liver"], input_channels=3, extra_modalities=extra)
    model = imported(source, tmp_path)
    assert model.plan.channels == ("image", "image2", "image3") and model.plan.modalities == ("CT", "MR", "MR")
    on_grid = Spacing((3.0, 3.0, 3.0), mode="bilinear")
    ct, mr = (on_grid(as_monai(volume)) for volume in (CT, MR))
    z_scored = NormalizeIntensity(nonzero=True, channel_wise=True)(mr)
    expected = torch.cat([
        torch.sigmoid(ScaleIntensityRange(-250.5, 250.25, -1, 1, clip=False)(ct)),
        z_scored,
        3 * torch.tanh(z_scored / 3),
    ]).as_tensor()  # fmt: skip
    got = preprocess([CT, MR, MR], model.plan).tensor
    assert (got - expected).abs().max() < 1e-4
    definition = {**AUTO3DSEG_NETWORK, "in_channels": 3, "out_channels": 2, "norm": "INSTANCE"}
    window = got[None, :, :16, :16, :16].contiguous()
    with torch.no_grad():
        assert torch.allclose(model.network()(window), random_network(definition).eval()(window), atol=1e-6)


def test_an_auto3dseg_model_of_a_4d_file(tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "mr", ["Liver"], modality="mri", normalize_mode="meanstd", input_channels=4)
    assert imported(source, tmp_path).plan.channels == ("image 1", "image 2", "image 3", "image 4")


def pet_ct_config(**changes: Any) -> dict[str, Any]:
    """``inference.json`` of a bundle that loads CT and PET under keys of their own and joins them."""
    config = copy.deepcopy(spleen_config())
    config["network_def"]["in_channels"] = 2
    config["preprocessing"]["transforms"] = [
        {"_target_": "LoadImaged", "keys": ["image", "pet"]},
        {"_target_": "EnsureChannelFirstd", "keys": ["image", "pet"]},
        {"_target_": "ResampleToMatchd", "keys": "pet", "key_dst": "image"},
        {"_target_": "Orientationd", "keys": ["image", "pet"], "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": ["image", "pet"], "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1,
         "clip": True},
        {"_target_": "NormalizeIntensityd", "keys": "pet"},
        {"_target_": "ConcatItemsd", "keys": ["image", "pet"], "name": "image"},
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 2, "b_min": 0, "b_max": 1},
    ]  # fmt: skip
    return {**config, **changes}


def test_a_bundle_that_joins_its_images(tmp_path: Path) -> None:
    source = write_bundle(tmp_path / "bundle", pet_ct_config(), ["spleen"], images=("CT", "PET"))
    model = imported(source, tmp_path)
    assert model.plan.channels == ("image", "pet") and model.plan.modalities == ("CT", "PT")
    on_grid = Spacing((1.5, 1.5, 2.0), mode="bilinear")
    scaled = [
        ScaleIntensityRange(-57, 164, 0, 1, clip=True)(on_grid(as_monai(CT))),
        NormalizeIntensity()(on_grid(as_monai(PET))),
    ]
    expected = torch.cat([ScaleIntensityRange(0, 2, 0, 1)(image) for image in scaled]).as_tensor()
    got = preprocess([CT, PET], model.plan).tensor
    assert (got - expected).abs().max() < 1e-4
    assert segment_volume([CT, PET], model, device="cpu").array.shape == CT.array.shape
    assert any("linear interpolation" in note for note in model.record["notes"])


def mr_config(**scaling: Any) -> dict[str, Any]:
    """The same of a bundle that loads all images of a case under one key."""
    config = copy.deepcopy(spleen_config())
    config["network_def"]["in_channels"] = 2
    config["preprocessing"]["transforms"][4] = {"_target_": "NormalizeIntensityd", "keys": "@image_key", **scaling}
    return config


def test_a_bundle_with_all_images_under_one_key(tmp_path: Path) -> None:
    config = mr_config(nonzero=True, channel_wise=True)
    model = imported(write_bundle(tmp_path / "bundle", config, ["spleen"], "MR", ("T1c", "FLAIR")), tmp_path)
    assert model.plan.channels == ("T1c", "FLAIR") and model.plan.modalities == ("MR", "MR")
    image = Compose([Spacing((1.5, 1.5, 2.0), mode="bilinear"), NormalizeIntensity(nonzero=True, channel_wise=True)])(
        MetaTensor(torch.cat([as_monai(CT), as_monai(MR)]), affine=as_monai(CT).affine)
    )
    assert (preprocess([CT, MR], model.plan).tensor - image.as_tensor()).abs().max() < 5e-4


def test_images_that_are_scaled_together_are_refused(tmp_path: Path) -> None:
    source = write_bundle(tmp_path / "bundle", mr_config(nonzero=True), ["spleen"], "MR", ("T1c", "FLAIR"))
    with pytest.raises(DinomixError, match="scales its 2 images by what they have in common"):
        imported(source, tmp_path)
    other = write_bundle(tmp_path / "other", pet_ct_config(), ["spleen"], images=("CT", "PET", "MR"))
    with pytest.raises(DinomixError, match=r"metadata\.json says 3"):
        imported(other, tmp_path)
