"""Settings for three kinds of runs. What one costs on a computer depends on its cases and devices: ``estimate`` measures it."""

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
        "200 steps: minutes on a graphics card or, with small patches, on a processor. Shows whether images, labels and "
        "settings fit together; a model trained before adapts visibly, one from scratch is not good yet.",
        # AdamW, since in so few steps SGD hardly leaves the start.
        {
            "steps": 200,
            "optimizer": "adamw",
            "learning_rate": 0.001,
            "validate_every": 50,
            "checkpoint_every": 50,
            "fkd.slice_stride": 4,
        },
    ),
    Preset(
        "standard",
        "Standard",
        "2,000 steps: about half an hour on a graphics card, an hour or several on a processor. Enough for most cohorts of "
        "small structures, and to adapt a model that knows the organs.",
        {"steps": 2000, "validate_every": 200, "checkpoint_every": 100},
    ),
    Preset(
        "thorough",
        "Thorough",
        "10,000 steps: hours on a graphics card, a day or more on a processor. For a model from scratch with many or rare "
        "structures.",
        {"steps": 10000, "validate_every": 500, "checkpoint_every": 250},
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
    """Each preset as plain JSON data, with ``config``: all settings of a DINO-Mix run that it leads to."""
    return [{**asdict(preset), "config": make_config(**preset.settings).model_dump(mode="json")} for preset in PRESETS]
