"""``dinomix mend``: a label map is put on its image's grid."""

import json
from pathlib import Path

import click

from dinomix.errors import DinomixError


@click.command(
    "mend",
    epilog="Example: dinomix mend --image study/images/case1.nii.gz --label study/labels/case1.nii.gz "
    "--out mended/case1.nii.gz",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    required=True,
    help="The image: a file or a DICOM folder. Or a folder of images.",
)
@click.option(
    "--label",
    type=click.Path(path_type=Path),
    required=True,
    help="The label map beside the image's grid. Or a folder of labels, called like the images.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The new file: .nii.gz, .nii, .nrrd, .mha, or .seg.nrrd, which keeps the names. Or a new folder.",
)
@click.option(
    "--axes",
    metavar="I,J,K",
    help="Where the header is wrong: the image's axes that the label's own run along, such as i,j,k, or k,-j,i where the second "
    "one runs the other way.",
)
@click.option(
    "--order",
    metavar="FILE|NAME,NAME",
    help="Which structures lie over which where a label has several in one voxel: the later wins.",
)
@click.option("--overwrite", is_flag=True, help="Replace what stands at --out.")
@click.option("--json", "as_json", is_flag=True, help="The result as a JSON line on stdout.")
def command(
    image: Path, label: Path, out: Path, axes: str | None, order: str | None, overwrite: bool, as_json: bool
) -> None:
    """Put a label map that was flipped, turned, cropped or padded on its image's grid, into a new file.

    No labeled voxel is lost or made up: where that is not possible, nothing is written. A header that says another place than the
    image's by less than a voxel gives way to the image's. One that says nothing, or is wrong, is passed over with --axes only:
    then look at the result over the image.

    Given folders, all labels are mended; those that need nothing are copied, so that the new folder can take the old one's place.
    """
    from dinomix.cohort.mending_folders import mend_folder
    from dinomix.cohort.overlapping import read_order
    from dinomix.events import shown_events
    from dinomix.images.image_headers import is_image_path
    from dinomix.images.mending import mend

    if out.exists() and not overwrite:
        raise DinomixError(f"{out} exists.", "Add --overwrite to replace it, or choose another name.", "exists")
    if out.exists() and out.samefile(label):
        raise DinomixError(f"{out} is the label itself.", "Choose another name: the label is left as it is.", "output")
    names = read_order(order) if order is not None else ()
    if label.is_dir() and image.is_dir() and not is_image_path(image):
        with shown_events(as_json) as emit:
            done = mend_folder(image, label, out, axes, names, emit=emit)
    else:
        done = {out: mend(image, label, out, axes, names)}
    for path, told in done.items():
        if as_json:
            click.echo(json.dumps({"kind": "mended", "path": str(path), "notices": told}))
        else:
            click.echo(" ".join(["Written:" if told else "Copied, since it needs nothing:", str(path), *told]))
