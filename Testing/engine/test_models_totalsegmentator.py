"""TotalSegmentator's releases: zips of nnU-Net folders, of which the catalog has those that are open to any use."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from foreign_models import write_totalsegmentator, zipped

from dinomix.images.volume import Geometry, Volume
from dinomix.importing.catalog import find_entry
from dinomix.importing.installing import install
from dinomix.models.folder import Model, load_model
from dinomix.planning.preprocessing import preprocess

TRAINERS = {
    "totalsegmentator-ct-3mm": "nnUNetTrainer_4000epochs_NoMirroring",
    "totalsegmentator-mr-3mm": "nnUNetTrainer_2000epochs_NoMirroring",
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_release_is_installed_with_codes_for_every_structure(name: str, tmp_path: Path) -> None:
    model = installed(name, tmp_path)
    entry = find_entry(name)
    assert model.labels.names == entry.organs and model.plan.modality == entry.modality
    assert all(structure.terminology for structure in model.labels.structures)
    assert model.plan.grid.spacing == (3.0, 3.0, 3.0) and model.plan.patch == (128, 112, 112)
    assert model.record["license"] == "Apache-2.0" and model.record["trainer"] == TRAINERS[name]
    notes = " ".join(model.record["notes"])
    # What TotalSegmentator itself does is known: its scans are turned to RAS, and nothing is mirrored.
    assert "--orientation" not in notes and "allows no mirror images" in notes


def test_the_network_sees_a_scan_as_totalsegmentator_turns_it(tmp_path: Path) -> None:
    """Any axes in the file: nibabel's canonical ones, as its ``as_closest_canonical`` makes them before nnU-Net."""
    model = installed("totalsegmentator-ct-3mm", tmp_path)
    array = np.random.default_rng(0).normal(0, 300, (20, 24, 28)).astype(np.float32)
    # LAS to PIR, in 3 mm so that nothing is resampled.
    turned = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    ours = Volume(array, Geometry((28, 24, 20), (3.0, 3.0, 3.0), (5.0, 7.0, 9.0), turned))
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ turned * 3.0
    theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)).get_fdata()
    seen = preprocess(ours, model.plan).tensor[0]
    assert torch.allclose(seen, torch.from_numpy((np.clip(theirs, -1000, 1000) - 50) / 250).float(), atol=1e-5)


def installed(name: str, tmp_path: Path) -> Model:
    entry = find_entry(name)
    dataset = entry.download.file_name.removesuffix(".zip")
    image = "CT" if entry.modality == "CT" else "MRI"
    write_totalsegmentator(tmp_path / "release", dataset, TRAINERS[name], list(entry.organs), image)
    return load_model(install(name, origin=str(zipped(tmp_path / "release")), folder=tmp_path / "models"))
