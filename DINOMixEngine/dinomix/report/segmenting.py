"""Segmenting files, and saying what came of it: ``segment`` with a table of measurements, pictures and a page."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.images.formats import Format
from dinomix.inference.batch import segment_files
from dinomix.inference.channels import find_case_images
from dinomix.inference.options import Options
from dinomix.inference.outputs import plan_outputs
from dinomix.inference.segment import kept_labels
from dinomix.inference.several_models import Models
from dinomix.measuring.table import check_table, is_table_of_measurements
from dinomix.report.job import Job, check_record


def segment_and_report(
    models: Models,
    images: list[Path],
    out: Path,
    options: Options,
    *,
    statistics: Path | None,
    preview: bool,
    manifest: Path | None,
    channels: Mapping[str, str | Path] | None = None,
    format: Format | None = None,
    keep: tuple[str, ...] = (),
    overwrite: bool = False,
    emit: Emit,
    **more: Any,
) -> list[Path]:
    """As ``segment_files``, and what is asked for beside the labels is written, also where some images failed.

    Args:
        statistics: a table of measurements, .csv or .json; None for none.
        preview: a picture of each case, and of a folder the page ``overview.html``.
        manifest: the record of the call, see ``job``; None for none.
        more: further arguments of ``segment_files``.

    Raises:
        DinomixError: as ``segment_files``; the table, page or record would take the place of a file of somebody else.
    """
    more |= {"channels": channels, "format": format, "keep": keep, "overwrite": overwrite}
    if statistics is None and not preview and manifest is None:
        return segment_files(models, images, out, options, **more, emit=emit)

    outputs = plan_outputs(find_case_images(images, models.channels, channels or {}), out, format)
    if statistics is not None:
        # A batch that goes on has more cases for its own table.
        check_table(statistics, overwrite or is_table_of_measurements(statistics))
    if manifest is not None:
        check_record(manifest, overwrite)
    settings = {**asdict(options), **more, "inside": models.inside}
    job, batch = Job(models, {key: _plain(value) for key, value in settings.items()}), None
    if statistics is not None or preview:
        # Drawing takes a second to load.
        from dinomix.report.batch import Batch, check_page

        if preview and outputs[0].record is not None:
            check_page(out, overwrite)
        batch = Batch(kept_labels(models.labels, keep), models, statistics, preview)
        more |= {"done": batch.add, "predicts_dice": True}
    heard = job.listening(emit)
    try:
        return segment_files(models, images, out, options, **more, emit=heard)
    except DinomixError as error:
        if len(outputs) == 1:
            job.failed(outputs[0], error)
        raise
    finally:
        if os.environ.get("RANK", "0") == "0":  # of several processes, one writes for all
            for path in batch.write(outputs) if batch is not None else ():
                heard("written", path=str(path))
            if manifest is not None:
                job.write(manifest, outputs)
                emit("written", path=str(manifest))


def _plain(value: Any) -> Any:
    """As JSON has it."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case Path():
            return str(value)
    return value
