"""The advanced settings, which are laid out in the ``.ui`` file; only those that differ from the preset are kept."""

from __future__ import annotations

import math
import re
from typing import Any

import qt
from slicer.i18n import tr as _

from dinomix.durations import as_duration, seconds_of
from dinomix.errors import DinomixError
from dinomix_slicer.signal import Signal
from dinomix_slicer.window.widgets import isBeingTyped, signalsBlocked

PATCH, FKD_MODE, PIC_ON, TIME, STEPS, METHOD = "plan.patch", "fkd.mode", "pic.enabled", "time", "steps", "method"
OPTIONS = (FKD_MODE, PIC_ON, TIME, STEPS, METHOD)
"""Settings that have an option of their own on the command line."""
LENGTHS = (TIME, STEPS)
"""What says how long a run is; one takes the place of the other."""
TEXTS = (PATCH, TIME)
AUTOMATIC = (STEPS, "validate_every", "checkpoint_every")
"""Numbers of which 0 stands for what the engine chooses."""
CHOICES = {FKD_MODE: ("auto", "on-the-fly", "cached"), METHOD: ("dino-mix", "cps")}
"""Values in the order of their combo box."""
KINDS = (
    (qt.QSpinBox, "valueChanged(int)", "value"),
    (qt.QDoubleSpinBox, "valueChanged(double)", "value"),
    (qt.QCheckBox, "toggled(bool)", "checked"),
    (qt.QComboBox, "currentIndexChanged(int)", "currentIndex"),
    (qt.QLineEdit, "editingFinished()", "text"),
)
"""A widget's class, the signal that it was edited, and the property that holds its value."""


class SettingsForm:
    """The widgets with a property ``settingKey``, the setting's dotted key as ``--set`` takes it.

    Attributes:
        problem: a sentence where something is written that cannot be; else empty.

    Signals:
        changed(settings): dotted key -> value of all settings that differ from the preset, and those of other origin.
    """

    def __init__(self, ui: Any) -> None:
        self.changed = Signal()
        self.problem = ""
        self._config: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._rows: dict[
            str, tuple[Any, Any, str]
        ] = {}  # key -> widget, its label, and the property that holds the value
        for widget in vars(ui).values():
            if key := widget.property("settingKey"):
                signal, name = next((signal, name) for kind, signal, name in KINDS if isinstance(widget, kind))
                self._rows[key] = (widget, getattr(ui, f"{widget.objectName}_label"), name)
                widget.connect(signal, lambda *told, key=key: self._onEdited(key))

    def show(self, config: dict[str, Any], kept: dict[str, Any]) -> None:
        """Show the preset's whole configuration, and what differs from it."""
        self._config, self._kept = config, kept
        for key, (widget, label, name) in self._rows.items():
            isReplaced = key in LENGTHS and key not in kept and any(other in kept for other in LENGTHS)
            value = None if isReplaced else kept.get(key, valueIn(config, key))
            held = shown(key, value)
            # A number that is being typed counts once it is finished; set anew, even to the same, the field would lose it.
            if held is not None and not self._keepsText(key, value) and not isSame(getattr(widget, name), held):
                with signalsBlocked(widget):
                    setattr(widget, name, held)
            font = label.font
            font.setBold(key in kept)
            label.font = font

    def _keepsText(self, key: str, value: Any) -> bool:
        """Whether what is written stays: it is being typed, or it is wrong and has to be corrected."""
        return key in TEXTS and (isBeingTyped(self._rows[key][0]) or bool(self.problem and not value))

    def _onEdited(self, key: str) -> None:
        widget, _label, name = self._rows[key]
        value = meant(key, getattr(widget, name))
        replaced = LENGTHS if key in LENGTHS else (key,)
        kept = {other: each for other, each in self._kept.items() if other not in replaced}
        if key in TEXTS:
            widget.modified = False  # after Return it has the focus still
            text, self.problem = widget.text.strip(), ""
            if text and value is None:
                problems = {
                    PATCH: _("{text} is no patch. Write three sizes in voxels, such as 96, 96, 64."),
                    TIME: _("{text} is no time. Write it as 45m, 2h or 1h30m."),
                }
                self.problem = problems[key].format(text=text)
        if value is not None and (key == PATCH or not isSame(value, valueIn(self._config, key))):
            kept[key] = value
        self.changed.emit(kept)


def shown(key: str, value: Any) -> Any:
    """A setting's value as its widget holds it; None where a widget has nothing to show for no value."""
    if key in AUTOMATIC:
        return value or 0
    if key == TIME:
        return as_duration(value) if value else ""
    if key in CHOICES:
        return CHOICES[key].index(value) if value in CHOICES[key] else 0
    if key == PATCH:
        return ", ".join(map(str, value)) if value else ""
    return value


def meant(key: str, held: Any) -> Any:
    """The setting's value for what its widget holds; None for a patch or a time that is none, and for what is automatic."""
    if key in AUTOMATIC:
        return held or None
    if key == TIME:
        return timeOf(held)
    if key in CHOICES:
        return CHOICES[key][held]
    return patchOf(held) if key == PATCH else held


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


def timeOf(text: str) -> float | None:
    """Seconds of a time as the user writes it, "45m" or "1h30m"; None where it is none."""
    try:
        return seconds_of(text) or None
    except DinomixError:
        return None


def patchOf(text: str) -> list[int] | None:
    """A patch as the user writes it, "96, 96, 64" or "96x96x64"; None where it is none."""
    parts = [part for part in re.split(r"[\s,;x\u00d7]+", text.strip()) if part]
    if len(parts) != 3 or not all(part.isdigit() and 8 <= int(part) <= 1024 for part in parts):
        return None
    return [int(part) for part in parts]
