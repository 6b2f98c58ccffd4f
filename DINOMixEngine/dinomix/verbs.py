"""The verbs ``segment`` and ``train`` of the command line as Python functions, with its options under the same names.

Mistakes that a user can mend raise ``DinomixError``; docs/python_api.md shows what else there is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomix.events import Emit, silent
from dinomix.images.formats import Format
from dinomix.inference.options import Options, Precision, RuntimeName
from dinomix.inference.several_models import Models
from dinomix.models.folder import Model, load_model
from dinomix.report.segmenting import segment_and_report

if TYPE_CHECKING:
    from dinomix.training.config import AskedFkd
    from dinomix.training.methods import MethodName


def segment(
    model: Model | str | Path | Sequence[Model | str | Path],
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    channels: Mapping[str, str | Path] | None = None,
    format: Format | None = None,
    device: str = "auto",
    max_memory: int | None = None,
    precision: Precision = "auto",
    runtime: RuntimeName = "auto",
    keep: Sequence[str] = (),
    inside: Sequence[str] = (),
    found_by: Model | str | Path | None = None,
    all_pieces: bool = False,
    mirror: bool = False,
    clean_up: Mapping[str, str] | None = None,
    regions: bool = False,
    uncertainty: str | Path | None = None,
    statistics: str | Path | None = None,
    preview: bool = False,
    manifest: str | Path | None = None,
    any_image: bool = False,
    overwrite: bool = False,
    emit: Emit = silent,
) -> list[Path]:
    """Segment images, each on its own grid; an interrupted batch goes on where it stopped when it is called again.

    Args:
        model: a model, or its folder; or several, whose structures come into one result. An earlier one goes before a later one,
            where both know a structure and in each voxel.
        images: files, DICOM folders, or folders of images; one or several. For a model that takes several images of a case:
            files NAME_0000, NAME_0001, ..., 4D files, or folders with an image for each channel.
        out: a file's name for one image, else a folder.
        channels: by the names in ``model.plan.channels``: the one case's images, with ``images`` empty; or patterns, such as
            {"t2": "*T2*TRA*"}, by which the files of ``images`` are told.
        format: of the files in ``out``; by default that of ``out``'s name, or nii.gz. "dicom-seg" and "rtstruct" are for DICOM
            series.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        max_memory: bytes of main memory that may be used; None for no limit.
        precision: "auto" (8 bits where the model carries a graph of those, else bfloat16 where each structure stays as in
            float32), "float32", "bfloat16" or "int8".
        runtime: what computes on a CPU: "auto" (OpenVINO where it is installed, faster, and gives the same labels), "pytorch",
            "openvino", or "openvino-gpu" for Intel graphics.
        keep: names of the structures to keep; empty for all.
        inside: structures around which there is a box in which alone is computed: those that the first of several models has
            found, for the others; that a quick pass of the only model finds; or that ``found_by`` finds, for all.
        found_by: a model that finds what ``inside`` names, of which nothing else is used.
        all_pieces: keep also small pieces that lie apart from a structure's largest one.
        mirror: average each window with its mirror images along axes for which the model was trained with such.
        clean_up: structure -> "largest" for its largest piece alone, or "0.5ml" for pieces of at least that; "" for all others.
        regions: write the regions of the model's labels, too: a mask file for each, into a folder NAME_regions; in DICOM, into
            the same file.
        uncertainty: also a map of how likely each voxel's label is wrong, in percent: a file for one image, else a folder.
        statistics: a table of measurements to write beside, .csv or .json; with the predicted Dice where the model is calibrated.
        preview: also a picture of each case, and of a folder a page of all, overview.html.
        manifest: a record of the call to write beside, .json.
        any_image: segment also what looks like no image for this model, such as a CT that is not in HU.
        overwrite: replace files that are there.
        emit: called with what happens, see ``dinomix.events``.

    Returns:
        The files that were written, or were there already from the same image and model.

    Raises:
        DinomixError: nothing can be segmented; or, after all the others are done, some images failed.
    """
    paths = [images] if isinstance(images, str | Path) else images
    several = [model] if isinstance(model, Model | str | Path) else model
    return segment_and_report(
        Models.of([_loaded(each) for each in several], tuple(inside), None if found_by is None else _loaded(found_by)),
        [Path(path) for path in paths],
        Path(out),
        Options(device, max_memory, precision, runtime, all_pieces, mirror, dict(clean_up or {})),
        channels=channels,
        format=format,
        keep=tuple(keep),
        regions=regions,
        uncertainty=None if uncertainty is None else Path(uncertainty),
        statistics=None if statistics is None else Path(statistics),
        preview=preview,
        manifest=None if manifest is None else Path(manifest),
        any_image=any_image,
        overwrite=overwrite,
        emit=emit,
    )


def _loaded(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def train(
    cohort: str | Path,
    out: str | Path,
    *,
    method: "MethodName" = "dino-mix",
    fkd: "AskedFkd | None" = None,
    pic: bool | None = None,
    teacher: str | None = None,
    download_teacher: bool = False,
    start: str | Path | None = None,
    keep_structures: bool = False,
    preset: str | None = None,
    steps: int | None = None,
    time: str | float | None = None,
    seed: int = 0,
    device: str = "auto",
    plan: str | Path | None = None,
    cache: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    emit: Emit = silent,
) -> Path:
    """Train a model from labeled and unlabeled volumes; ``resume`` goes on with a run that was stopped or killed.

    Args:
        cohort: the file that ``dinomix check`` wrote.
        out: the run directory, a new folder.
        method: "dino-mix", "mean-teacher", "cps" or "labeled-only".
        fkd: distillation of a frozen foundation model, "on-the-fly", "cached" or "off"; "auto" is one of the first two, by the
            device; None for what the method does.
        pic: imbalance-aware CutMix on or off; None for what the method does.
        teacher: of FKD, a timm name, "NAME=FILE" with its weights, a DINOv3 file, or "random"; None for vit_base_patch16_dinov3.
        download_teacher: you have read the licence of the teacher's weights; let timm fetch them.
        start: a model folder to begin with, whose classes match by name, or a file of an encoder's weights.
        keep_structures: structures that the start model knows and the labels do not show stay, taught by what it predicts.
        preset: "quick-look", "standard" or "thorough".
        steps: optimization steps; None for 2000, or the preset's. With ``time`` at most so many.
        time: "30m", "1h30m" or seconds that the run may take in all; as many steps as fit into it on this computer.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        plan: a plan.json to obey.
        cache: a folder for preprocessed cases that several runs share.
        settings: any other setting, such as ``{"pic.kappa": 2, "plan.patch": [96, 96, 64]}``; docs/method.md lists them.
        emit: called with what happens, see ``dinomix.events``.

    Returns:
        The model folder.

    Raises:
        DinomixError: a file, setting or option cannot be used, a run is there already, or the teacher's weights are missing.
        dinomix.training.control.RunPaused: the run was asked to pause, or paused itself, as for a full disk.
    """
    # Not before it is called: segmenting does without PyTorch.
    from dinomix.training import train as training
    from dinomix.training.arranging import arrange

    first = None if start is None else Path(start)
    run = arrange(
        Path(cohort),
        method=method,
        fkd=fkd,
        pic=pic,
        teacher=teacher,
        download_teacher=download_teacher,
        start=first,
        keep_structures=keep_structures,
        preset=preset,
        steps=steps,
        time=time,
        seed=seed,
        device=device,
        plan=None if plan is None else Path(plan),
        settings=settings,
        emit=emit,
    )
    shared = None if cache is None else Path(cache)
    return training.train(
        run.cohort,
        Path(out),
        run.config,
        run.plan,
        cache=shared,
        start=run.weights,
        start_model=first,
        second_start=run.second_weights,
        emit=emit,
    )
