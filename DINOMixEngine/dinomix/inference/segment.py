"""Segmenting one volume: preprocess, predict, and bring the labels back to the image's own grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, moved, place_of
from dinomix.errors import DinomixError
from dinomix.events import Emit, RepeatedProgress, silent
from dinomix.images.volume import Geometry, Volume
from dinomix.inference.certainty import LabelChanges
from dinomix.inference.channels import as_channels
from dinomix.inference.devices import Device, choose_device, cpu, has_bfloat16
from dinomix.inference.eight_bits import agrees_in_eight_bits, may_take_eight_bits
from dinomix.inference.expected_dice import ExpectedDice
from dinomix.inference.inside import BoxFor, cut
from dinomix.inference.memory import SMALLEST_SLAB, MemoryUse, free_memory, network_within, plan_memory
from dinomix.inference.mirroring import axes_without_sides, mirrored
from dinomix.inference.native_grid import NativeLabels
from dinomix.inference.noise import border_noise
from dinomix.inference.options import Numbers, Options, Precision, RuntimeName
from dinomix.inference.runtimes.choosing import Work, choose_runtime
from dinomix.inference.runtimes.runtime import Runtime
from dinomix.inference.sliding_window import is_out_of_memory, predict_slabs
from dinomix.inference.sureness import Found, PredictedDice, Sureness
from dinomix.inference.two_stages import found_in_two_stages
from dinomix.inference.uncertainty import NativeUncertainty
from dinomix.labels import LabelSet
from dinomix.models.folder import Model
from dinomix.models.networks import Network
from dinomix.names import listed, normalized_name
from dinomix.planning.connected_components import Rules, clean_up, remove_stray_pieces
from dinomix.planning.preprocessing import Preprocessed, preprocess
from dinomix.planning.runs import BYTES_PER_RUN, count_runs
from dinomix.planning.whereabouts import of_image


def segment_volume(
    volumes: Volume | Sequence[Volume],
    model: Model,
    *,
    device: str = "auto",
    max_memory: int | None = None,
    precision: Precision = "auto",
    runtime: RuntimeName = "auto",
    all_pieces: bool = False,
    mirror: bool = False,
    emit: Emit = silent,
    network: Network | None = None,
) -> Volume:
    """Segment an image on its own grid.

    Args:
        volumes: the image, (k, j, i); for a model that takes several images of a case, one for each of ``model.plan.channels``,
            in this order. Those on another grid than the first are resampled onto it.
        device, max_memory, precision, runtime, all_pieces, mirror: see ``Options``.
        emit: gets ``progress`` per window, ``device`` where it is chosen here, and a ``notice`` when memory forces
            another way, an image is computed again or resampled onto the first one's grid, or stray pieces are removed;
            ``runtime`` where another one than PyTorch was looked at.
        network: ``model.network()``, when it is at hand from an earlier image.

    Returns:
        Structure ids (k, j, i), uint8 or uint16, on the image's geometry, the first one's of several.

    Raises:
        DinomixError: the device cannot be used, the memory does not suffice, or there is no axis to mirror; there are more or
            fewer images than channels, they show different places, or some are plainly in each other's place.
    """
    given = [volumes] if isinstance(volumes, Volume) else list(volumes)
    options = Options(device, max_memory, precision, runtime, all_pieces, mirror)
    return segment_taken(given, 0, model, options, emit=emit, network=network)


def segment_taken(
    volumes: list[Volume],
    given_back: int,
    model: Model,
    options: Options,
    *,
    emit: Emit,
    network: Network | None,
    box_for: BoxFor | None = None,
    sureness: Sureness | None = None,
) -> Volume:
    """Segment the images in a list, and take them out as soon as they are not needed, which frees ``given_back`` bytes.

    Args:
        box_for: where alone is to be computed, see ``inside``; None for the whole image.
        sureness: what is asked beside the labels; it is answered there.
    """
    volumes[:] = as_channels(volumes, model.plan, emit)
    geometry = volumes[0].geometry
    device, reason = choose_device(options.device)
    if options.device == "auto":
        emit("device", device=str(device), reason=reason)
    of_first = network or network_within(model, options.max_memory)
    axes = axes_without_sides(model) if options.mirror else ()

    asked = sureness or Sureness()

    def found_by(volumes: list[Volume], given_back: int, stage: Model, emit: Emit) -> Found:
        of_stage = of_first if stage is model else stage.warm_network
        box = box_for if stage is model else None  # the second stage has boxes of its own
        averaged = mirrored(of_stage, axes)
        return _found(volumes, given_back, stage, averaged, device, options, asked, emit, box)

    if model.second is None:
        found = found_by(volumes, given_back, model, emit)
    else:
        found = found_in_two_stages(_taken(volumes), model, lambda part, *others: found_by(part, 0, *others), emit)
    array, asked.uncertainty, asked.predicted_dice = found.array, found.uncertainty, _predicted_dice(found, model)
    if not options.all_pieces:
        remove_pieces(array, geometry, model, options.max_memory, emit)
    return Volume(array, geometry)


def _predicted_dice(found: Found, model: Model) -> PredictedDice:
    """By structure; of those that no calibration is known of, nothing."""
    if found.expected is None:
        return {}
    predicted: PredictedDice = {}
    for name, expected in zip(model.labels.names, found.expected.dice(), strict=True):
        if (calibration := model.calibration_of(name)) is not None:
            predicted[name] = calibration.predicted_dice(name, expected) if expected is not None else None
    return predicted


def _found(
    volumes: list[Volume],
    given_back: int,
    model: Model,
    network: Network,
    device: Device,
    options: Options,
    asked: Sureness,
    emit: Emit,
    box_for: BoxFor | None,
) -> Found:
    """What one network finds; ``volumes`` and ``given_back`` as ``segment_taken`` takes them."""
    geometry, voxel_bytes = volumes[0].geometry, sum(volume.array.itemsize for volume in volumes) // len(volumes)
    use = plan_memory(
        geometry, model, options.max_memory, voxel_bytes=voxel_bytes, given_back=given_back, uncertainty=asked.wants_map
    )
    if use.half_buffers:
        emit("notice", message="To get by with the main memory, windows are put together with half precision.")
    preprocessed = preprocess(_taken(volumes), model.plan, slab_bytes=use.slab_bytes)
    box = box_for(network, preprocessed) if box_for is not None else None
    if box is None:
        return _Computing(network, model, preprocessed, device, use, options, asked, emit).found()
    preprocessed = cut(preprocessed, box, model.plan)
    part = _Computing(network, model, preprocessed, device, use, options, asked, emit).found()
    size = geometry.size[::-1]
    whole = Found(np.zeros(size, part.array.dtype), expected=part.expected)
    whole.array[box] = part.array
    if part.uncertainty is not None:
        whole.uncertainty = np.zeros(size, np.uint8)
        whole.uncertainty[box] = part.uncertainty
    return whole


def _taken(volumes: list[Volume]) -> tuple[Volume, ...]:
    """The volumes out of a list, which others hold too."""
    taken = tuple(volumes)
    volumes.clear()
    return taken


def remove_pieces(array: NDArray[Any], geometry: Geometry, model: Model, limit: int | None, emit: Emit) -> None:
    """Remove, in place, the pieces that the model's plan wants removed of its labels (k, j, i)."""
    _remove_stray_pieces(array, geometry, model, limit, emit)
    names = dict(zip(model.labels.ids, model.labels.names, strict=True))
    rules = {model.labels.ids[rule.channel - 1]: rule.smallest for rule in model.plan.clean_up}
    if removed := cleaned(array, geometry, rules, limit):
        told = listed([names[id] for id in sorted(removed)])
        emit("notice", message=f"Pieces of {told} were removed, as it was right for the model's validation cases.")


def _remove_stray_pieces(array: NDArray[Any], geometry: Geometry, model: Model, limit: int | None, emit: Emit) -> None:
    rule = model.plan.one_piece
    if not rule.channels:
        return
    every, near = _fitting_step(array, limit), of_image(rule.whereabouts, geometry, model.plan, (2, 1, 0))
    if removed := remove_stray_pieces(array, rule, np.array([0, *model.labels.ids]), every, near):
        names = [model.labels.names[channel - 1] for channel in sorted(removed)]
        emit("notice", message=f"Pieces of {listed(names)} apart from where they belong were removed.")


def cleaned(array: NDArray[Any], geometry: Geometry, rules: Rules, limit: int | None) -> set[int]:
    """Remove pieces that are too small from labels (k, j, i), in place; returns the ids of which some were."""
    if not rules:
        return set()
    return clean_up(array, rules, float(np.prod(geometry.spacing)) / 1000, _fitting_step(array, limit))


def _fitting_step(array: NDArray[Any], limit: int | None) -> int:
    """On every how manieth voxel of each axis pieces are found, so that it fits into the memory."""
    every, free = 1, max(free_memory(limit), SMALLEST_SLAB)
    while BYTES_PER_RUN * count_runs(array[::every, ::every, ::every]) > free:
        every += 1
    return every


@dataclass(frozen=True)
class _Computing:
    """A preprocessed image, and what it takes to compute its labels."""

    network: Network
    model: Model
    preprocessed: Preprocessed
    device: Device
    use: MemoryUse
    options: Options
    asked: Sureness
    emit: Emit

    def found(self) -> Found:
        """See ``Options.precision``."""
        if self.options.precision != "auto":
            return self._found_in(self.options.precision)
        if self._is_for_eight_bits():
            return self._found_in("int8")
        if not has_bfloat16(self.device):
            return self._found_in("float32")
        runtime = self._chosen("bfloat16")
        if (noise := self._noise(runtime)) is None:
            return self._found_in("float32")
        changes = LabelChanges(noise, self.model.labels.channels)
        found = self._computed("bfloat16", runtime, self.emit, changes.add)
        if not (changed := changes.structures()):
            return found
        names = [self.model.labels.names[channel - 1] for channel in changed]
        self.emit(
            "notice",
            message=f"In bfloat16 the borders of {listed(names)} would change, so the image is computed again in float32.",
        )
        del found
        return self._found_in("float32", named(self.emit, "again in float32"))

    def _is_for_eight_bits(self) -> bool:
        tensor, plan = self.preprocessed.tensor, self.model.plan
        size = tuple(tensor.shape[1:])
        if not may_take_eight_bits(self.network, size, plan, self.device, self.options.runtime, self.use):
            return False
        agrees = agrees_in_eight_bits(self.network, tensor, plan, self.device)
        if agrees is False:
            self.emit("notice", message="With 8 bits labels of this image would change, so it is computed with more.")
        return agrees is True

    def _found_in(self, numbers: Numbers, emit: Emit | None = None) -> Found:
        return self._computed(numbers, self._chosen(numbers), emit or self.emit)

    def _chosen(self, numbers: Numbers) -> Runtime:
        tensor, plan = self.preprocessed.tensor, self.model.plan
        work = Work(self.network, tensor, plan, self.device, numbers, self.use, self.options.max_memory)
        return choose_runtime(self.options.runtime, work, self.emit)

    def _noise(self, runtime: Runtime) -> float | None:
        """None also where the trial failed: the memory may not suffice, or the device or network be short of an operation."""
        try:
            return border_noise(self.network, self.preprocessed.tensor, self.model.plan, self.device, runtime)
        except (RuntimeError, ValueError, NotImplementedError):
            return None

    def _computed(
        self, numbers: Numbers, runtime: Runtime, emit: Emit, look: Callable[[Array], None] | None = None
    ) -> Found:
        """What is found with these numbers; ``look`` is shown the logits, slab by slab."""
        tensor, use, ids = self.preprocessed.tensor, self.use, self.model.labels.ids
        progress = RepeatedProgress(emit)
        slabs = predict_slabs(
            self.network, tensor, self.model.plan, self.device, progress,
            numbers=numbers, runtime=runtime, half_buffers=use.half_buffers,
        )  # fmt: skip
        grid = tuple(tensor.shape[1:])
        labels = NativeLabels(self.preprocessed, grid, ids, use.slab_bytes, progress.again)
        found, takers = Found(labels.array), [labels.add, *([look] if look else [])]
        if self.asked.wants_map:
            calibration = self.model.calibration
            temperature = calibration.temperature if calibration is not None else 1.0
            percent = NativeUncertainty(self.preprocessed, grid, labels.array, ids, temperature, use.slab_bytes)
            found.uncertainty = percent.array
            takers.append(percent.add)
        if self.asked.wants_dice and self.model.calibration is not None:
            found.expected = ExpectedDice(self.model.labels.channels)
            takers.append(found.expected.add)
        for slab in slabs:
            for take in takers:
                progress.again()
                try:
                    take(slab)
                except RuntimeError as error:
                    if str(place_of(slab)) == "cpu" or not is_out_of_memory(error):
                        raise
                    slab = moved(slab, cpu())
                    take(slab)
        return found


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


def named(emit: Emit, name: str) -> Emit:
    """Announces progress under the image's name."""

    def emit_named(kind: str, **fields: Any) -> None:
        emit(kind, **({**fields, "stage": f"{fields['stage']} {name}"} if kind == "progress" else fields))

    return emit_named
