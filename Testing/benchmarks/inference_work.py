"""The work of the inference benchmark: a trunk CT at clinical resolution, and a model that has learned this very scan.

Both are made once and kept in a folder. The model is no good for other patients: it serves to compare labels that mean something,
whose borders are as smooth as a trained network's are.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from dinomix.images.reading import read_image, read_label
from dinomix.labels import LabelSet, Structure
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.plan import Plan, RangeWindow, SpacingGrid
from dinomix.planning.preprocessing import labels_to_plan_grid, preprocess
from dinomix.training.losses import segmentation_loss

SIZE, SPACING = (488, 404, 224), (0.75, 0.75, 1.5)
PLAN = Plan(
    modality="CT",
    grid=SpacingGrid(spacing=(3.0, 3.0, 3.0)),
    window=RangeWindow(low=-160, high=240),
    patch=(96, 96, 96),
    network={
        "_target_": "monai.networks.nets.SegResNet",
        "init_filters": 16,
        "blocks_down": [1, 2, 2, 4],
        "blocks_up": [1, 1, 1],
    },
    fkd_stage="down_layers.3",
)
PHASES = ((64, 0.6, 2e-3), (96, 0.4, 8e-4))
"""Side of the patches, part of the time, highest learning rate. The last patches are as large as the windows: group normalization
sees how much of a patch is organ."""


def make_scan(source: Path, path: Path) -> None:
    """``source`` (3 mm) on the grid of a clinical scan, int16, linearly interpolated."""
    _write_resampled(source, path, sitk.sitkLinear, sitk.sitkInt16)


def make_truth(source: Path, path: Path) -> None:
    """The labels of ``source`` on the same grid, nearest neighbor, uint8."""
    _write_resampled(source, path, sitk.sitkNearestNeighbor, sitk.sitkUInt8)


def make_model(data: Path, path: Path, minutes: float) -> None:
    """Fit the network to the scan in ``data`` for some minutes and write the model folder ``path``."""
    torch.manual_seed(0)
    # Faster on processors with AMX, and near enough for this.
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    names = json.loads((data / "labels_synapse13.json").read_text())
    labels = LabelSet(
        structures=tuple(
            Structure(id=int(number), name=name, color=(19 * int(number) % 256, 80, 200))
            for number, name in names.items()
        )
    )
    image = preprocess(read_image(data / "ct.nii.gz"), PLAN).tensor
    target = torch.from_numpy(labels_to_plan_grid(read_label(data / "labels_synapse13.nii.gz")[0], PLAN)).long()
    network = build_network(PLAN, labels.channels).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    centers = [torch.nonzero(target == number) for number in range(labels.channels)]
    centers = [points for points in centers if len(points)]
    step = 0
    for side, part, rate in PHASES:
        began = time.monotonic()
        while (spent := (time.monotonic() - began) / 60 / minutes / part) < 1:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, 20 * spent + 0.02) * (1 - spent) ** 0.9 + 1e-5
            patch = _patch_around(centers[step % len(centers)], target.shape, side)
            loss = segmentation_loss(network(image[None, :, *patch]), target[patch][None])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 50 == 0:
                told = f"fitting the network: patches of {side}, {100 * spent:.0f}%, step {step}, loss {loss:.3f}"
                print(told, file=sys.stderr, flush=True)
    record = {"steps": step, "data_source": "TotalSegmentator's test scan, one volume"}
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_model(path, plan=PLAN, labels=labels, weights=weights, record=record)


def _patch_around(points: torch.Tensor, shape: torch.Size, side: int) -> tuple[slice, ...]:
    center = points[int(torch.randint(len(points), ()))]
    jitter = torch.randint(-side // 3, side // 3, (3,))
    starts = [
        int(min(max(c + j - side // 2, 0), whole - side))
        for c, j, whole in zip(center.tolist(), jitter.tolist(), shape, strict=True)
    ]
    return tuple(slice(start, start + side) for start in starts)


def _write_resampled(source: Path, path: Path, interpolator: int, pixel: int) -> None:
    image = sitk.ReadImage(str(source))
    grid = sitk.Image([int(n) for n in SIZE], pixel)
    grid.SetSpacing(SPACING)
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    outside = float(np.min(sitk.GetArrayViewFromImage(image)))
    aside = path.with_name("partial-" + path.name)
    sitk.WriteImage(sitk.Resample(image, grid, sitk.Transform(), interpolator, outside, pixel), str(aside))
    aside.replace(path)
