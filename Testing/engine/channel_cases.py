"""Cases of two channels, and models that take them."""

from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from dinomix.images.volume import Geometry, Volume
from dinomix.images.writing import write_labels
from dinomix.labels import LabelSet
from dinomix.models.folder import Model, load_model
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.plan import InputChannel, PercentileWindow, Plan, SpacingGrid, Window
from dinomix.planning.preprocessing import preprocess
from image_files import write_image
from random_models import NETWORK, labels_with_ids

SIZE = (20, 18, 14)


def geometry(
    size: tuple[int, int, int] = SIZE,
    spacing: tuple[float, float, float] = (1.5, 1.4, 2.0),
    origin: tuple[float, float, float] = (-20.0, 5.0, 60.0),
) -> Geometry:
    return Geometry(size, spacing, origin, np.diag([-1.0, -1.0, 1.0]))


def blobs(seed: int, grid: Geometry | None = None) -> Volume:
    """A smooth image of blobs, positive, that is another for each seed."""
    grid = grid or geometry()
    rng = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1)
    at = index @ grid.affine_ras[:3, :3].T + grid.affine_ras[:3, 3]
    waves = rng.normal(0, 0.15, (4, 3))
    image = sum(np.sin(at @ wave + rng.uniform(0, 6)) for wave in waves)
    return Volume((300 + 80 * image).astype(np.float32).transpose(2, 1, 0), grid)


def two_channel_plan(first: Window | None = None, second: Window | None = None, **changes: object) -> Plan:
    data = {
        "modality": "MR",
        "grid": SpacingGrid(spacing=(1.6, 1.6, 1.9)),
        "window": first or PercentileWindow(),
        "channel": "t1",
        "more_channels": (InputChannel(name="t2", modality="MR", window=second or PercentileWindow()),),
        "patch": (16, 16, 16),
        "network": NETWORK,
        "fkd_stage": "bottleneck",
    }
    return Plan.model_validate({**data, **changes})


def two_channel_model(path: Path, plan: Plan | None = None, volumes: list[Volume] | None = None) -> Model:
    """Random weights, with which every class is likeliest somewhere in ``volumes``."""
    plan, labels = plan or two_channel_plan(), labels_with_ids(3, 7)
    torch.manual_seed(1)
    network = build_network(plan, labels.channels).eval()
    tensor = preprocess(volumes or [blobs(1), blobs(2)], plan).tensor[None, :, :12, :12, :12]
    with torch.no_grad():
        bias = network.output_block.conv.conv.bias
        bias -= network(tensor).mean((0, 2, 3, 4))
    write_model(path, plan=plan, labels=labels, weights=network.state_dict(), record={})
    return load_model(path)


def write_difference_case(folder: Path, seed: int, size: int = 32, *, with_label: bool = True) -> None:
    """``one.nii.gz``, ``two.nii.gz`` and ``seg.nii.gz``: a ball that only the difference of the two images shows.

    Both have the same random texture, which varies at the ball's own scale and by more than the ball adds to the second.
    """
    grid = Geometry((size,) * 3, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    rng = np.random.default_rng(seed)
    texture = gaussian_filter(rng.normal(size=(size,) * 3), 3)
    texture = 100 * texture / texture.std()
    center, radius = rng.uniform(9, size - 10, 3), rng.uniform(5, 7)
    ball = ((np.indices((size,) * 3) - center[:, None, None, None]) ** 2).sum(0) < radius**2
    for name, image in (("one", texture), ("two", texture + 60 * ball)):
        noisy = (300 + image + rng.normal(0, 10, image.shape)).astype(np.float32)
        write_image(folder / f"{name}.nii.gz", Volume(noisy, grid))
    if with_label:
        write_labels(ball.astype(np.uint8), grid, LabelSet.from_names({1: "lesion"}), folder / "seg.nii.gz")


def difference_cohort(folder: Path, labeled: int = 8, unlabeled: int = 0, size: int = 32) -> Path:
    """Folders ``labeled`` and ``unlabeled`` of such cases."""
    for number in range(labeled):
        write_difference_case(folder / f"labeled/case{number}", number, size)
    for number in range(unlabeled):
        write_difference_case(folder / f"unlabeled/more{number}", 100 + number, size, with_label=False)
    return folder
