"""The widgets of the ``ctk`` module that this project and Slicer's own Python files use, made anew in PySide6."""

from host.ctk.buttons import ctkCheckablePushButton, ctkCheckBox, ctkColorPickerButton, ctkMenuButton, ctkPushButton
from host.ctk.collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox
from host.ctk.combo_boxes import ctkCheckableComboBox, ctkComboBox
from host.ctk.numbers import ctkDoubleRangeSlider, ctkDoubleSlider, ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from host.ctk.paths import ctkDirectoryButton, ctkPathLineEdit
from host.ctk.texts import ctkFittedTextBrowser, ctkMessageBox, ctkSearchBox

__all__ = [
    "ctkCheckBox",
    "ctkCheckableComboBox",
    "ctkCheckablePushButton",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkFittedTextBrowser",
    "ctkMenuButton",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkPushButton",
    "ctkRangeWidget",
    "ctkSearchBox",
    "ctkSliderWidget",
]
