"""``dinomix models info``: all there is to know of one model."""

import json
from pathlib import Path
from typing import Any

import click

from dinomix.errors import DinomixError


@click.command("info", epilog="Example: dinomix models info abdominal-organs-3mm --json")
@click.argument("model", metavar="NAME|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON line.")
def command(model: str, as_json: bool) -> None:
    """Print what an installed model, or a model folder, is for, what it knows and what it was trained on."""
    from dinomix.importing.installing import folder_or_installed
    from dinomix.models.installed import describe_model

    folder = folder_or_installed(model)
    told = describe_model(folder)
    if told["problem"]:
        raise DinomixError(told["problem"])
    if as_json:
        click.echo(json.dumps({"kind": "model", **told}))
        return
    for name, value in _lines(told):
        click.echo(f"{name + ':':16} {value}")


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    """What a reader wants to know first; ``--json`` has all of it."""
    from dinomix.models.calibration import Calibration
    from dinomix.models.training_cases import TrainingCases
    from dinomix.planning.in_words import in_words
    from dinomix.planning.plan import Plan

    images = ", ".join(f"{c['name']} ({c['modality']})" if c["name"] else c["modality"] for c in told["channels"])
    lines = [
        ("Title", told["title"]),
        ("Folder", told["path"]),
        ("Images", images),
        ("Structures", ", ".join(structure["name"] for structure in told["structures"])),
        ("License", told["license"] or "not stated"),
        ("Training data", told["data_source"] or "not stated"),
    ]
    if cases := TrainingCases.of_record(told["record"]):
        spacing, extent = (" x ".join(map(_range, values)) for values in (cases.spacing, cases.extent))
        lines.append(("Trained on", f"voxels of {spacing} mm, images of {extent} mm (right-left, back-front, down-up)"))
    plan = Plan.read(Path(told["path"]) / "plan.json")
    if plan.more_networks:
        lines.append(("Networks", f"{len(plan.networks)}, whose probabilities are averaged"))
    calibration = Calibration.of_record(told["record"])
    lines.append(("Calibrated", calibration.in_words if calibration is not None else "no"))
    lines.append(("Graph", _graph(Path(told["path"]))))
    return [
        *lines,
        ("Plan", in_words(plan)),
        ("Fingerprint", told["fingerprint"]),
    ]


def _graph(folder: Path) -> str:
    from dinomix.models.manifest import EIGHT_BITS, GRAPHS

    size, of_eight_bits = (
        sum((folder / name).stat().st_size for name in names if (folder / name).is_file())
        for names in (GRAPHS, EIGHT_BITS)
    )
    if not size:
        return "none; `dinomix models graph` writes it"
    told = f"{size / 1e6:.1f} MB, for OpenVINO without PyTorch"
    return f"{told}; {of_eight_bits / 1e6:.1f} MB with 8 bits" if of_eight_bits else told


def _range(ends: tuple[float, float]) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return low if low == high else f"{low}..{high}"
