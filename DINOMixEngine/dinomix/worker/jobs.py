"""What the worker computes: loading, estimating, segmenting an array or a file."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.images.shear import check_usable, geometry_of_affine, is_sheared
from dinomix.images.volume import Geometry
from dinomix.inference.any_grid import THE_VOLUME, segment_array
from dinomix.inference.devices import choose_device
from dinomix.inference.memory import plan_memory
from dinomix.inference.segment import kept_labels, segment_files
from dinomix.inference.sliding_window import count_windows
from dinomix.models.installed import structures_as_data
from dinomix.planning.preprocessing import grid_size
from dinomix.worker.arrays import check_array, frames_of_array, frames_of_file, read_array, write_array
from dinomix.worker.inbox import Request
from dinomix.worker.pipe import Output
from dinomix.worker.warm_models import WarmModel, WarmModels

VOXELS_PER_SECOND = 4e7
"""Voxels times channels that one core labels a second on the image's grid; about, for estimates only."""


class Jobs:
    """Computes requests with models that stay warm."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.models = WarmModels()

    def run(self, request: Request, emit: Emit) -> None:
        """Answer one request. Raises DinomixError where it cannot be done, and whatever ``emit`` raises."""
        began = time.monotonic()
        emit("progress", stage="loading the model", step=0, total=1, eta=None)
        warm = self.models.get(str(request.fields["model"]))
        emit("progress", stage="loading the model", step=1, total=1, eta=0.0)
        answer = {
            "load": self._load, "estimate": self._estimate, "segment": self._segment, "segment_file": self._segment_file,
        }[request.fields["type"]]  # fmt: skip
        answer(request, warm, emit, began)

    def _load(self, request: Request, warm: WarmModel, emit: Emit, began: float) -> None:
        self.output.send("loaded", job=request.job, seconds=time.monotonic() - began)

    def _estimate(self, request: Request, warm: WarmModel, emit: Emit, began: float) -> None:
        fields = request.fields
        shape = tuple(fields["shape"])
        check_array(shape, "int16")
        geometry = _rectangular(shape, np.array(fields["affine_ras"], np.float64))
        device, reason = choose_device(fields.get("device") or "auto")
        use = plan_memory(geometry, warm.model, fields.get("max_memory"))
        windows = count_windows(grid_size(geometry, warm.model.plan), warm.model.plan)
        labeling = np.prod(shape) * warm.model.labels.channels / VOXELS_PER_SECOND / torch.get_num_threads()
        self.output.send(
            "estimate",
            job=request.job,
            seconds=float(windows * seconds_of_a_window(warm, device) + labeling),
            windows=windows,
            memory=use.estimate,
            device=str(device),
            reason=reason,
        )

    def _segment(self, request: Request, warm: WarmModel, emit: Emit, began: float) -> None:
        fields, model = request.fields, warm.model
        image = fields["image"]
        array = request.array.array if request.array else read_array(Path(image["file"]))
        check_array(array.shape, array.dtype.newbyteorder("=").name)
        keep = kept_labels(model.labels, tuple(fields.get("keep") or ()))
        emit("progress", stage="preparing the image", step=0, total=1, eta=None)
        labels, notices = segment_array(
            array,
            np.array(image["affine_ras"], np.float64),
            model,
            device=fields.get("device") or "auto",
            max_memory=fields.get("max_memory"),
            emit=emit,
            network=warm.network,
        )
        if len(keep.ids) < len(model.labels.ids):
            labels = np.where(np.isin(labels, keep.ids), labels, 0).astype(labels.dtype)
        emit("progress", stage="sending the labels", step=0, total=1, eta=None)
        result = {
            "job": request.job,
            "shape": list(labels.shape),
            "dtype": labels.dtype.name,
            "structures": structures_as_data(keep),
            "device": str(choose_device(fields.get("device") or "auto")[0]),
            "notices": list(notices),
        }
        self._send_labels(labels, fields["result"], result, emit, began)

    def _send_labels(
        self, labels: NDArray[np.generic], wanted: dict[str, Any], result: dict[str, Any], emit: Emit, began: float
    ) -> None:
        if "file" in wanted:
            for _ in write_array(Path(wanted["file"]), labels):
                pass
            self.output.send("result", **result, file=wanted["file"], seconds=time.monotonic() - began)
            return
        self.output.send("result", **result, frames=True, seconds=time.monotonic() - began)
        for frame in frames_of_array(labels, str(result["job"]), "labels"):
            self.output.send_bytes(frame)

    def _segment_file(self, request: Request, warm: WarmModel, emit: Emit, began: float) -> None:
        fields, out = request.fields, request.fields["out"]
        image = Path(fields["image"]["path"]) if request.files is None else _root(request.files.folder)
        options: dict[str, Any] = {
            "device": fields.get("device") or "auto", "max_memory": fields.get("max_memory"),
            "keep": tuple(fields.get("keep") or ()), "emit": emit,
        }  # fmt: skip
        if "path" in out:
            overwrite = bool(fields.get("overwrite"))
            written = segment_files(warm.model, [image], Path(out["path"]), overwrite=overwrite, **options)
            seconds = time.monotonic() - began
            self.output.send("result", job=request.job, path=str(written[0]), seconds=seconds)
            return
        with tempfile.TemporaryDirectory(prefix="dinomix-worker-") as folder:
            written = segment_files(warm.model, [image], Path(folder) / f"labels.{out['format']}", **options)
            seconds = time.monotonic() - began
            self.output.send("result", job=request.job, frames=True, seconds=seconds)
            for frame in frames_of_file(written[0], str(request.job), f"file:{written[0].name}"):
                self.output.send_bytes(frame)


def seconds_of_a_window(warm: WarmModel, device: torch.device) -> float:
    """How long the network takes for one window on a device; measured once, after one window that warms it up."""
    known = warm.window_seconds.get(str(device))
    if known is not None:
        return known
    home = next(warm.network.parameters()).device
    window = torch.zeros(1, 1, *warm.model.plan.patch, device=device)
    try:
        warm.network.to(device)
        with torch.inference_mode():
            for _ in range(2):
                began = time.monotonic()
                float(warm.network(window).flatten()[0])  # reading a value waits for the device
                seconds = time.monotonic() - began
    except RuntimeError as error:
        raise DinomixError(
            f"The network cannot be tried on {device} ({str(error).splitlines()[0]}).", "Choose the CPU."
        ) from error
    finally:
        warm.network.to(home)
    warm.window_seconds[str(device)] = seconds
    return seconds


def _rectangular(shape: tuple[int, ...], affine_ras: NDArray[np.float64]) -> Geometry:
    """The grid to estimate with; a sheared one is taken for the rectangular one with the same voxels."""
    size = (shape[2], shape[1], shape[0])
    check_usable(affine_ras, THE_VOLUME)
    if is_sheared(affine_ras, size):
        spacing = np.linalg.norm(affine_ras[:3, :3], axis=0)
        affine_ras = np.diag([*spacing, 1.0])
    return geometry_of_affine(affine_ras, size, THE_VOLUME)


def _root(folder: Path) -> Path:
    """What was received: the one file, or the folder of a series."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 else folder
