"""The settings of a run that a user may want to change; all others are those of the preset."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

PATCH = "plan.patch"
FKD_MODE = "fkd.mode"
PIC_ON = "pic.enabled"
OPTIONS = (FKD_MODE, PIC_ON)
"""Settings that have an option of their own on the command line."""


@dataclass(frozen=True)
class Setting:
    """A setting with its widget.

    Attributes:
        key: dotted, as ``--set`` takes it.
        kind: "int", "float", "bool", "choice" or "patch".
        low, high: of numbers, both included.
        choices: (value, text) of a "choice".
    """

    key: str
    title: str
    toolTip: str
    kind: str
    low: float = 0
    high: float = 1
    decimals: int = 3
    choices: tuple[tuple[str, str], ...] = ()


def advancedSettings() -> tuple[Setting, ...]:
    """All of them, in the order in which they are shown."""
    return (
        Setting(
            "steps", _("Steps"),
            _("How many times the network is improved, each time with one batch of patches. Time grows with it."),
            "int", 1, 10_000_000,
        ),
        Setting(
            "learning_rate", _("Learning rate"),
            _("How far one step changes the network. Too large, and the loss becomes restless or not finite; too small, and "
              "training takes longer than it need."),
            "float", 0.000001, 10, 6,
        ),
        Setting(
            "batch_labeled", _("Labeled patches a step"),
            _("Patches of labeled cases in each step. More of them need more memory and time, and make steps steadier."),
            "int", 1, 64,
        ),
        Setting(
            "batch_unlabeled", _("Unlabeled patches a step"),
            _("Patches of unlabeled cases in each step; an even number, since PIC mixes them in pairs."),
            "int", 0, 64,
        ),
        Setting(
            PATCH, _("Patch"),
            _("Size of the patches that the network sees, in voxels along x, y, z, such as 96, 96, 64. Empty: as large as "
              "cases and memory allow. Larger ones show more surroundings and need more memory."),
            "patch",
        ),
        Setting(
            PIC_ON, _("PIC"),
            _("Progressive Imbalance-aware CutMix: boxes around rare organs are pasted into other patches, the rarest ones "
              "most often at the beginning. Switch it off to see what it brings."),
            "bool",
        ),
        Setting(
            "pic.kappa", _("PIC: kappa"),
            _("How long PIC prefers rare organs. Above 1 longer, below 1 shorter; at 1 the preference fades evenly."),
            "float", 0.01, 100, 2,
        ),
        Setting(
            "pic.probability", _("PIC: probability"),
            _("The chance that a patch gets a box pasted into it."),
            "float", 0, 1, 2,
        ),
        Setting(
            FKD_MODE, _("FKD"),
            _("When the teacher looks at the images, if there is one: at each patch as it is trained on, or once at each whole "
              "case before training, which is faster afterwards and needs space on the disk."),
            "choice", choices=(("on-the-fly", _("at each patch")), ("cached", _("once at each case"))),
        ),
        Setting(
            "ema_decay", _("EMA decay"),
            _("How slowly the averaged network, which labels the unlabeled cases and becomes the model, follows the trained "
              "one. Nearer to 1 is slower and smoother."),
            "float", 0, 0.9999, 4,
        ),
        Setting(
            "lambda_max", _("Weight of pseudo-labels"),
            _("How much the unlabeled cases count at the end of the run, against the labeled ones (lambda_max). 0 trains "
              "without them."),
            "float", 0, 100, 2,
        ),
        Setting(
            "pseudo_label_start", _("Pseudo-labels begin at"),
            _("The share of the steps after which the unlabeled cases begin to count. Too early, and the network learns from "
              "its own mistakes."),
            "float", 0, 0.99, 2,
        ),
        Setting(
            "validate_every", _("Validate every"),
            _("Steps between two validations. Each takes time; the best one decides which weights become the model."),
            "int", 1, 1_000_000,
        ),
        Setting(
            "checkpoint_every", _("Save every"),
            _("Steps between two checkpoints. A run that is killed goes on from its last one."),
            "int", 1, 1_000_000,
        ),
    )  # fmt: skip


def valueIn(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key in a preset's whole configuration; None where it has none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def isSame(one: Any, other: Any) -> bool:
    """Whether two values of a setting are the same; numbers as far as a widget shows them."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def patchOf(text: str) -> list[int] | None:
    """A patch as the user writes it, "96, 96, 64" or "96x96x64"; None where it is none."""
    parts = [part for part in re.split(r"[\s,;x\u00d7]+", text.strip()) if part]
    if len(parts) != 3 or not all(part.isdigit() and 8 <= int(part) <= 1024 for part in parts):
        return None
    return [int(part) for part in parts]
