"""``dinomix measure``: volumes, intensities and places of the structures of segmentations, as one table."""

import json
from pathlib import Path
from typing import Any

import click


@click.command(
    "measure",
    epilog="Example: dinomix measure segmentations --images scans --labels RUN/model/labels.json --out measurements.csv",
)
@click.argument("segmentations", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SEGMENTATION...")
@click.option(
    "--images",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The images that were segmented, or their folder, for intensities; matched by name. May be repeated.",
)
@click.option(
    "--labels",
    "labels_path",
    type=click.Path(path_type=Path),
    help="The label set, such as a model's labels.json; .seg.nrrd and DICOM files carry their own.",
)
@click.option("--modality", type=click.Choice(["CT", "MR"]), help="CT: intensities are HU.  [default: without a unit]")
@click.option(
    "--order",
    metavar="FILE|NAME,NAME",
    help="Which structures lie over which where a file has several in one voxel: the later wins.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The table to write, .csv or .json.")
@click.option(
    "--radiomics",
    type=click.Path(path_type=Path),
    help="Also, or only: a table of radiomics, .csv or .json, by the package mirp; its settings are written beside it.",
)
@click.option(
    "--bin-width",
    type=click.FloatRange(0, min_open=True),
    help="With --radiomics: width of the bins of intensities.  [default: 25 HU with --modality CT]",
)
@click.option(
    "--bins", type=click.IntRange(2, 1024), help="With --radiomics: their number instead.  [default: 32 unless for CT]"
)
@click.option(
    "--spacing",
    type=click.FloatRange(0.1),
    metavar="MM",
    help="With --radiomics: resample image and structure to cubes of this size first.  [default: the image's voxels]",
)
@click.option("--overwrite", is_flag=True, help="Replace what stands at --out and --radiomics.")
@click.option("--json", "as_json", is_flag=True, help="Events and the rows as JSON lines on stdout.")
def command(
    segmentations: tuple[Path, ...],
    images: tuple[Path, ...],
    labels_path: Path | None,
    modality: str | None,
    order: str | None,
    out: Path | None,
    radiomics: Path | None,
    bin_width: float | None,
    bins: int | None,
    spacing: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure each structure of segmentations: one row for each case and structure.

    SEGMENTATION is a label file or a folder of them. Volume, extent, center of mass, connected components, and whether the
    structure reaches the edge of the image; with --images also mean, standard deviation and percentiles of the
    intensities. With --radiomics, some 170 features of shape, intensities and texture, as the Image Biomarker
    Standardisation Initiative defines them.
    """
    from dinomix.cohort.overlapping import read_order
    from dinomix.errors import DinomixError
    from dinomix.events import shown_events
    from dinomix.labels import LabelSet
    from dinomix.measuring.measure import measure_files
    from dinomix.measuring.radiomics import check_radiomics, radiomics_of_files, settings_of, write_radiomics
    from dinomix.measuring.table import check_table, write_table

    if out is None and radiomics is None:
        raise DinomixError("There is no table to write.", "Give one with --out, or --radiomics.")
    if out == radiomics:
        raise DinomixError("Both tables have the same name.", "Give --radiomics another one.")
    if radiomics is None and (bin_width, bins, spacing) != (None, None, None):
        raise DinomixError(
            "--bin-width, --bins and --spacing are settings of radiomics.",
            "Give their table with --radiomics FILE.csv.",
        )
    if out is not None:
        check_table(out, overwrite)
    settings = settings_of(modality, bin_width=bin_width, bins=bins, spacing=spacing)
    if radiomics is not None:
        check_radiomics(radiomics, images, overwrite)
    labels = LabelSet.read(labels_path) if labels_path else None
    names = read_order(order) if order is not None else ()
    if out is not None:
        with shown_events(as_json) as emit:
            found = measure_files(
                segmentations, images=images, labels=labels, modality=modality, order=names, emit=emit
            )
        write_table(out, found)
        _tell(out, found, "measurements", as_json)
    if radiomics is not None:
        with shown_events(as_json) as emit:
            found = radiomics_of_files(segmentations, images, settings, labels=labels, order=names, emit=emit)
        write_radiomics(radiomics, found, settings)
        _tell(radiomics, found, "radiomics", as_json)


def _tell(path: Path, rows: list[dict[str, Any]], kind: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"kind": kind, "path": str(path), "rows": rows}))
    else:
        cases = len({row["case"] for row in rows})
        print(f"{len(rows)} structures of {cases} case{'s' * (cases != 1)} were measured.\nWritten: {path}")
