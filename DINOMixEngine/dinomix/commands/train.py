"""``dinomix train``."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dinomix.commands.settings import method_arguments, method_options, parse_settings

if TYPE_CHECKING:
    from dinomix.training.arranging import Arranged


@click.command(
    "train",
    epilog="Example: dinomix train --cohort cohort.json --out run1 --method dino-mix --teacher ~/dinov3_vitb16.pth --steps 5000",
)
@click.option("--cohort", type=click.Path(path_type=Path), help="What `dinomix check` wrote.")
@click.option("--out", type=click.Path(path_type=Path), help="A new run directory; its model/ is the result.")
@click.option("--resume", type=click.Path(path_type=Path), help="Continue this run; no other option is needed.")
@click.option(
    "--finish", type=click.Path(path_type=Path), help="End this run, which no process trains, with its best model."
)
@method_options
@click.option("--preset", metavar="NAME", help="Settings for a kind of run: quick-look, standard or thorough.")
@click.option("--list-presets", is_flag=True, help="Say what the presets are, and nothing more.")
@click.option("--list-devices", is_flag=True, help="Say what a run can train on here, and nothing more.")
@click.option("--estimate", is_flag=True, help="Time a few real steps and say what the run would cost; writes nothing.")
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    help="Begin with a model folder, whose classes match by name, or an encoder's weights.",
)
@click.option(
    "--keep-structures", is_flag=True, help="Structures that only the start model knows stay, as it predicts them."
)
@click.option("--steps", type=int, help="Optimization steps.  [default: 2000]")
@click.option(
    "--time", metavar="DURATION", help="Time for the whole run, such as 30m, 2h or 1h30m, in place of --steps."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="Obey this plan.json.")
@click.option("--cache", type=click.Path(path_type=Path), help="Share preprocessed cases among runs.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, e.g. pic.kappa=2, plan.patch=96,96,64."
)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
def command(cohort: Path | None, out: Path | None, resume: Path | None, finish: Path | None, start: Path | None,
            plan_file: Path | None, cache: Path | None, as_json: bool, list_presets: bool, list_devices: bool, estimate: bool,
            **options: Any) -> None:  # fmt: skip
    """Train a model from labeled and unlabeled volumes, or resume a run.

    A run may be stopped at any moment, by Ctrl-C or a kill, and continued with --resume, or ended with --finish. More GPUs
    or machines: `accelerate launch -m dinomix train ...`. Another program asks for a pause or an early end by
    RUN/request.json.
    """
    if list_presets:
        return _tell_presets(as_json)
    if list_devices:
        return _tell_devices(as_json)
    # A request that comes while PyTorch is being loaded is for this process already.
    since = time.time()
    from dinomix.memory import keep_freed_memory

    keep_freed_memory()
    from dinomix.events import shown_events
    from dinomix.models.light_monai import import_monai_for_training

    import_monai_for_training()
    from dinomix.training import train as training
    from dinomix.training.control import RunPaused
    from dinomix.training.finish import finish as finish_run

    first = os.environ.get("RANK", "0") == "0"  # of the processes of `accelerate launch` one speaks
    try:
        with shown_events(as_json) as emit:
            if finish is not None:
                _refuse_besides("finish")
                model = finish_run(finish, emit=emit)
            elif resume is not None:
                _refuse_besides("resume")
                model = training.resume(resume, emit=emit, since=since)
            elif estimate:
                if cohort is None:
                    raise click.UsageError("Give --cohort, and the options that the run will have.")
                return _tell_estimate(cohort, start, plan_file, cache, emit, options, as_json)
            elif cohort is None or out is None:
                raise click.UsageError("Give --cohort and --out, or --resume RUN, or --finish RUN.")
            else:
                model = _begin(cohort, out, start, plan_file, cache, emit, since, options)
    except RunPaused as pause:
        if first:
            print(f"Paused: {pause} (dinomix train --resume {resume or out})", file=sys.stderr)
        raise click.exceptions.Exit(0 if pause.asked else 2) from pause
    if first:
        click.echo(json.dumps({"kind": "result", "model": str(model)}) if as_json else f"The model is in {model}.")


def _refuse_besides(verb: str) -> None:
    """A run keeps its own cohort and settings: an option that would be ignored is refused."""
    context = click.get_current_context()
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in (verb, "as_json")
        and context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"--{verb} takes cohort and settings from the run; leave out {', '.join(given)}.")


def _begin(cohort_file: Path, out: Path, start: Path | None, plan_file: Path | None, cache: Path | None, emit: Any,
           since: float, options: dict[str, Any]) -> Path:  # fmt: skip
    from dinomix.errors import DinomixError
    from dinomix.events import EventFile
    from dinomix.training import train as training

    is_first = os.environ.get("RANK", "0") == "0"
    try:
        run = _arranged(cohort_file, start, plan_file, emit, options)
        return training.train(
            run.cohort,
            out,
            run.config,
            run.plan,
            cache=cache,
            start=run.weights,
            start_model=start,
            second_start=run.second_weights,
            emit=emit,
            since=since,
        )
    except DinomixError as error:
        if is_first and out.is_dir() and not (out / "config.json").exists():
            # Who made the folder follows what becomes of the run that was to be in it.
            EventFile(out / "events.jsonl")("error", **error.fields)
        raise


def _tell_estimate(cohort_file: Path, start: Path | None, plan_file: Path | None, cache: Path | None, emit: Any,
                   options: dict[str, Any], as_json: bool) -> None:  # fmt: skip
    from dinomix.training.estimate import estimate

    run = _arranged(cohort_file, start, plan_file, emit, options)
    cost = estimate(run.cohort, run.config, run.plan, cache=cache, start_model=start, emit=emit)
    if as_json:
        click.echo(json.dumps({"kind": "estimate", **cost}))
        return
    minutes, giga = cost["seconds"] / 60, 2**30
    lasting = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    click.echo(
        f"About {lasting}: {cost['steps']} steps of {cost['seconds_per_step']:.2f} s, cases and validations included.\n"
        f"Memory {cost['memory_bytes'] / giga:.1f} GB, disk {cost['disk_bytes'] / giga:.2f} GB. {cost['reason']}\n"
        f"{' '.join(filter(None, (cost['pseudo_labels'], cost['plan'])))}"
    )


def _tell_presets(as_json: bool) -> None:
    from dinomix.training.presets import presets_as_data

    presets = presets_as_data()
    if as_json:
        click.echo(json.dumps({"kind": "presets", "presets": presets}))
        return
    for preset in presets:
        settings = " ".join(f"{key}={value}" for key, value in preset["settings"].items())
        click.echo(f"{preset['name']}: {preset['description']}\n  {settings}")


def _tell_devices(as_json: bool) -> None:
    from dinomix.inference.devices import choose_device, list_devices

    devices = list_devices()
    automatic, reason = choose_device("auto")
    if as_json:
        click.echo(json.dumps({"kind": "devices", "devices": devices, "automatic": str(automatic), "reason": reason}))
        return
    for device in devices:
        click.echo(f"{device['name']}: {device['title']}, {device['memory'] / 2**30:.1f} GB")
    click.echo(reason)


def _arranged(cohort: Path, start: Path | None, plan: Path | None, emit: Any, options: dict[str, Any]) -> "Arranged":
    """What a run with these options is made of."""
    from dinomix.training.arranging import arrange

    others = {
        name: options[name]
        for name in ("teacher", "download_teacher", "keep_structures", "preset", "steps", "time", "seed", "device")
    }
    settings = parse_settings(options["settings"])
    return arrange(cohort, start=start, plan=plan, settings=settings, emit=emit, **method_arguments(options), **others)
