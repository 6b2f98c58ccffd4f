"""Settings for three kinds of runs, by the time that they take: how many steps fit into it, this computer says."""

from dataclasses import asdict, dataclass
from typing import Any

from dinomix.errors import DinomixError
from dinomix.training.config import make_config


@dataclass(frozen=True)
class Preset:
    """``settings`` as ``--set`` takes them; ``description`` is for one who chooses."""

    name: str
    title: str
    description: str
    settings: dict[str, Any]


PRESETS = (
    Preset(
        "quick-look",
        "Quick look",
        "10 minutes: shows whether images, labels and settings fit together. A model trained before adapts visibly; one from "
        "scratch is not good yet, unless the computer has a graphics card and the structures are few.",
        {"time": 600.0, "fkd.slice_stride": 4},
    ),
    Preset(
        "standard",
        "Standard",
        "1 hour: enough to adapt a model that knows the organs, and with a graphics card for most cohorts.",
        {"time": 3600.0},
    ),
    Preset(
        "thorough",
        "Thorough",
        "8 hours, such as a night: for a model from scratch with many or rare structures.",
        {"time": 28800.0},
    ),
)


def preset_settings(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises DinomixError for a name that there is not."""
    for preset in PRESETS:
        if preset.name == name:
            return dict(preset.settings)
    names = ", ".join(preset.name for preset in PRESETS)
    raise DinomixError(f"There is no preset {name}.", f"Choose one of {names}.")


def presets_as_data() -> list[dict[str, Any]]:
    """Each preset as plain JSON data, with ``config``: all settings of a DINO-Mix run that it leads to.

    How it distils is "auto" there, since it depends on the device.
    """
    return [{**asdict(preset), "config": _config(preset)} for preset in PRESETS]


def _config(preset: Preset) -> dict[str, Any]:
    config = make_config(**preset.settings).model_dump(mode="json")
    return {**config, "fkd": {**config["fkd"], "mode": "auto"}}
