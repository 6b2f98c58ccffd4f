"""Model folders with random weights whose outputs hold all classes."""

from pathlib import Path

import torch

from dinomix.images.reading import read_image
from dinomix.inference.precision import Ends
from dinomix.labels import LabelSet, Structure
from dinomix.models.folder import Model, load_model
from dinomix.models.network import build_network
from dinomix.models.writing import write_model
from dinomix.planning.plan import PercentileWindow, Plan, RangeWindow, SizeGrid, SpacingGrid, Window
from dinomix.planning.preprocessing import preprocess

NETWORK = {
    "_target_": "monai.networks.nets.DynUNet",
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8],
    "norm_name": "instance",
}


def small_plan(
    grid: SpacingGrid | SizeGrid | None = None,
    window: Window | None = None,
    patch: tuple[int, int, int] = (32, 32, 32),
) -> Plan:
    return Plan(
        modality="CT" if isinstance(window, RangeWindow) else "MR",
        grid=grid or SpacingGrid(spacing=(1.2, 0.9, 1.5)),
        window=window or PercentileWindow(),
        patch=patch,
        network=NETWORK,
        fkd_stage="bottleneck",
    )


def labels_with_ids(*ids: int) -> LabelSet:
    return LabelSet(structures=tuple(Structure(id=i, name=f"structure {i}", color=(i % 256, 100, 200)) for i in ids))


def random_weights(plan: Plan, labels: LabelSet, image: Path | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights; with an ``image``, the output's bias is set so that every class is likeliest somewhere in it."""
    torch.manual_seed(seed)
    network = build_network(plan, labels.channels).eval()
    if image is not None:
        tensor = preprocess(read_image(image), plan).tensor[None]
        # One window from the middle; each class's logits are centered there.
        for axis, patch in enumerate(plan.patch, start=2):
            start = max((tensor.shape[axis] - patch) // 2, 0)
            tensor = tensor.narrow(axis, start, min(patch, tensor.shape[axis]))
        pad = [n for side, patch in zip(tensor.shape[:1:-1], plan.patch[::-1], strict=True) for n in (0, patch - side)]
        with torch.no_grad():
            logits = network(torch.nn.functional.pad(tensor, pad))
            bias = network.get_submodule(Ends.of(network, plan).last[-1]).bias
            bias -= logits.mean((0, 2, 3, 4))
    return network.state_dict()


def random_model(
    path: Path, plan: Plan, labels: LabelSet, image: Path | None = None, seed: int = 0, preview: bytes | None = None
) -> Model:
    weights = random_weights(plan, labels, image, seed)
    write_model(path, plan=plan, labels=labels, weights=weights, record={"seed": seed}, preview=preview)
    return load_model(path)
