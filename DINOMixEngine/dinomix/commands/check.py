"""``dinomix check``: find, pair and check cases; write the cohort file."""

import json
from pathlib import Path
from typing import Any

import click

from dinomix.errors import DinomixError


@click.command(
    "check",
    epilog="Example: dinomix check --labeled study/labeled --unlabeled study/unlabeled --test study/test --validation 0.2 "
    "--out cohort.json",
)
@click.option(
    "--labeled",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder or archive (.zip, .tar, .tar.gz) of images with labels: images/ and labels/ with equal names, imagesTr/ and "
    "labelsTr/ with dataset.json, pairs such as case.nii.gz and case.seg.nrrd, and others; see docs/cohorts.md. May be repeated.",
)
@click.option(
    "--unlabeled",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder or archive (.zip, .tar, .tar.gz) of images or of DICOM folders; labels there are never opened. May be repeated.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder or archive (.zip, .tar, .tar.gz) of images with labels, only to evaluate on. May be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The cohort file to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws below.")
@click.option(
    "--validation", type=float, default=0, metavar="N|FRACTION", help="Labeled cases to validate on.  [default: 0]"
)
@click.option(
    "--test-fraction", type=float, default=0, metavar="N|FRACTION", help="Labeled cases to set apart as test cases."
)
@click.option("--labeled-count", type=int, metavar="N", help="Keep N labeled cases; take the others as unlabeled.")
@click.option("--patient-pattern", metavar="REGEX", help="What in a case's name is the patient, e.g. '^(pat\\d+)'.")
@click.option(
    "--split", metavar="FILE[:KEY]", help="JSON with the names of labeled, unlabeled, validation, test cases."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help='The label set: {"1": "liver"}, dataset.json or a model\'s labels.json.',
)
@click.option(
    "--cases",
    "cases_file",
    type=click.Path(path_type=Path),
    help='More cases: [{"image": FILE, "label": FILE or null, "role": "labeled" | "unlabeled" | "validation" | "test"}]. '
    "They take the place of cases of folders with the same image. What is said of a label stands beside it, or, without "
    'an image, with the "name" of a case: "drawn": [NAMES] (completely, and nothing else), "absent": [NAMES], '
    '"not_drawn": [NAMES], "labeled_slices": [10, 20, 30].',
)
@click.option(
    "--partial",
    is_flag=True,
    help="Structures that a case lacks, and others have, were not drawn in it: nothing is learned of them there.",
)
@click.option(
    "--absent",
    multiple=True,
    metavar="NAME|all",
    help="A structure that patients may lack, as a removed gallbladder: where a case has none, it is not there. May be repeated.",
)
@click.option(
    "--labeled-slices",
    multiple=True,
    metavar="found|all|drawn|CASE=N,N,N",
    help="Slices that were labeled. found: those of labels that show single slices at equal distances. drawn: those that show "
    "anything. Of one case: numbers from 0 along the file's third axis.  [default: found]",
)
@click.option("--exclude", multiple=True, metavar="NAME", help="Leave out the case of this name. May be repeated.")
@click.option(
    "--rename",
    "renames",
    type=click.Path(path_type=Path),
    help='Other names: {"name in label files": "name in the cohort"}; null leaves the structure out.',
)
@click.option(
    "--order",
    metavar="FILE|NAME,NAME",
    help="Which structures lie over which where label files have several in one voxel: the later wins, as the tumor in "
    "liver,tumor. A JSON list in a file, or names with commas.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME[=PATTERN]",
    help="Where each case has several images, such as T1 and T2: the name of one, given for each in the network's order. Its "
    "files have the name's words in theirs, or in their DICOM series' description, or fit the pattern, such as 't2=*T2*TRA*'. "
    "Without it, dataset.json or the files tell.",
)
@click.option("--modality", type=click.Choice(["CT", "MR", "auto"]), default="auto", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace another cohort at --out.")
@click.option("--json", "as_json", is_flag=True, help="Events and the summary as JSON lines on stdout.")
def command(
    labeled: tuple[Path, ...],
    unlabeled: tuple[Path, ...],
    test: tuple[Path, ...],
    out: Path,
    split: str | None,
    order: str | None,
    as_json: bool,
    channels: tuple[str, ...],
    **options: Any,
) -> None:
    """Find, pair and check cases, and write the cohort file.

    All that would fail later is refused now, in one list: label and image on different grids, unknown or non-integer
    labels, empty cases, the same image twice, 4D or color images, NaN, damaged files. Then no cohort is written.

    Files that have not changed since the last check with the same --out are not read again.
    """
    from dinomix.cohort.checking import check_cohort
    from dinomix.cohort.overlapping import read_order
    from dinomix.cohort.problems import CohortError
    from dinomix.cohort.table import summary, table
    from dinomix.events import shown_events
    from dinomix.images.channel_files import channel_of_option

    try:
        with shown_events(as_json) as emit:
            cohort = check_cohort(
                list(labeled),
                list(unlabeled),
                list(test),
                split_file=split,
                out=out,
                emit=emit,
                order=read_order(order) if order is not None else (),
                channels=[channel_of_option(text) for text in channels],
                **options,
            )
    except CohortError as error:
        if len(error.problems) == 1:
            raise
        if not as_json:
            for number, problem in enumerate(error.problems, 1):
                click.echo(f"{number:3d}. {problem}", err=True)
        raise DinomixError(
            f"{len(error.problems)} problems were found; {out} was not written.",
            "Mend them and run the same command again.",
        ) from error
    data = summary(cohort)
    click.echo(
        json.dumps({"kind": "cohort", "path": str(out), **data}) if as_json else f"{table(data)}\n\nWritten: {out}"
    )
