"""Segmenting one volume: preprocess, predict, and bring the labels back to the image's own grid."""

import numpy as np
import torch

from dinomix.events import Emit, silent
from dinomix.images.volume import Volume
from dinomix.inference.devices import choose_device
from dinomix.inference.native_grid import labels_on_native_grid
from dinomix.inference.sliding_window import predict_logits
from dinomix.models.folder import Model
from dinomix.planning.preprocessing import preprocess


def segment_volume(
    volume: Volume,
    model: Model,
    *,
    device: str = "auto",
    max_memory: int | None = None,
    emit: Emit = silent,
    network: torch.nn.Module | None = None,
) -> Volume:
    """Segment an image on its own grid.

    Args:
        volume: the image, (k, j, i).
        device: see ``choose_device``.
        max_memory: bytes that this process may use in all; None for no limit.
        network: ``model.network()``, when it is at hand from an earlier image.

    Returns:
        Structure ids (k, j, i), uint8 or uint16, on ``volume``'s geometry.
    """
    chosen, _ = choose_device(device)
    preprocessed = preprocess(volume, model.plan)
    logits = predict_logits(network or model.network(), preprocessed.tensor, model.plan, chosen, emit)
    labels = labels_on_native_grid(logits, preprocessed, model.labels.ids)
    return Volume(np.ascontiguousarray(labels.transpose(2, 1, 0)), volume.geometry)
