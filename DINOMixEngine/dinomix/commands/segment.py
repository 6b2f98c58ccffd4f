"""``dinomix segment``: label volumes from images and a model."""

import sys
from pathlib import Path
from typing import Any, Literal

import click

from dinomix.errors import DinomixError
from dinomix.images.formats import FORMATS, Format

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@click.command(
    epilog="Example: dinomix segment --model RUN/model scans/ --out segmentations/ --format seg.nrrd", name="segment"
)
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Model folder, such as RUN/model. Of several, an earlier one goes before a later one, in each voxel and where both know "
    "a structure.",
)
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME=FILE",
    help="For a model that takes several images of a case: the image of this channel, given once for each. With IMAGE, a pattern "
    "of its files' names or series' descriptions, such as 't2=*T2*TRA*'.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File for one image, else a folder.")
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    help="Default: that of --out's name, or nii.gz. dicom-seg and rtstruct are for DICOM series: they lie on its slices "
    "and carry its patient and study.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--max-memory", help="Main memory that may be used, such as 8G.  [default: no limit]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "int8"]),
    default="auto",
    show_default=True,
    help="auto: 8 bits where the model carries a graph of those (`models quantize`); else bfloat16, about twice as fast, "
    "where the device is made for it and each structure stays as in float32.",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "pytorch", "openvino", "openvino-gpu"]),
    default="auto",
    show_default=True,
    help="What computes on a processor. auto: OpenVINO where it is installed and a trial, made once for each model, finds it "
    "faster and its labels the same. openvino-gpu: Intel graphics, where their labels are those of the processor.",
)
@click.option("--keep", multiple=True, metavar="STRUCTURE", help="Keep only this structure; may be repeated.")
@click.option(
    "--inside",
    multiple=True,
    metavar="STRUCTURE",
    help="Compute only in the box around this structure: for the further models, as the first one has found it; with one model, "
    "as a quick pass of it finds it. May be repeated.",
)
@click.option(
    "--found-by",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="With --inside: the model that finds it, of which nothing else is used.",
)
@click.option(
    "--all-pieces", is_flag=True, help="Keep also small pieces that lie apart from a structure's largest one."
)
@click.option(
    "--clean-up",
    multiple=True,
    metavar="[STRUCTURE=]RULE",
    help="Remove pieces of this structure, or of all: largest keeps only the largest piece, 0.5ml those of at least that size. "
    "May be repeated. What the model's own validation has shown to be right is done anyway.",
)
@click.option(
    "--mirror",
    is_flag=True,
    help="Average each window with its mirror images, along the axes for which the model was trained with such; takes two to "
    "eight times as long.",
)
@click.option(
    "--regions",
    is_flag=True,
    help="Write a mask for each region of the model, such as a whole tumor, into NAME_regions/ too; in DICOM, into the file.",
)
@click.option(
    "--uncertainty",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Also a map of how likely each voxel's label is wrong, in percent: .nii.gz or .nrrd for one image, else a folder.",
)
@click.option(
    "--statistics", type=click.Path(path_type=Path), metavar="FILE", help="Also a table of measurements, .csv or .json."
)
@click.option(
    "--preview", is_flag=True, help="Also a picture of each case, and of a folder a page of all, overview.html."
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also a record of the call, .json: images, model, settings, results with their hashes, and what was said.",
)
@click.option(
    "--any-image",
    is_flag=True,
    help="Segment also what looks like no image for this model, such as a CT that is not in HU.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Write events as JSON lines to stdout.")
def command(
    models: tuple[Path, ...],
    images: tuple[Path, ...],
    channels: tuple[str, ...],
    out: Path,
    format: Format | None,
    device: str,
    max_memory: str | None,
    precision: Literal["auto", "float32", "bfloat16", "int8"],
    runtime: Literal["auto", "pytorch", "openvino", "openvino-gpu"],
    keep: tuple[str, ...],
    inside: tuple[str, ...],
    found_by: Path | None,
    all_pieces: bool,
    clean_up: tuple[str, ...],
    mirror: bool,
    regions: bool,
    uncertainty: Path | None,
    statistics: Path | None,
    preview: bool,
    manifest: Path | None,
    any_image: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Segment images, each on its own grid.

    IMAGE is a file, a DICOM folder, or a folder of images or of DICOM at any depth. For a model that takes several images of a
    case, such as T1 and T2, these are files NAME_0000, NAME_0001, ..., 4D files, or a folder for each case with an image for
    each channel; or each is named with --channel. A batch that was interrupted goes on where it stopped when the same command
    is given again; several GPUs share it under `accelerate launch -m dinomix segment ...`. The exit code is 0 when every image
    was segmented, else 2.
    """
    limit = parse_size(max_memory) if max_memory else None
    by_channel = name_and_value(channels)
    if not images and not by_channel:
        raise DinomixError("No image was given.", "Name one or more, or --channel NAME=FILE for each channel.")

    from dinomix.images.image_headers import count_volumes
    from dinomix.images.reading import check_header

    if len(images) == 1 and not images[0].is_dir() and count_volumes(images[0]) == 1:
        check_header(images[0])  # told at once, while PyTorch takes seconds to load

    from tqdm import tqdm

    from dinomix.arrays import has_torch
    from dinomix.events import shown_events
    from dinomix.inference.options import Options
    from dinomix.inference.several_models import Models
    from dinomix.models.folder import load_model
    from dinomix.models.light_monai import import_monai_for_networks
    from dinomix.report.segmenting import segment_and_report

    if has_torch():
        import_monai_for_networks()
    rules = {name: rule for name, _, rule in (option.rpartition("=") for option in clean_up)}
    options = Options(device, limit, precision, runtime, all_pieces, mirror, rules)
    with shown_events(as_json) as shown:

        def emit(kind: str, **fields: Any) -> None:
            shown(kind, **fields)
            if kind == "error":
                # Above a progress bar, if there is one.
                tqdm.write(f"Error: {fields['message']} {fields['remedy']}".strip(), file=sys.stderr)

        written = segment_and_report(
            Models.of([load_model(model) for model in models], inside, load_model(found_by) if found_by else None),
            list(images),
            out,
            options,
            statistics=statistics,
            preview=preview,
            manifest=manifest,
            any_image=any_image,
            channels=by_channel,
            format=format,
            keep=keep,
            regions=regions,
            uncertainty=uncertainty,
            overwrite=overwrite,
            emit=emit,
        )
    if not as_json:
        for path in written:
            print(path)


def name_and_value(options: tuple[str, ...]) -> dict[str, str]:
    """The options ``--channel NAME=VALUE``. Raises DinomixError for one that is no such pair, or comes twice."""
    pairs: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals and value) or name in pairs:
            what = "was given twice" if name in pairs else "does not say NAME=FILE"
            raise DinomixError(
                f"--channel {option} {what}.", "Give each channel once, such as --channel t1=scan_t1.nii.gz."
            )
        pairs[name] = value
    return pairs


def parse_size(text: str) -> int:
    """Bytes from "8G", "500M" or "1.5 GB"; units are powers of 1024. Raises DinomixError on anything else."""
    number = text.strip().upper().removesuffix("B").removesuffix("I").strip()
    try:
        size = int(float(number[:-1]) * UNITS[number[-1]]) if number[-1] in UNITS else int(number)
    except (ValueError, IndexError, OverflowError):
        size = 0
    if size <= 0:
        raise DinomixError(f"--max-memory {text!r} is not an amount of memory.", "Give one such as 8G or 500M.")
    return size
