"""``dinomix rank``: which case to label next, or first."""

import json
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from dinomix.training.next_case import DEFAULT, STRATEGIES, StrategyName

REPRESENTATIVE = "representative"


@click.command("rank", epilog="Example: dinomix rank run1, or before there is a model: dinomix rank cohort.json")
@click.argument("places", metavar="RUN|COHORT|FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice([*STRATEGIES, REPRESENTATIVE]),
    help="What comes first: disagreement of EMA teacher and student, the lowest Dice that the network itself expects, the "
    "most uncertain structures in turns (clasp-pe), or chance, mostly by what is seen of the structures or alone.  "
    f"[default: {DEFAULT}; without a run {REPRESENTATIVE}]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is left to chance.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Without a run: of cases.  [default: 10, at most a third of the unlabeled ones]",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Without a run: write the result there.")
@click.option("--overwrite", is_flag=True, help="Replace what stands at --out.")
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(
    places: tuple[Path, ...],
    by: str | None,
    seed: int,
    device: str,
    count: int | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Rank the unlabeled cases: which to label next, or first.

    Of a RUN: writes RUN/ranking, ranking.json and the run's segmentation of each case, to be corrected. What an
    interrupted call finished is kept.

    Before there is a run, of a COHORT file, a list of cases or FOLDERs of images: chooses the cases that represent the
    others best, by how their images look.
    """
    from dinomix.errors import DinomixError
    from dinomix.events import shown_events

    runs = [place for place in places if (place / "config.json").is_file() or not place.exists()]
    if runs and len(places) > 1:
        raise click.UsageError(f"{runs[0]} is a run, or is not there; one run is ranked at a time.")
    is_run = bool(runs)
    _refuse(("count", "out", "overwrite") if is_run else ("seed", "device"), is_run)
    if is_run and by == REPRESENTATIVE:
        raise click.UsageError("--by representative looks at no network: give the cohort file in place of the run.")
    if not is_run and by not in (None, REPRESENTATIVE):
        raise click.UsageError(f"--by {by} needs the networks of a run; without one there is only {REPRESENTATIVE}.")
    with shown_events(as_json) as emit:
        if out is not None and out.exists() and not overwrite:
            raise DinomixError(f"{out} exists.", "Add --overwrite to replace it, or choose another name.")
        if is_run:
            from dinomix.models.light_monai import import_monai_for_training

            import_monai_for_training()
            from dinomix.training.ranking import rank_run

            result = rank_run(runs[0], by=cast(StrategyName, by or DEFAULT), seed=seed, device=device, emit=emit)
            out = runs[0] / "ranking" / "ranking.json"
        else:
            from dinomix.training.next_case.representing import cases_in, rank_images

            result = rank_images(cases_in(places), count, out=out, emit=emit)
    if as_json:
        click.echo(json.dumps({"kind": "ranking", "path": str(out) if out is not None else None, **result}))
        return
    for case in result["cases"]:
        click.echo(_of_run(case, result["by"]) if is_run else _of_images(case))


def _refuse(names: tuple[str, ...], is_run: bool) -> None:
    """An option that would be ignored is refused."""
    context = click.get_current_context()
    given = [f"--{n}" for n in names if context.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"{' and '.join(given)}: only {'without' if is_run else 'for'} a run.")


def _of_run(case: dict[str, Any], by: str) -> str:
    score = "-----" if case["score"] is None else f"{case['score']:.3f}"
    known = [(value, name) for name, value in case["classes"].items() if value is not None]
    worst = sorted(known, reverse=by != "predicted-dice")[:3]
    return f"{score}  {case['name']}  {', '.join(f'{name} {value:.2f}' for value, name in worst)}".rstrip()


def _of_images(case: dict[str, Any]) -> str:
    others = case["represents"] - 1
    like = f"like {others} other{'s' * (others > 1)}: {', '.join(case['nearest'])}" if others else "like no other"
    return f"{case['name']}  {like}{', ...' if others > len(case['nearest']) else ''}"
