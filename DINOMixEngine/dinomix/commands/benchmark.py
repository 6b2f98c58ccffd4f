"""``dinomix benchmark``: a published protocol on the user's copy of its data."""

import json
from pathlib import Path
from typing import Any

import click

from dinomix.commands.settings import method_arguments, method_options, parse_settings
from dinomix.errors import DinomixError


@click.command(
    "benchmark",
    epilog="Example: dinomix benchmark synapse ~/data/Abdomen --method dino-mix --teacher ~/dinov3_vitb16.safetensors "
    "--seeds 0 1 2 --out benchmark-synapse. The same command continues what was interrupted.",
)
@click.argument("dataset", type=click.Choice(["synapse", "amos"]))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("more_seeds", nargs=-1, metavar="")
@click.option("--split", "split_name", metavar="NAME", help="A published split; --list names them.")
@click.option("--list", "list_splits", is_flag=True, help="Name the published splits of this data set and leave.")
@click.option("--check", is_flag=True, help="Only check the data, and write cohort.json and plan.json.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all results.  [default: benchmark-SPLIT]")
@click.option("--seeds", metavar="N N ...", help="After DIR: one training run for each.  [default: 0 1 2]")
@method_options
@click.option("--steps", type=int, help="[default: the published number: synapse 12000, amos 154500]")
@click.option(
    "--as-published",
    is_flag=True,
    help="The network and the patches of the released code: V-Net of 32 filters with dropout, flips, no other changes.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Any training setting; plan.KEY=VALUE changes the protocol, so that no published number compares.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Events and the result as JSON lines on stdout.")
def command(**options: Any) -> None:
    """Run a published protocol on your copy of its data and set the numbers beside the published ones."""
    from dinomix.evaluation.splits import find_split, read_splits
    from dinomix.events import shown_events

    if options["list_splits"]:
        for name, split in read_splits().items():
            if split.dataset == options["dataset"]:
                sizes = f"{len(split.labeled)} labeled, {len(split.unlabeled)} unlabeled, {len(split.val)} validation"
                print(f"{name}: {sizes}, {len(split.test)} test. {split.source}. Used by {split.used_by}.")
        return
    split_name, split = find_split(options["dataset"], options["split_name"])
    seeds = _seeds(options["seeds"], options["more_seeds"])
    with shown_events(options["as_json"]) as emit:
        text, result = _run(options, split_name, split, seeds, emit)
    print(json.dumps(result) if options["as_json"] else text)


def _run(options: dict[str, Any], split_name: str, split: Any, seeds: list[int], emit: Any) -> tuple[str, Any]:
    from dinomix.memory import keep_freed_memory

    keep_freed_memory()
    from dinomix.models.light_monai import import_monai_for_training

    import_monai_for_training()
    from dinomix.evaluation import benchmark
    from dinomix.evaluation.comparison import as_text, compare
    from dinomix.files import write_json, write_text
    from dinomix.inference.devices import choose_device
    from dinomix.training.arranging import teacher_settings
    from dinomix.training.config import TrainConfig, make_config

    out: Path = options["out"] or Path(f"benchmark-{split_name}")
    dataset = options["dataset"]
    settings = {"optimizer": "sgd", **parse_settings(options["settings"])}  # as published
    overrides = {key.removeprefix("plan."): settings.pop(key) for key in list(settings) if key.startswith("plan.")}
    if options["as_published"]:
        settings = benchmark.PUBLISHED_SETTINGS | settings
    device, _ = choose_device(options["device"])
    settings["steps"] = options["steps"] or benchmark.PUBLISHED_STEPS[dataset]
    settings["device"] = "cpu" if device.type == "cpu" else options["device"]
    settings.update(teacher_settings(options["teacher"], options["download_teacher"]))

    def config_for(seed: int) -> TrainConfig:
        arguments = method_arguments(options)
        if arguments["fkd"] == "auto":
            arguments["fkd"] = "on-the-fly"  # as published
        return make_config(**arguments, **settings, seed=seed)

    config = config_for(seeds[0])
    prepared = benchmark.prepare(
        dataset, options["folder"], split, out, overrides, emit, as_published=options["as_published"]
    )
    if options["check"]:
        roles = {role: len(prepared.cohort.with_role(role)) for role in ("labeled", "unlabeled", "validation", "test")}
        counts = ", ".join(f"{count} {role}" for role, count in roles.items())
        text = f"The data of {split_name} are complete: {counts}. Written: {out / 'cohort.json'}, {out / 'plan.json'}"
        return text, {"kind": "checked", "split": split_name, **roles}
    results = benchmark.run_benchmark(prepared, seeds, config_for, device=options["device"], emit=emit)
    named: dict[str, Any] = {
        "method": config.method,
        "as published": options["as_published"],
        "pic": config.pic.enabled,
        "fkd": config.fkd.mode,
        "steps": config.steps,
    }
    if config.fkd.mode != "off":
        named["teacher"] = config.fkd.teacher
    comparison = compare(dataset, split_name, split, results, named, prepared.deviations)
    text = as_text(comparison)
    write_json(out / "benchmark.json", comparison)
    write_text(out / "benchmark.txt", text)
    return f"{text}\nWritten: {out / 'benchmark.json'}, {out / 'benchmark.txt'}", {"kind": "benchmark", **comparison}


def _seeds(option: str | None, more: tuple[str, ...]) -> list[int]:
    """``--seeds 0 1 2``, "0 1 2" or 0,1,2; click leaves the words after the first one to the arguments."""
    if option is None:
        if more:
            raise DinomixError(f"There is no use for {' '.join(more)}.", "Write --seeds before the seeds.")
        return [0, 1, 2]
    words = [*option.replace(",", " ").split(), *more]
    if not words or not all(word.isdecimal() for word in words) or len(set(words)) != len(words):
        raise DinomixError(
            f"{' '.join(words)} are not seeds.", "Write different whole numbers after DIR: --seeds 0 1 2."
        )
    return [int(word) for word in words]
