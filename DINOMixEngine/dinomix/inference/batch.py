"""Segmenting files: which belong to a case, whether an image is one for the model, and a batch that goes on where it stopped."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from dinomix.errors import DEFECTS, DinomixError, told_of
from dinomix.events import Emit, silent
from dinomix.images.channels import read_channels
from dinomix.images.dicom_header import dicom_modality
from dinomix.images.dicom_results import Maker, drawn_of
from dinomix.images.dicom_source import check_dicom_source
from dinomix.images.formats import DICOM_RESULTS, Format
from dinomix.images.volume import Volume
from dinomix.images.writing import write_image
from dinomix.inference.asked_clean_up import asked_rules
from dinomix.inference.channels import find_case_images
from dinomix.inference.devices import choose_device
from dinomix.inference.memory import network_within
from dinomix.inference.mirroring import axes_without_sides
from dinomix.inference.options import DEFAULTS, Options
from dinomix.inference.outputs import (
    MadeBy,
    Output,
    check_name,
    is_done,
    plan_outputs,
    predicted_dice_of,
    write_output,
)
from dinomix.inference.region_files import region_files, region_writers
from dinomix.inference.segment import keep_only, kept_labels, named
from dinomix.inference.several_models import Models, segment_by_all
from dinomix.inference.suitability import Doubt, tell
from dinomix.inference.sureness import PredictedDice, Sureness
from dinomix.inference.uncertainty_files import uncertainty_files
from dinomix.models.folder import Model
from dinomix.models.networks import Network
from dinomix.names import listed

ALL_THE_SAME = "With --any-image it is segmented all the same."
UNCALIBRATED = (
    "so the map holds the network's own probabilities, which are mostly too sure; `dinomix models calibrate` mends that "
    "with labeled cases."
)


def segment_files(
    models: Model | Models,
    images: list[Path],
    out: Path,
    options: Options = DEFAULTS,
    *,
    channels: Mapping[str, str | Path] | None = None,
    format: Format | None = None,
    keep: tuple[str, ...] = (),
    regions: bool = False,
    uncertainty: Path | None = None,
    predicts_dice: bool = False,
    any_image: bool = False,
    overwrite: bool = False,
    emit: Emit = silent,
    networks: Sequence[Network] | None = None,
    done: Callable[[Output, PredictedDice], None] = lambda output, predicted: None,
) -> list[Path]:
    """Segment files, DICOM folders and folders of images; each result is on its image's own grid.

    An interrupted batch goes on where it stopped when it is called again. Under ``accelerate launch`` each process
    takes its share of the images. An image that fails is announced by an ``error`` event and the others go on.

    Args:
        images: with a model of several channels, files as ``images.channel_files`` knows them.
        out: a file's name for one image, or a folder.
        channels: for a model of several channels, by their names: the image of each, where ``images`` is empty; else patterns
            by which the images of ``images`` are told.
        format: one of ``formats.FORMATS``; None for that of ``out``'s name, or nii.gz. "dicom-seg" and "rtstruct" are of DICOM
            series only.
        keep: names of the structures to keep; empty for all.
        regions: write the regions of the model's labels, too: a mask file for each, see ``region_files``, or, in DICOM, into the
            same file.
        uncertainty: write a map of it, too, see ``uncertainty_files``: a file for one image, else a folder; None for none.
        predicts_dice: predict the Dice of each structure of a calibrated model.
        any_image: segment also what is no image for the model, see ``suitability``.
        overwrite: replace files that are there.
        networks: of each model, when they are at hand from earlier.
        done: called with each result as soon as it is there, or was found there, and with the Dice that was predicted of it.

    Returns:
        The files of this process's share, those that were already there included.

    Raises:
        DinomixError: nothing can be segmented; or, after all the others are done, some images failed.
    """
    models = Models.of(models) if isinstance(models, Model) else models
    labels = kept_labels(models.labels, keep)
    outputs = plan_outputs(find_case_images(images, models.channels, channels or {}), out, format)
    share = _Share.of_this_process()
    mine = outputs[share.rank :: share.processes]
    device, reason = _device_of(share, options.device)
    emit("device", device=device, reason=reason)
    options = replace(options, device=device)
    made_by: MadeBy = {"model": models.fingerprint, "structures": list(labels.names)}
    if any(model.plan.one_piece.channels or model.plan.clean_up for model in models.models):
        made_by["all_pieces"] = options.all_pieces
    # Not said where there is none of it, as in records of earlier versions.
    made_by |= {
        "mirror": options.mirror or None,
        "inside": list(models.inside) or None,
        "clean_up": dict(options.clean_up) or None,
    }
    made_by["found_by"] = models.found_by.fingerprint if models.found_by is not None else None
    masks = {output.path: tuple(region_files(labels, output).values()) if regions else () for output in outputs}
    maker = Maker(models.title, models.fingerprint[:16], models.owners)
    written = labels if regions else labels.without_regions
    in_dicom = outputs[0].format in DICOM_RESULTS
    if in_dicom:
        made_by["regions"] = regions
        drawn_of(written)  # names that DICOM cannot hold are told before anything is computed
    maps = uncertainty_files(outputs, uncertainty, overwrite)
    if maps and (without := models.uncalibrated):
        emit(
            "notice", message=f"{listed(without)} {'is' if len(without) == 1 else 'are'} not calibrated, {UNCALIBRATED}"
        )
    failed = 0
    asked_rules(options.clean_up, models.labels)  # refuses before anything is read
    if options.mirror:
        for model in models.models:
            axes_without_sides(model)  # refuses before anything is read

    def read(output: Output) -> list[Volume]:
        check_name(output)
        if in_dicom:
            check_dicom_source(output.image)
        of_case = (*masks[output.path], *([maps[output.path]] if maps else []))
        if not overwrite and is_done(output, made_by, of_case):
            return []
        return read_channels(output.images, resample_sheared=True, keep_integers=True)

    # With a limit to the memory, no second image is read while one is computed.
    ahead = 1 if options.max_memory is None else 0
    for number, (output, reading) in enumerate(_read_ahead(read, mine, ahead), start=1):
        emit_here = _of_case(named(emit, f"{output.name} ({number} of {len(mine)})"), output)
        began = time.monotonic()
        # While the first image is being read.
        networks = networks or [network_within(model, options.max_memory) for model in models.models]
        try:
            volumes = reading.result()
            if not volumes:
                emit_here("notice", message=f"{output.path} is already there from this image and model; it is kept.")
                done(output, predicted_dice_of(output.path))
                continue
            for image, volume in zip(output.images, volumes, strict=True):
                for notice in volume.notices:
                    emit_here("notice", message=f"{image}: {notice}")
            models.refuse_swapped(volumes)
            doubts = doubts_of_case(output, volumes, models)
            tell(doubts, emit_here, any_image=any_image, image=str(output.image), otherwise=ALL_THE_SAME)
            size = sum(volume.array.nbytes for volume in volumes)
            sureness = Sureness(wants_map=bool(maps), wants_dice=predicts_dice)
            result = segment_by_all(
                volumes, size, models, options, keep=labels, emit=emit_here, networks=networks, sureness=sureness
            )
            if keep:
                keep_only(result.array, labels.ids)
            beside = region_writers(result.array, result.geometry, labels, output) if regions else {}
            if sureness.uncertainty is not None:
                beside[maps[output.path]] = partial(write_image, Volume(sureness.uncertainty, result.geometry))
            predicted = {name: dice for name, dice in sureness.predicted_dice.items() if name in labels.names}
            write_output(result.array, result.geometry, written, output, made_by, maker, predicted, beside)
            if sureness.uncertainty is not None:
                emit_here("written", path=str(maps[output.path]))
            doubts = models.doubts_of_result(result, labels)
            tell(doubts, emit_here, any_image=True, image=str(output.image))
            emit_here("finished", path=str(output.path), seconds=time.monotonic() - began)
            done(output, predicted)
        except (DinomixError, OSError, MemoryError, *DEFECTS) as error:
            if len(outputs) == 1 and isinstance(error, DEFECTS):
                raise
            told = told_of(error, output.image)
            if len(outputs) == 1:
                raise told from error
            failed += 1
            emit_here("error", **told.fields)
    share.wait_for_the_others()
    if failed:
        raise DinomixError(f"{failed} of {len(mine)} images could not be segmented.", "The lines above say why.")
    return [output.path for output in mine]


def _of_case(emit: Emit, output: Output) -> Emit:
    """Events say which case they are of, by the name of its file."""
    return lambda kind, **fields: emit(kind, **({} if kind == "progress" else {"case": output.name_of_file}), **fields)


def doubts_of_case(output: Output, volumes: list[Volume], models: Models) -> list[Doubt]:
    """What speaks against the images of a case, in the order of the models' channels."""
    found: list[Doubt] = []
    for channel, (path, volume) in enumerate(zip(output.images, volumes, strict=False)):
        if channel < len(models.channels):  # of too many or too few, segmenting will speak
            found += models.doubts_of_image(volume, dicom_modality(path), channel)
    return found


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
        import torch

        chosen, reason = choose_device(f"cuda:{share.local_rank % torch.cuda.device_count()}")
    return str(chosen), reason
