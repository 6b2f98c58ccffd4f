"""``dinomix report``: one self-contained page about a run."""

from pathlib import Path

import click


@click.command("report", epilog="Example: dinomix report run1 --prediction segmented --reference data/test/labels")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file to write.  [default: RUN/report.html]")
@click.option(
    "--prediction", type=click.Path(path_type=Path), help="Folder of segmentations of held-out cases, for the overlays."
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Folder of reference labels of the same names.  [default: the labels that the cohort names]",
)
@click.option(
    "--metrics", type=click.Path(path_type=Path), help="What `dinomix evaluate` wrote.  [default: RUN/metrics.json]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON line.")
def command(
    run: Path, out: Path | None, prediction: Path | None, reference: Path | None, metrics: Path | None, as_json: bool
) -> None:
    """Write report.html for a run: curves, Dice per structure, overlays, what PIC drew, pseudo-labels over time.

    The run may still be training; what is not there yet is named.
    """
    import json

    from dinomix.report.overlays import read_overlays
    from dinomix.report.report import write_report
    from dinomix.report.run_files import read_metrics, read_run

    out = out or run / "report.html"
    overlays = read_overlays(read_run(run), prediction, reference) if prediction else ()
    write_report(run, out, metrics=read_metrics(metrics) if metrics else None, overlays=overlays)
    click.echo(json.dumps({"kind": "result", "report": str(out)}) if as_json else f"The report is {out}.")
