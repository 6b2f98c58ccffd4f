"""Options of training that several verbs take alike."""

from collections.abc import Callable
from typing import Any, get_args

import click

from dinomix.files import parse_json
from dinomix.training.methods import MethodName

_METHOD_OPTIONS = (
    click.option(
        "--method",
        type=click.Choice(get_args(MethodName)),
        default="dino-mix",
        show_default=True,
    ),
    click.option(
        "--fkd",
        type=click.Choice(["auto", "on-the-fly", "cached", "off"]),
        help="Distil a frozen foundation model.  [default: auto, cached on a processor and on the fly on a GPU, for dino-mix "
        "where the teacher's weights are at hand]",
    ),
    click.option("--pic", type=click.Choice(["on", "off"]), help="Imbalance-aware CutMix."),
    click.option(
        "--teacher", help="A timm name, NAME=FILE, a DINOv3 file, or random[:NAME].  [default: vit_base_patch16_dinov3]"
    ),
    click.option("--download-teacher", is_flag=True, help="I have read the weights' licence; let timm fetch them."),
)


def method_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say how to train; ``method_arguments`` reads those of the method."""
    for option in reversed(_METHOD_OPTIONS):
        command = option(command)
    return command


def method_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments ``method``, ``pic`` and ``fkd`` of ``make_config``; None for what the method decides."""
    pic = {"on": True, "off": False, None: None}[options["pic"]]
    return {"method": options["method"], "pic": pic, "fkd": options["fkd"]}


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE with a JSON value, a list "96,96,64", or a plain word."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise click.UsageError(f"--set {setting} is not KEY=VALUE.")
        if key in ("method", "pic", "fkd"):
            raise click.UsageError(f"Give --{key} instead of --set {setting}.")
        try:
            parsed[key] = parse_json(text.encode())
        except ValueError:
            try:
                parsed[key] = parse_json(f"[{text}]".encode()) if "," in text else text
            except ValueError:
                parsed[key] = text
    return parsed
