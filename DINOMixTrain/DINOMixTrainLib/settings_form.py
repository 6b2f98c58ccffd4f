"""The advanced settings as a form; only those that differ from the preset are kept."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from dinomix_slicer.signal import Signal

from .advanced_settings import PATCH, Setting, advancedSettings, isSame, patchOf, valueIn


class SettingsForm:
    """
    Attributes:
        problem: a sentence where something is written that cannot be; else empty.

    Signals:
        changed(settings): dotted key -> value of all settings that differ from the preset, and those of other origin.
    """

    def __init__(self, formLayout: Any) -> None:
        self.changed = Signal()
        self.problem = ""
        self._settings = advancedSettings()
        self._editors: dict[str, Any] = {}
        self._labels: dict[str, Any] = {}
        self._config: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        for setting in self._settings:
            self._addRow(formLayout, setting)

    def show(self, config: dict[str, Any], kept: dict[str, Any]) -> None:
        """Show the preset's whole configuration, and what differs from it."""
        self._config, self._kept = config, kept
        for setting in self._settings:
            value = kept.get(setting.key, valueIn(config, setting.key))
            self._write(setting, value)
            font = self._labels[setting.key].font
            font.setBold(setting.key in kept)
            self._labels[setting.key].font = font

    # -- Inside

    def _addRow(self, formLayout: Any, setting: Setting) -> None:
        editor = self._editors[setting.key] = makeEditor(setting)
        editor.objectName = "setting_" + setting.key.replace(".", "_")
        label = self._labels[setting.key] = qt.QLabel(_("{title}:").format(title=setting.title))
        label.setBuddy(editor)
        label.toolTip = editor.toolTip = setting.toolTip
        formLayout.addRow(label, editor)
        signals = {"int": "valueChanged(int)", "float": "valueChanged(double)", "bool": "toggled(bool)",
                   "choice": "currentIndexChanged(int)", "patch": "editingFinished()"}  # fmt: skip
        editor.connect(signals[setting.kind], lambda *ignored, setting=setting: self._onEdited(setting))

    def _write(self, setting: Setting, value: Any) -> None:
        editor = self._editors[setting.key]
        blocked = editor.blockSignals(True)
        if setting.kind in ("int", "float") and value is not None:
            editor.value = value
        elif setting.kind == "bool":
            editor.checked = bool(value)
        elif setting.kind == "choice":
            editor.currentIndex = max(editor.findData(value), 0)
        elif setting.kind == "patch" and not (self.problem and not value):
            editor.text = ", ".join(map(str, value)) if value else ""
        editor.blockSignals(blocked)

    def _read(self, setting: Setting) -> Any:
        editor = self._editors[setting.key]
        if setting.kind in ("int", "float"):
            return editor.value
        if setting.kind == "bool":
            return editor.checked
        if setting.kind == "choice":
            return editor.itemData(editor.currentIndex)
        return patchOf(editor.text)

    def _onEdited(self, setting: Setting) -> None:
        value = self._read(setting)
        kept = {key: each for key, each in self._kept.items() if key != setting.key}
        if setting.key == PATCH:
            text = self._editors[PATCH].text.strip()
            self.problem = ""
            if text and value is None:
                self.problem = _("{text} is no patch. Write three sizes in voxels, such as 96, 96, 64.").format(
                    text=text
                )
            elif value is not None:
                kept[PATCH] = value
        elif not isSame(value, valueIn(self._config, setting.key)):
            kept[setting.key] = value
        self.changed.emit(kept)


def makeEditor(setting: Setting) -> Any:
    """The widget of a setting."""
    if setting.kind == "int":
        editor = qt.QSpinBox()
        editor.minimum, editor.maximum = int(setting.low), int(setting.high)
        editor.setGroupSeparatorShown(True)
    elif setting.kind == "float":
        editor = qt.QDoubleSpinBox()
        editor.decimals = setting.decimals
        editor.minimum, editor.maximum = setting.low, setting.high
        editor.stepType = qt.QAbstractSpinBox.AdaptiveDecimalStepType
    elif setting.kind == "bool":
        editor = qt.QCheckBox()
    elif setting.kind == "choice":
        editor = qt.QComboBox()
        for value, text in setting.choices:
            editor.addItem(text, value)
    else:
        editor = qt.QLineEdit()
        editor.placeholderText = _("automatic")
    if setting.kind in ("int", "float"):
        editor.setKeyboardTracking(False)
    return editor
