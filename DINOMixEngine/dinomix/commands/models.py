"""``dinomix models``: list, tell of, install, import, join, change, export, remove and verify models."""

import json
from pathlib import Path
from typing import Any

import click

from dinomix.commands.models_calibrate import command as calibrate_command
from dinomix.commands.models_export import command as export_command
from dinomix.commands.models_graph import command as graph_command
from dinomix.commands.models_info import command as info_command
from dinomix.commands.models_join import command as join_command
from dinomix.commands.models_quantize import command as quantize_command


@click.group("models", epilog="Example: dinomix models install abdominal-organs-3mm")
def command() -> None:
    """Models on this computer, and published ones to install; each can segment and be the start of a fine-tuning.

    Models lie in the first folder of DINOMIX_MODELS, else in ~/.dinomix/models.
    """


command.add_command(calibrate_command)
command.add_command(export_command)
command.add_command(graph_command)
command.add_command(info_command)
command.add_command(join_command)
command.add_command(quantize_command)


@command.command("list", epilog="Example: dinomix models list --json")
@click.option(
    "--folder", "folders", type=click.Path(path_type=Path), multiple=True, help="Look for models in this one too."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON line.")
def list_models(folders: tuple[Path, ...], as_json: bool) -> None:
    """Print which models are installed and which can be installed."""
    from dinomix.importing.catalog import read_catalog
    from dinomix.models.installed import describe_model, find_models, model_folders

    installed = [describe_model(path) for path in find_models([*model_folders(), *folders])]
    have = {Path(model["path"]).name for model in installed}
    catalog = [{**entry.model_dump(mode="json"), "installed": entry.name in have} for entry in read_catalog()]
    if as_json:
        line = {"kind": "models", "folder": str(model_folders()[0]), "installed": installed, "catalog": catalog}
        click.echo(json.dumps(line))
        return
    click.echo(f"Installed ({', '.join(map(str, model_folders()))}):")
    for model in installed:
        what = model["problem"] or f"{model['modality']}, {len(model['structures'])} structures"
        click.echo(f"  {_name_of(Path(model['path'])):22} {model['bytes'] / 1e6:7.0f} MB  {what}")
    if not installed:
        click.echo("  none")
    click.echo("\nTo install with `dinomix models install NAME`:")
    for entry in catalog:
        if not entry["installed"]:
            click.echo(f"  {entry['name']:22} {_size(entry):>10}  {entry['title']}; {_license(entry)}")


@command.command("install", epilog="Example: dinomix models install spleen-ct --from downloads/")
@click.argument("name", metavar="NAME|hf:OWNER/NAME")
@click.option(
    "--from",
    "origin",
    help="A file, or a folder or an address that holds the catalog's files.  "
    "[default: DINOMIX_MODELS_MIRROR, else the publisher]",
)
@click.option("--yes", is_flag=True, help="I have read the license; fetch the file.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
def install_model(name: str, origin: str | None, yes: bool, as_json: bool) -> None:
    """Install a model of the catalog or of the Hugging Face Hub, after you have agreed to its license.

    It is fetched, checked and converted once. An interrupted download goes on where it stopped. Proxies are those of the
    system.
    """
    from dinomix.events import shown_events
    from dinomix.importing import installing
    from dinomix.importing.catalog import find_entry
    from dinomix.models.installed import model_folders

    if name.startswith("hf:"):
        _install_from_hub(name, origin, yes, as_json)
        return
    entry = find_entry(name)
    there = (model_folders()[0] / entry.name / "manifest.json").is_file()
    address = None if there else installing.address_of(entry, origin)
    if isinstance(address, str) and not yes and not as_json:
        yes = _agrees(entry, address)
    with shown_events(as_json) as emit:
        path = installing.install(name, origin=origin, agreed=yes, emit=emit)
    _result(path, f"{entry.name} was installed already: {path}" if there else f"The model is in {path}.", as_json)


@command.command(
    "import", epilog="Example: dinomix models import nnUNet_results/Dataset500/nnUNetTrainer__nnUNetPlans__3d_fullres"
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the model.  [default: the source's]")
@click.option("--plan", type=click.Path(path_type=Path), help="For bare weights: network, grid, intensities and patch.")
@click.option(
    "--labels", type=click.Path(path_type=Path), help='For bare weights: {"1": "liver", ...} or a dataset.json.'
)
@click.option("--orientation", help="For nnU-Net: axes of the scans it was trained on, e.g. LPS.  [default: RAS]")
@click.option("--fold", help="For nnU-Net: which fold's weights are taken, e.g. 3 or all.  [default: the first]")
@click.option(
    "--all-folds",
    is_flag=True,
    help="For nnU-Net: all folds as one ensemble, as nnU-Net predicts; takes as many times as long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
def import_model(source: Path, as_json: bool, **options: Any) -> None:
    """Import a model: a folder or zip of DINOMix, a MONAI bundle, an Auto3DSeg model.pt, an nnU-Net v2 folder, or weights.

    Nothing that comes with it is executed. It is tried on a generated volume before it is kept.
    """
    from dinomix.events import shown_events
    from dinomix.importing import installing
    from dinomix.importing.hints import Hints

    name = options.pop("name")
    with shown_events(as_json) as emit:
        path = installing.import_model(source, name=name, hints=Hints(**options), emit=emit)
    notes = _notes(path)
    if as_json:
        click.echo(json.dumps({"kind": "result", "model": str(path), "notes": notes}))
        return
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"The model is in {path}.")


@command.command("remove", epilog="Example: dinomix models remove spleen-ct --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON line.")
def remove_model(name: str, yes: bool, as_json: bool) -> None:
    """Remove an installed model from the disk."""
    from dinomix.errors import DinomixError
    from dinomix.importing import installing

    path = installing.installed_model(name)
    if not yes and (as_json or not click.confirm(f"Remove {path}?", err=True)):
        raise DinomixError(f"{path} was not removed.", "Agree, or give --yes.")
    installing.remove(name)
    _result(path, f"{path} was removed.", as_json)


@command.command("verify", epilog="Example: dinomix models verify")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON line.")
def verify_models(name: str | None, as_json: bool) -> None:
    """Compare every file of one or all installed models with its hash, and the weights with their network."""
    from dinomix.errors import DinomixError
    from dinomix.importing import installing
    from dinomix.models.installed import find_models, model_folders

    paths = [installing.installed_model(name)] if name else find_models(model_folders())
    problems = {str(path): installing.verify(path) for path in paths}
    if as_json:
        click.echo(json.dumps({"kind": "verified", "problems": problems}))
    for path, problem in problems.items():
        if not as_json:
            click.echo(f"{_name_of(Path(path))}: {problem or 'whole'}")
    if any(problems.values()):
        raise DinomixError("Not all models are whole.", "Remove and install those again that the lines above name.")


def _install_from_hub(name: str, origin: str | None, yes: bool, as_json: bool) -> None:
    from dinomix.errors import DinomixError
    from dinomix.events import shown_events
    from dinomix.importing import hub
    from dinomix.importing.installing import AGREE

    if origin is not None:
        raise DinomixError(
            "--from is for models of the catalog.", f"A mirror of the Hub is named by the variable {hub.ENDPOINT}."
        )
    if as_json and not yes:
        raise DinomixError(f"{name} would be fetched from {hub.endpoint()}; nothing was fetched.", AGREE, "license")
    model = hub.look_up(name)
    if not yes:
        click.echo(f"{model.name}: {len(model.files)} files of {model.homepage}", err=True)
        click.echo(f"  size        {model.bytes / 1e6:.0f} MB", err=True)
        click.echo(f"  license     {model.license or 'not stated: see its page'}", err=True)
        yes = _confirmed()
    with shown_events(as_json) as emit:
        path = hub.install_from_hub(model, agreed=yes, emit=emit)
    _result(path, f"The model is in {path}.", as_json)


def _agrees(entry: Any, address: str) -> bool:
    data = entry.model_dump(mode="json")
    click.echo(f"{entry.title}: {entry.description}", err=True)
    click.echo(f"  from        {address} ({_size(data)})", err=True)
    click.echo(f"  license     {entry.license} {entry.license_url}".rstrip(), err=True)
    click.echo(f"  publisher   {entry.publisher}, {entry.homepage}", err=True)
    click.echo(f"  to cite     {entry.citation}", err=True)
    if entry.download.sha256 is None:
        click.echo(f"  hash        {entry.download.hash_note}", err=True)
    return _confirmed()


def _confirmed() -> bool:
    try:
        return click.confirm("Do you agree to its license, and shall it be fetched?", err=True)
    except click.Abort:
        return False


def _size(entry: dict[str, Any]) -> str:
    if entry["download"]["bytes"]:
        return f"{entry['download']['bytes'] / 1e6:.0f} MB"
    return f"~{entry['approximate_bytes'] / 1e6:.0f} MB" if entry["approximate_bytes"] else "size ?"


def _license(entry: dict[str, Any]) -> str:
    return entry["license"] if len(entry["license"]) < 20 else "license not stated"


def _name_of(path: Path) -> str:
    return path.parent.name if path.name == "model" else path.name


def _notes(path: Path) -> list[str]:
    from dinomix.models.manifest import read_record

    return [str(note) for note in read_record(path).get("notes", [])]


def _result(path: Path, sentence: str, as_json: bool) -> None:
    click.echo(json.dumps({"kind": "result", "model": str(path)}) if as_json else sentence)
