"""Segmenting files, and saying what came of it: ``segment`` with a table of measurements, pictures and a page."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinomix.events import Emit
from dinomix.inference.batch import segment_files
from dinomix.inference.channels import find_case_images
from dinomix.inference.outputs import plan_outputs
from dinomix.inference.segment import kept_labels
from dinomix.measuring.table import check_table, is_table_of_measurements
from dinomix.models.folder import Model


def segment_and_report(
    model: Model,
    images: list[Path],
    out: Path,
    *,
    statistics: Path | None,
    preview: bool,
    channels: Mapping[str, str | Path] | None = None,
    format: str | None = None,
    keep: tuple[str, ...] = (),
    overwrite: bool = False,
    emit: Emit,
    **options: Any,
) -> list[Path]:
    """As ``segment_files``, and what is asked for beside the labels is written, also where some images failed.

    Args:
        statistics: a table of measurements, .csv or .json; None for none.
        preview: a picture of each case, and of a folder the page ``overview.html``.
        options: further ones of ``segment_files``.

    Raises:
        DinomixError: as ``segment_files``; the table or the page would take the place of a file of somebody else.
    """
    options |= {"channels": channels, "format": format, "keep": keep, "overwrite": overwrite, "emit": emit}
    if statistics is None and not preview:
        return segment_files(model, images, out, **options)

    # Drawing takes a second to load.
    from dinomix.report.batch import Batch, check_page

    outputs = plan_outputs(find_case_images(images, model.plan.channels, channels or {}), out, format)
    if statistics is not None:
        # A batch that goes on has more cases for its own table.
        check_table(statistics, overwrite or is_table_of_measurements(statistics))
    if preview and outputs[0].record is not None:
        check_page(out, overwrite)
    batch = Batch(kept_labels(model.labels, keep), model, statistics, preview)
    try:
        return segment_files(model, images, out, **options, done=batch.add)
    finally:
        if os.environ.get("RANK", "0") == "0":  # of several processes, one writes for all
            for path in batch.write(outputs):
                emit("written", path=str(path))
