"""``dinomix measure``: volumes, intensities and places of the structures of segmentations, as one table."""

import json
from pathlib import Path

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
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The table to write, .csv or .json.")
@click.option("--overwrite", is_flag=True, help="Replace what stands at --out.")
@click.option("--json", "as_json", is_flag=True, help="Events and the rows as JSON lines on stdout.")
def command(
    segmentations: tuple[Path, ...],
    images: tuple[Path, ...],
    labels_path: Path | None,
    modality: str | None,
    order: str | None,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure each structure of segmentations: one row for each case and structure.

    SEGMENTATION is a label file or a folder of them. Volume, extent, center of mass, connected components, and whether the
    structure reaches the edge of the image; with --images also mean, standard deviation and percentiles of the intensities.
    """
    from dinomix.cohort.overlapping import read_order
    from dinomix.events import shown_events
    from dinomix.labels import LabelSet
    from dinomix.measuring.measure import measure_files
    from dinomix.measuring.table import check_table, write_table

    check_table(out, overwrite)
    labels = LabelSet.read(labels_path) if labels_path else None
    with shown_events(as_json) as emit:
        names = read_order(order) if order is not None else ()
        found = measure_files(segmentations, images=images, labels=labels, modality=modality, order=names, emit=emit)
    write_table(out, found)
    if as_json:
        print(json.dumps({"kind": "measurements", "path": str(out), "rows": found}))
    else:
        cases = len({row["case"] for row in found})
        print(f"{len(found)} structures of {cases} case{'s' * (cases != 1)} were measured.\nWritten: {out}")
