"""Segmenting one volume, or many files: preprocess, predict, and bring the labels back to the image's own grid."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.errors import DEFECTS, DinomixError, told_of
from dinomix.events import Emit, RepeatedProgress, silent
from dinomix.images.channels import read_channels
from dinomix.images.volume import Volume
from dinomix.inference.certainty import LabelChanges
from dinomix.inference.channels import as_channels, find_case_images
from dinomix.inference.devices import choose_device
from dinomix.inference.memory import SMALLEST_SLAB, MemoryUse, free_memory, plan_memory
from dinomix.inference.native_grid import NativeLabels
from dinomix.inference.outputs import (
    MadeBy,
    Output,
    check_name,
    is_done,
    plan_outputs,
    write_output,
)
from dinomix.inference.precision import Precision, border_noise, has_bfloat16
from dinomix.inference.region_files import region_files, write_regions
from dinomix.inference.sliding_window import is_out_of_memory, predict_slabs
from dinomix.inference.two_stages import two_stage_labels
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.names import listed, normalized_name
from dinomix.planning.connected_components import BYTES_PER_VOXEL, remove_stray_pieces
from dinomix.planning.preprocessing import Preprocessed, preprocess


def segment_volume(
    volumes: Volume | Sequence[Volume],
    model: Model,
    *,
    device: str = "auto",
    max_memory: int | None = None,
    precision: Precision = "auto",
    all_pieces: bool = False,
    emit: Emit = silent,
    network: torch.nn.Module | None = None,
) -> Volume:
    """Segment an image on its own grid.

    Args:
        volumes: the image, (k, j, i); for a model that takes several images of a case, one for each of ``model.plan.channels``,
            in this order. Those on another grid than the first are resampled onto it.
        device: see ``choose_device``.
        max_memory: bytes of main memory that this process may take in all; None for what the computer has free.
        precision: the numbers that the network computes with. "auto" is bfloat16 where the device has instructions for
            it and each structure is expected to be as in float32 (Dice of 0.995 or more, see ``LabelChanges``); elsewhere
            float32. The model folder run as a bundle of MONAI's gives the labels of "float32".
        all_pieces: keep also what the model's plan calls stray pieces of a structure.
        emit: gets ``progress`` per window, ``device`` where it is chosen here, and a ``notice`` when memory forces
            another way, an image is computed again or resampled onto the first one's grid, or stray pieces are removed.
        network: ``model.network()``, when it is at hand from an earlier image.

    Returns:
        Structure ids (k, j, i), uint8 or uint16, on the image's geometry, the first one's of several.

    Raises:
        DinomixError: the device cannot be used, or the memory does not suffice; there are more or fewer images than channels,
            they show different places, or some are plainly in each other's place.
    """
    given = [volumes] if isinstance(volumes, Volume) else list(volumes)
    return _segment(given, 0, model, device, max_memory, precision, all_pieces, emit, network)


def _segment(
    volumes: list[Volume],
    given_back: int,
    model: Model,
    device: str,
    max_memory: int | None,
    precision: Precision,
    all_pieces: bool,
    emit: Emit,
    network: torch.nn.Module | None,
) -> Volume:
    """Segment the images in a list, and take them out as soon as they are not needed, which frees ``given_back`` bytes."""
    volumes[:] = as_channels(volumes, model.plan, emit)
    geometry = volumes[0].geometry
    chosen, reason = choose_device(device)
    if device == "auto":
        emit("device", device=str(chosen), reason=reason)
    of_first = network or model.network()

    def labels_of(volumes: list[Volume], given_back: int, stage: Model, emit: Emit) -> NDArray[Any]:
        of_stage = of_first if stage is model else stage.warm_network
        return _labels(volumes, given_back, stage, of_stage, chosen, max_memory, precision, emit)

    if model.second is None:
        array = labels_of(volumes, given_back, model, emit)
    else:
        array = two_stage_labels(_taken(volumes), model, lambda part, *others: labels_of(part, 0, *others), emit)
    if not all_pieces:
        _remove_stray_pieces(array, model, max_memory, emit)
    return Volume(array, geometry)


def _labels(
    volumes: list[Volume],
    given_back: int,
    model: Model,
    network: torch.nn.Module,
    device: torch.device,
    max_memory: int | None,
    precision: Precision,
    emit: Emit,
) -> NDArray[Any]:
    """Structure ids (k, j, i) by one network; ``volumes`` and ``given_back`` as ``_segment`` takes them."""
    geometry, voxel_bytes = volumes[0].geometry, sum(volume.array.itemsize for volume in volumes) // len(volumes)
    use = plan_memory(geometry, model, max_memory, voxel_bytes=voxel_bytes, given_back=given_back)
    if use.half_buffers:
        emit("notice", message="To get by with the main memory, windows are put together with half precision.")
    preprocessed = preprocess(_taken(volumes), model.plan, slab_bytes=use.slab_bytes)
    return _Computing(network, model, preprocessed, device, use, emit).labels(precision)


def _taken(volumes: list[Volume]) -> tuple[Volume, ...]:
    """The volumes out of a list, which others hold too."""
    taken = tuple(volumes)
    volumes.clear()
    return taken


def _remove_stray_pieces(array: NDArray[Any], model: Model, limit: int | None, emit: Emit) -> None:
    rule = model.plan.one_piece
    if not rule.channels:
        return
    every = 1
    while BYTES_PER_VOXEL * array.size / every**3 > max(free_memory(limit), SMALLEST_SLAB):
        every += 1
    if removed := remove_stray_pieces(array, rule, np.array([0, *model.labels.ids]), every):
        names = [model.labels.names[channel - 1] for channel in sorted(removed)]
        emit("notice", message=f"Small pieces apart from the largest one were removed from {listed(names)}.")


@dataclass(frozen=True)
class _Computing:
    """A preprocessed image, and what it takes to compute its labels."""

    network: torch.nn.Module
    model: Model
    preprocessed: Preprocessed
    device: torch.device
    use: MemoryUse
    emit: Emit

    def labels(self, precision: Precision) -> NDArray[Any]:
        """(k, j, i); see ``segment_volume``."""
        if precision != "auto":
            return self._labels_in(torch.float32 if precision == "float32" else torch.bfloat16, self.emit)
        noise = self._noise() if has_bfloat16(self.device) else None
        if noise is None:
            return self._labels_in(torch.float32, self.emit)
        changes = LabelChanges(noise, self.model.labels.channels)
        array = self._labels_in(torch.bfloat16, self.emit, changes.add)
        if not (changed := changes.structures()):
            return array
        names = [self.model.labels.names[channel - 1] for channel in changed]
        self.emit(
            "notice",
            message=f"In bfloat16 the borders of {listed(names)} would change, so the image is computed again in float32.",
        )
        del array
        return self._labels_in(torch.float32, _named(self.emit, "again in float32"))

    def _noise(self) -> float | None:
        """None also where the trial failed: the memory may not suffice, or the device or network be short of an operation."""
        try:
            return border_noise(self.network, self.preprocessed.tensor, self.model.plan, self.device)
        except (RuntimeError, ValueError, NotImplementedError):
            return None

    def _labels_in(
        self, dtype: torch.dtype, emit: Emit, look: Callable[[torch.Tensor], None] | None = None
    ) -> NDArray[Any]:
        """Labels computed with some numbers; ``look`` is shown the logits, slab by slab."""
        tensor, use, ids = self.preprocessed.tensor, self.use, self.model.labels.ids
        progress = RepeatedProgress(emit)
        slabs = predict_slabs(
            self.network, tensor, self.model.plan, self.device, progress, dtype=dtype, half_buffers=use.half_buffers
        )
        labels = NativeLabels(self.preprocessed, tuple(tensor.shape[1:]), ids, use.slab_bytes, progress.again)
        for slab in slabs:
            for take in (labels.add, look) if look else (labels.add,):
                progress.again()
                try:
                    take(slab)
                except RuntimeError as error:
                    if slab.device.type == "cpu" or not is_out_of_memory(error):
                        raise
                    slab = slab.cpu()
                    take(slab)
        return labels.array


def segment_files(
    model: Model,
    images: list[Path],
    out: Path,
    *,
    channels: Mapping[str, str | Path] | None = None,
    format: str | None = None,
    device: str = "auto",
    max_memory: int | None = None,
    precision: Precision = "auto",
    keep: tuple[str, ...] = (),
    all_pieces: bool = False,
    regions: bool = False,
    overwrite: bool = False,
    emit: Emit = silent,
    network: torch.nn.Module | None = None,
) -> list[Path]:
    """Segment files, DICOM folders and folders of images; each result is on its image's own grid.

    An interrupted batch goes on where it stopped when it is called again. Under ``accelerate launch`` each process
    takes its share of the images. An image that fails is announced by an ``error`` event and the others go on.

    Args:
        images: with a model of several channels, files as ``images.channel_files`` knows them.
        out: a file's name for one image, or a folder.
        channels: for a model of several channels, by their names: the image of each, where ``images`` is empty; else patterns
            by which the images of ``images`` are told.
        format: "nii.gz", "nrrd" or "seg.nrrd"; None for that of ``out``'s name, or nii.gz.
        precision: see ``segment_volume``.
        keep: names of the structures to keep; empty for all.
        all_pieces: see ``segment_volume``.
        regions: write a mask file for each region of the model's labels, too; see ``region_files``.
        overwrite: replace files that are there.
        network: ``model.network()``, when it is at hand from earlier.

    Returns:
        The files of this process's share, those that were already there included.

    Raises:
        DinomixError: nothing can be segmented; or, after all the others are done, some images failed.
    """
    labels = kept_labels(model.labels, keep)
    outputs = plan_outputs(find_case_images(images, model.plan.channels, channels or {}), out, format)
    share = _Share.of_this_process()
    mine = outputs[share.rank :: share.processes]
    device, reason = _device_of(share, device)
    emit("device", device=device, reason=reason)
    made_by: MadeBy = {"model": model.fingerprint, "structures": list(labels.names)}
    if model.plan.one_piece.channels:
        made_by["all_pieces"] = all_pieces
    masks = {output.path: tuple(region_files(labels, output.path).values()) if regions else () for output in outputs}
    failed = 0

    def read(output: Output) -> list[Volume]:
        check_name(output)
        if not overwrite and is_done(output, made_by) and all(mask.exists() for mask in masks[output.path]):
            return []
        return read_channels(output.images, resample_sheared=True, keep_integers=True)

    # With a limit to the memory, no second image is read while one is computed.
    ahead = 1 if max_memory is None else 0
    for number, (output, reading) in enumerate(_read_ahead(read, mine, ahead), start=1):
        emit_here = _named(emit, f"{output.name} ({number} of {len(mine)})")
        began = time.monotonic()
        network = network or model.network()  # while the first image is being read
        try:
            volumes = reading.result()
            if not volumes:
                emit("notice", message=f"{output.path} is already there from this image and model; it is kept.")
                continue
            for image, volume in zip(output.images, volumes, strict=True):
                for notice in volume.notices:
                    emit("notice", message=f"{image}: {notice}")
            size = sum(volume.array.nbytes for volume in volumes)
            result = _segment(volumes, size, model, device, max_memory, precision, all_pieces, emit_here, network)
            if keep:
                keep_only(result.array, labels.ids)
            if regions:
                write_regions(result.array, result.geometry, labels, output.path)
            write_output(result.array, result.geometry, labels, output, made_by)
            emit("finished", path=str(output.path), seconds=time.monotonic() - began)
        except (DinomixError, OSError, MemoryError, *DEFECTS) as error:
            if len(outputs) == 1 and isinstance(error, DEFECTS):
                raise
            told = told_of(error, output.image)
            if len(outputs) == 1:
                raise told from error
            failed += 1
            emit("error", **told.fields)
    share.wait_for_the_others()
    if failed:
        raise DinomixError(f"{failed} of {len(mine)} images could not be segmented.", "The lines above say why.")
    return [output.path for output in mine]


def keep_only(array: NDArray[Any], ids: tuple[int, ...]) -> None:
    """Set all labels but ``ids`` to 0, in place."""
    kept = np.zeros(65536, array.dtype)
    kept[list(ids)] = ids
    for slab in array:
        slab[...] = kept[slab]


def kept_labels(labels: LabelSet, keep: tuple[str, ...]) -> LabelSet:
    """The structures of ``labels`` whose names are in ``keep``; all when it is empty.

    Raises:
        DinomixError: a name is not the model's.
    """
    if not keep:
        return labels
    known = {normalized_name(structure.name): structure for structure in labels.structures}
    unknown = [name for name in keep if normalized_name(name) not in known]
    if unknown:
        raise DinomixError(f"The model has no structure {' or '.join(unknown)}.", f"It has {', '.join(labels.names)}.")
    return labels.only({known[normalized_name(name)].id for name in keep})


@dataclass(frozen=True)
class _Share:
    """This process's part of a batch; one process without ``accelerate launch``."""

    rank: int = 0
    processes: int = 1
    local_rank: int = 0

    @classmethod
    def of_this_process(cls) -> "_Share":
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        from accelerate import PartialState

        # On the CPU: the processes only wait for one another, and one may wait as long as another's share takes.
        state = PartialState(cpu=True, timeout=timedelta(days=30))
        return cls(state.process_index, state.num_processes, state.local_process_index)

    def wait_for_the_others(self) -> None:
        """The launcher stops all processes when one ends with an error, so none may end before all are done."""
        if self.processes > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def _read_ahead(
    read: Callable[[Output], list[Volume]], outputs: list[Output], ahead: int
) -> Iterator[tuple[Output, Future[list[Volume]]]]:
    """Each output with its image, which a thread reads while up to ``ahead`` images before it are worked on."""
    with ThreadPoolExecutor(1) as pool:
        futures = deque[Future[list[Volume]]]()
        for number, output in enumerate(outputs):
            for coming in outputs[number + len(futures) : number + ahead + 1]:
                futures.append(pool.submit(read, coming))
            yield output, futures.popleft()


def _device_of(share: _Share, device: str) -> tuple[str, str]:
    chosen, reason = choose_device(device)
    if share.processes > 1 and device in ("auto", "cuda") and chosen.type == "cuda":
        chosen, reason = choose_device(f"cuda:{share.local_rank % torch.cuda.device_count()}")
    return str(chosen), reason


def _named(emit: Emit, name: str) -> Emit:
    """Announces progress under the image's name."""

    def emit_named(kind: str, **fields: Any) -> None:
        emit(kind, **({**fields, "stage": f"{fields['stage']} {name}"} if kind == "progress" else fields))

    return emit_named
