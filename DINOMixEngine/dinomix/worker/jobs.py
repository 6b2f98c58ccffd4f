"""What the worker computes: loading, estimating, segmenting an array or a file."""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import moved, usual, without_gradients
from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.images.formats import ENDINGS, ending_of
from dinomix.images.image_headers import is_image_path
from dinomix.images.shear import check_usable, geometry_of_affine, is_sheared
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.any_grid import THE_VOLUME, segment_array
from dinomix.inference.batch import segment_files
from dinomix.inference.channels import other_number
from dinomix.inference.devices import Device, choose_device, has_bfloat16, threads
from dinomix.inference.eight_bits import computes_eight_bits, may_take_eight_bits
from dinomix.inference.inside import quick_plan
from dinomix.inference.memory import MemoryUse, bytes_of_weights, plan_memory
from dinomix.inference.mirroring import axes_without_sides
from dinomix.inference.options import Numbers
from dinomix.inference.runtimes.choosing import expected_runtime
from dinomix.inference.runtimes.runtime import Runtime
from dinomix.inference.segment import kept_labels
from dinomix.inference.several_models import Models
from dinomix.inference.sliding_window import count_windows
from dinomix.inference.suitability import Doubt, tell
from dinomix.inference.sureness import PredictedDice, Sureness
from dinomix.inference.two_stages import expected_windows
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.installed import regions_as_data, structures_as_data
from dinomix.models.networks import Network, evaluating
from dinomix.planning.preprocessing import grid_size
from dinomix.worker import scratch
from dinomix.worker.arrays import (
    BROKEN,
    REGION_FRAMES,
    check_array,
    frames_of_array,
    frames_of_file,
    read_array,
    write_array,
)
from dinomix.worker.inbox import AGAIN, Request
from dinomix.worker.pipe import Output
from dinomix.worker.requests import ArrayImage, Estimate, Load, Segment, SegmentFile, parse_request
from dinomix.worker.warm_models import WarmModel, WarmModels

VOXELS_PER_SECOND = 4e7
"""Voxels times channels that one core labels a second on the image's grid; about, for estimates only."""


@dataclass
class Job:
    """A request that is being answered.

    Attributes:
        emit: announces events; raises where the job was cancelled, as ``stop_if_cancelled`` does.
        began: ``time.monotonic()`` at its start.
    """

    received: Request
    warm: list[WarmModel]
    emit: Emit
    stop_if_cancelled: Callable[[], None]
    began: float

    @property
    def networks(self) -> list[Network]:
        return [warm.network for warm in self.warm]

    def models(self, inside: tuple[str, ...] = ()) -> Models:
        """Those of the request, in its order; ``inside`` as ``Models`` takes it."""
        return Models.of([warm.model for warm in self.warm], inside)

    @property
    def name(self) -> str:
        return str(self.received.job)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Jobs:
    """Computes requests with models that stay warm."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.models = WarmModels()

    def run(self, received: Request, emit: Emit, stop_if_cancelled: Callable[[], None]) -> None:
        """Answer one request. Raises DinomixError where it cannot be done, and whatever the two functions raise."""
        began = time.monotonic()
        request = parse_request(received.fields)
        warm = self.models.get_all([request.model, *request.more_models], emit)
        job = Job(received, warm, emit, stop_if_cancelled, began)
        match request:
            case Load():
                self.output.send("loaded", job=job.name, seconds=job.seconds)
            case Estimate():
                self._estimate(request, job)
            case Segment():
                self._segment(request, job)
            case SegmentFile():
                self._segment_file(request, job)

    def _estimate(self, request: Estimate, job: Job) -> None:
        check_array(request.shape, "int16")
        geometry = _rectangular(request.shape, np.array(request.affine_ras))
        device, reason = choose_device(request.device)
        seconds, all_windows, memory = 0.0, 0, 0
        for warm in job.warm:
            model, use = warm.model, plan_memory(geometry, warm.model, request.max_memory)
            numbers = _expected_numbers(request, warm, device, grid_size(geometry, model.plan), use)
            runtime = expected_runtime(request.runtime, warm.network, model.plan, device, numbers)
            windows = _windows(model, geometry, request, is_alone=len(job.warm) == 1)
            labeling = np.prod(request.shape) * model.labels.channels / VOXELS_PER_SECOND / threads()
            seconds += float(windows * seconds_of_a_window(warm, device, numbers, runtime) + labeling)
            memory = max(memory, use.estimate + runtime.more_bytes(bytes_of_weights(model), use.window))
            all_windows += windows
        self.output.send(
            "estimate",
            job=job.name,
            seconds=seconds,
            windows=all_windows,
            memory=memory,
            device=str(device),
            reason=reason,
        )

    def _segment(self, request: Segment, job: Job) -> None:
        models = job.models(request.inside)
        described = [request.image, *request.more]
        images = [
            (array, np.array(image.affine_ras))
            for array, image in zip(_arrays_of(described, job.received), described, strict=True)
        ]
        keep = kept_labels(models.labels, request.keep)
        job.emit("progress", stage="preparing the image", step=0, total=1, eta=None)
        tell(_doubts_of(images, models), job.emit, any_image=request.any_image)
        sureness = Sureness(wants_dice=True)
        labels, notices = segment_array(
            *images[0],
            models,
            request.options,
            more=images[1:],
            emit=job.emit,
            networks=job.networks,
            keep=keep,
            sureness=sureness,
        )
        if len(keep.ids) < len(models.labels.ids):
            labels = np.where(np.isin(labels, keep.ids), labels, 0).astype(labels.dtype)
        found = Volume(labels, _rectangular(labels.shape, images[0][1]))
        tell(models.doubts_of_result(found, keep), job.emit, any_image=True)
        result = {
            "job": job.name,
            "shape": list(labels.shape),
            "dtype": labels.dtype.name,
            **_found(keep, labels, models, sureness.predicted_dice),
            "device": str(choose_device(request.device)[0]),
            "notices": list(notices),
        }
        job.emit("progress", stage="handing over the labels", step=0, total=1, eta=None)
        if request.result.file is not None:
            for done, total in write_array(request.result.file, labels):
                job.emit("progress", stage="handing over the labels", step=done, total=total, eta=None)
            self.output.send("result", **result, file=str(request.result.file), seconds=job.seconds)
            return
        self.output.send("result", **result, frames=True, seconds=job.seconds)
        for frame in frames_of_array(labels, job.name, "labels"):
            job.stop_if_cancelled()
            self.output.send_bytes(frame)

    def _segment_file(self, request: SegmentFile, job: Job) -> None:
        models, paths = job.models(request.inside), _paths_of(request, job.received)
        if len(paths) > 1 and len(paths) != len(models.channels):
            raise other_number(len(paths), models.first.plan)
        # One path may be a folder or a file with all images of the case.
        channels = dict(zip(models.channels, paths, strict=True)) if len(paths) > 1 else None
        images = paths if channels is None else []

        keep = kept_labels(models.labels, request.keep)
        predicted: PredictedDice = {}

        def written_to(out: Path, overwrite: bool) -> Path:
            return segment_files(
                models, images, out, request.options, channels=channels, keep=request.keep, any_image=request.any_image,
                regions=request.regions and bool(keep.regions), predicts_dice=True, overwrite=overwrite, emit=job.emit,
                networks=job.networks, done=lambda _output, dice: predicted.update(dice),
            )[0]  # fmt: skip

        if request.out.path is not None:
            written = written_to(request.out.path, request.overwrite)
            structures = _structures(keep, models, predicted)
            self.output.send("result", job=job.name, path=str(written), structures=structures, seconds=job.seconds)
            return
        folder = scratch.new_folder()
        try:
            written = written_to(folder / f"labels{ending_of(request.out.format)}", overwrite=False)
            structures = _structures(keep, models, predicted)
            self.output.send("result", job=job.name, frames=True, structures=structures, seconds=job.seconds)
            # The labels come last: where they are, the regions are too.
            for region in sorted(folder.glob("*/*")):
                self._send_file(region, REGION_FRAMES + region.name, job, more=True)
            self._send_file(written, f"file:{written.name}", job, more=False)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _send_file(self, path: Path, name: str, job: Job, *, more: bool) -> None:
        for frame in frames_of_file(path, job.name, name, more=more):
            job.stop_if_cancelled()
            self.output.send_bytes(frame)


def _doubts_of(images: list[tuple[NDArray[Any], NDArray[np.float64]]], models: Models) -> list[Doubt]:
    """What speaks against the images of a case, arrays (k, j, i) with their affines.

    Raises:
        DinomixError: they are in each other's place, or an affine is unusable.
    """
    volumes = [Volume(array, _rectangular(array.shape, affine)) for array, affine in images]
    models.refuse_swapped(volumes)
    return [
        doubt
        for channel, volume in enumerate(volumes[: len(models.channels)])  # of too many, segmenting will speak
        for doubt in models.doubts_of_image(volume, None, channel)
    ]


def _found(
    wanted: LabelSet, labels: NDArray[np.generic], models: Models, predicted: PredictedDice
) -> dict[str, list[dict[str, Any]]]:
    """The ``structures`` and ``regions`` with ``voxels``, how many of the labels (k, j, i) are theirs."""
    counts = np.zeros(256 if labels.dtype == np.uint8 else 65536, np.int64)
    for slab in labels:
        counts += np.bincount(slab.ravel(), minlength=len(counts))
    structures = [{**each, "voxels": int(counts[each["id"]])} for each in _structures(wanted, models, predicted)]
    regions = [{**each, "voxels": int(counts[each["structures"]].sum())} for each in regions_as_data(wanted)]
    return {"structures": structures, "regions": regions}


def _structures(wanted: LabelSet, models: Models, predicted: PredictedDice) -> list[dict[str, Any]]:
    """Each structure; of several models with the title of its own; and where it is known, how sure that is of it."""
    structures = structures_as_data(wanted)
    if owners := models.owners:
        structures = [{**each, "model": owners[each["name"]]} for each in structures]
    for each in structures:
        if (dice := predicted.get(each["name"])) is not None:
            each |= {"predicted_dice": dice, "unsure": models.is_unsure(each["name"], dice)}
    return structures


def _expected_numbers(
    request: Estimate, warm: WarmModel, device: Device, size: tuple[int, int, int], use: MemoryUse
) -> Numbers:
    """What most images of this size are computed with."""
    if request.precision != "auto":
        return request.precision
    network, plan = warm.network, warm.model.plan
    if may_take_eight_bits(network, size, plan, device, request.runtime, use) and computes_eight_bits(
        network, plan, device
    ):
        return "int8"
    return "bfloat16" if has_bfloat16(device) else "float32"


def _windows(model: Model, geometry: Geometry, request: Estimate, *, is_alone: bool) -> int:
    """How many windows a model computes at most, which in a box are fewer; one that is alone looks for the box first."""
    grid = grid_size(geometry, model.plan)
    windows = count_windows(grid, model.plan) + expected_windows(model)
    if request.inside and is_alone:
        windows += count_windows(grid, quick_plan(model))
    return windows * 2 ** (len(axes_without_sides(model)) if request.mirror else 0)


def seconds_of_a_window(warm: WarmModel, device: Device, numbers: Numbers, runtime: Runtime) -> float:
    """How long the network takes for one window on a device; measured once, after one window that warms it up.

    Raises:
        DinomixError: the device cannot run the network, or has too little memory.
    """
    known = warm.window_seconds.get((str(device), numbers, runtime.name))
    if known is not None:
        return known
    try:
        with evaluating(warm.network):
            seconds = _measured(warm, device, numbers, runtime)
    except (RuntimeError, NotImplementedError) as error:
        print(f"The network cannot be tried on {device}: {error}", file=sys.stderr)  # the log
        raise DinomixError(f"The network cannot be tried on {device}.", "Choose the CPU.") from error
    warm.window_seconds[str(device), numbers, runtime.name] = seconds
    return seconds


@without_gradients
def _measured(warm: WarmModel, device: Device, numbers: Numbers, runtime: Runtime) -> float:
    plan = warm.model.plan
    forward = runtime.ready(warm.network, plan, device, numbers, plan.patch)
    window = moved(usual(np.zeros((1, len(plan.channels), *plan.patch), np.float32)), device)
    for _ in range(2):
        began = time.monotonic()
        float(forward(window)[0, 0, 0, 0, 0])  # reading a value waits for the device
        seconds = time.monotonic() - began
    return seconds


def _arrays_of(images: list[ArrayImage], received: Request) -> list[NDArray[Any]]:
    """The images' voxels, (k, j, i) each."""
    return received.arrays.arrays if received.arrays is not None else [_array_of(image) for image in images]


def _array_of(image: ArrayImage) -> NDArray[np.generic]:
    """The voxels (k, j, i) in an image's file, memory-mapped."""
    if image.file is None:
        raise DinomixError("The request names no volume.", "Give its file, or send it as frames.")
    array = read_array(image.file)
    check_array(array.shape, array.dtype.newbyteorder("=").name)
    if array.shape != image.shape or array.dtype.newbyteorder("=").name != image.dtype:
        raise DinomixError(f"The volume in {image.file} is not as the request describes it.", BROKEN)
    return array


def _rectangular(shape: tuple[int, ...], affine_ras: NDArray[np.float64]) -> Geometry:
    """The grid to estimate with; a sheared one is taken for the rectangular one with the same voxels."""
    size = (shape[2], shape[1], shape[0])
    check_usable(affine_ras, THE_VOLUME)
    if is_sheared(affine_ras, size):
        spacing = np.linalg.norm(affine_ras[:3, :3], axis=0)
        affine_ras = np.diag([*spacing, 1.0])
    return geometry_of_affine(affine_ras, size, THE_VOLUME)


def _paths_of(request: SegmentFile, received: Request) -> list[Path]:
    """Where the images of the case lie; those that came as frames, of several each in a folder of its number."""
    if received.files is not None:
        folder, count = received.files.folder, 1 + len(request.more)
        folders = [folder / str(number) for number in range(count)] if count > 1 else [folder]
        if not all(each.is_dir() for each in folders):
            raise DinomixError("The files of an image did not arrive.", AGAIN)
        return [_root(each) for each in folders]
    paths = [image.path for image in (request.image, *request.more)]
    known = [path for path in paths if path is not None]
    if len(known) < len(paths):
        raise DinomixError("The request names no image.", "Give each image's path, or send its files as frames.")
    return known


def _root(folder: Path) -> Path:
    """What was received: the folder of a series, whatever else is in it, or the one image file, with what it names."""
    images = [path for path in folder.iterdir() if path.name.lower().endswith(ENDINGS)]
    return images[0] if len(images) == 1 and not is_image_path(folder) else folder
