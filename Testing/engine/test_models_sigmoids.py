"""Networks with a sigmoid for each of several nested regions, as BraTS's are: disjoint labels, and the regions."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import (
    AUTO3DSEG_NETWORK,
    WHOLE_BODY_NETWORK,
    random_network,
    spleen_config,
    write_auto3dseg,
    write_bundle,
)
from torch import Tensor

from dinomix.errors import DinomixError
from dinomix.importing.catalog import find_entry
from dinomix.importing.converted import Converted, write_converted
from dinomix.importing.hints import Hints
from dinomix.importing.source import read_source
from dinomix.models.folder import load_model

WHOLE, CORE, ENHANCING = (1, 2, 3), (1, 3), (3,)
MR_OF_FOUR: dict[str, Any] = {"modality": "mri", "normalize_mode": "meanstd", "input_channels": 4, "sigmoid": True,
                              "output_classes": 3}  # fmt: skip


def nested(logits: Tensor) -> Tensor:
    """Of arbitrary logits (3, ...), outermost region first, such that no region is surer than the one around it."""
    return torch.cummin(logits, 0).values


def test_the_innermost_region_above_one_half_wins(tmp_path: Path) -> None:
    """As the extension MONAIAuto3DSeg makes labels of BraTS's three channels; the last layer alone is changed."""
    source = write_auto3dseg(tmp_path / "brats", ["Liver", "Spleen", "Left Kidney"], **MR_OF_FOUR)
    entry = find_entry("brats-gli")
    model = read_source(source, entry.hints, source)
    assert model.plan.channels == ("T2F", "T1C", "T1N", "T2W") and set(model.plan.modalities) == {"MR"}
    assert {region.name: region.structures for region in model.labels.regions} == {
        "whole tumor": WHOLE,
        "tumor core": CORE,
    }
    outputs = nested(torch.randn(3, 4000, generator=torch.Generator().manual_seed(0)))
    theirs = torch.zeros(4000, dtype=torch.int64)
    for logits, value in zip(outputs, (2, 1, 3), strict=True):
        theirs[logits > 0] = value
    assert torch.equal(_summed(model, outputs).argmax(0), theirs) and len(theirs.unique()) == 4
    definition = {**AUTO3DSEG_NETWORK, "in_channels": 4, "out_channels": 3, "norm": "INSTANCE"}
    window = torch.randn(1, 4, 16, 16, 16)
    write_converted(model, tmp_path / "model", source)
    with torch.no_grad():
        regions = random_network(definition).eval()(window)[0]
        ours = load_model(tmp_path / "model").network()(window)[0]
    assert torch.allclose(ours, _summed(model, regions), atol=1e-5)


def _summed(model: Converted, outputs: Tensor) -> Tensor:
    """Logits of background, necrosis, edema and enhancing tumor, from those of the whole tumor, its core and the last."""
    assert model.labels.ids == (1, 2, 3)
    whole, core, enhancing = outputs
    return torch.stack([torch.zeros_like(whole), whole + core, whole, whole + core + enhancing])


@pytest.mark.parametrize(
    ("target", "sigmoid"),
    [("Activationsd", True), ("monai.transforms.ActivationsD", "$True"), ("ActivationsDict", [True])],
)
def test_a_bundle_whose_files_say_neither_grid_nor_structures(tmp_path: Path, target: str, sigmoid: object) -> None:
    """brats_mri_segmentation: its pipeline takes BraTS's files as they are, and its channels are regions."""
    entry = find_entry("brain-tumor-mr")
    definition = {**WHOLE_BODY_NETWORK, "in_channels": 4, "out_channels": 3}
    config = copy.deepcopy(spleen_config(network_def=definition))
    config["preprocessing"]["transforms"] = [
        {"_target_": "LoadImaged", "keys": "@image_key", "image_only": False},
        {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True, "channel_wise": True},
    ]
    config["postprocessing"]["transforms"][0] = {"_target_": target, "keys": "pred", "sigmoid": sigmoid}
    source = write_bundle(tmp_path / "bundle", config, ["b", "c"], "MR", ("T1c", "T1", "T2", "FLAIR"))
    with pytest.raises(DinomixError, match="does not resample scans"):
        read_source(source, Hints(), source)
    model = read_source(source, entry.hints, source)
    assert model.labels.names == entry.organs and model.plan.channels == ("T1c", "T1", "T2", "FLAIR")
    assert model.plan.grid.spacing == (1.0, 1.0, 1.0) and model.plan.grid.orientation == "LPS"
    assert {region.name: region.structures for region in model.labels.regions} == {
        "tumor core": CORE,
        "whole tumor": WHOLE,
    }
    write_converted(model, tmp_path / "model", source)
    network = random_network(definition).eval()
    window = torch.randn(1, 4, 16, 16, 16)
    with torch.no_grad():
        core, whole, enhancing = network(window)[0]
        ours = load_model(tmp_path / "model").network()(window)[0]
    assert torch.allclose(ours, _summed(model, torch.stack([whole, core, enhancing])), atol=1e-5)


def test_a_model_that_says_its_regions_itself(tmp_path: Path) -> None:
    changes = {"class_names": ["whole", "core", "enhancing"], "class_index": [list(WHOLE), list(CORE), list(ENHANCING)]}
    source = write_auto3dseg(tmp_path / "brats", ["Liver", "Spleen", "Left Kidney"], **MR_OF_FOUR, **changes)
    (source / "labels.csv").unlink()
    labels = read_source(source, Hints(), source).labels
    assert labels.names == ("rest of core", "rest of whole", "enhancing")
    assert [region.name for region in labels.regions] == ["whole", "core"]


@pytest.mark.parametrize(
    "regions",
    [{"a": (1, 2), "b": (2, 3), "c": (3,)}, {"a": (1, 2, 3, 4), "b": (3, 4), "c": (4,)}, {"a": (1, 2), "b": (2,)}],
    ids=["crossing", "not told apart", "too few"],
)
def test_other_regions_are_refused(regions: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "brats", ["Liver", "Spleen", "Left Kidney"], **MR_OF_FOUR)
    with pytest.raises(DinomixError, match="regions"):
        read_source(source, Hints(regions=regions), source)


def test_names_of_images_that_are_too_few(tmp_path: Path) -> None:
    source = write_auto3dseg(tmp_path / "brats", ["Liver", "Spleen", "Left Kidney"], **MR_OF_FOUR)
    with pytest.raises(DinomixError, match="2 images are named, and its network takes 4"):
        read_source(source, Hints(images=("T1", "T2")), source)
