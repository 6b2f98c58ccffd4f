"""Sliders and spin boxes for numbers with decimals, alone and for a range."""

import math

import qt
from PySide6 import QtCore

from host.qt.hosted import delegated, hosted, qtProperty, stored

STEPS = 1000  # of a slider from end to end


@hosted
class ctkDoubleSpinBox(qt.QWidget):
    setters = ("value", "readOnly", "decimals")
    valueChanged = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)
    editingFinished = QtCore.Signal()

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = qt.QDoubleSpinBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.editingFinished.connect(self.editingFinished)

    value = delegated("_box", "value", "double")
    minimum = delegated("_box", "minimum", "double")
    maximum = delegated("_box", "maximum", "double")
    singleStep = delegated("_box", "singleStep", "double")
    prefix = delegated("_box", "prefix", "QString")
    suffix = delegated("_box", "suffix", "QString")
    readOnly = delegated("_box", "readOnly", "bool")
    cleanText = qtProperty("QString", lambda self: self._box.cleanText)

    def _setDecimals(self, decimals: int) -> None:
        self._box.decimals = decimals
        self.decimalsChanged.emit(decimals)

    decimals = qtProperty("int", lambda self: self._box.decimals, _setDecimals)


@hosted
class ctkDoubleSlider(qt.QWidget):
    setters = ("value",)
    valueChanged = QtCore.Signal(float)
    sliderMoved = QtCore.Signal(float)
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._numbers = {"minimum": 0.0, "maximum": 100.0, "value": 0.0}
        self._slider = qt.QSlider(qt.Qt.Horizontal)
        self._slider.setRange(0, STEPS)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        self._slider.sliderMoved.connect(self._onMoved)

    def _setNumber(self, name: str, number: float) -> None:
        """Store one of the three numbers and keep the value within the two others."""
        before = dict(self._numbers)
        self._numbers[name] = number
        low, high = self._numbers["minimum"], self._numbers["maximum"]
        if name == "minimum" and low > high:
            self._numbers["maximum"] = high = low
        elif name == "maximum" and high < low:
            self._numbers["minimum"] = low = high
        self._numbers["value"] = min(max(self._numbers["value"], low), high)
        if math.isfinite(high - low) and high > low:
            self._slider.setValue(round(STEPS * (self._numbers["value"] - low) / (high - low)))
        if (low, high) != (before["minimum"], before["maximum"]):
            self.rangeChanged.emit(low, high)
        if self._numbers["value"] != before["value"]:
            self.valueChanged.emit(self._numbers["value"])

    def _onMoved(self, position: int) -> None:
        low, high = self._numbers["minimum"], self._numbers["maximum"]
        self.value = low + (high - low) * position / STEPS
        self.sliderMoved.emit(self.value)

    value = qtProperty("double", lambda self: self._numbers["value"], lambda self, x: self._setNumber("value", x))
    minimum = qtProperty("double", lambda self: self._numbers["minimum"], lambda self, x: self._setNumber("minimum", x))
    maximum = qtProperty("double", lambda self: self._numbers["maximum"], lambda self, x: self._setNumber("maximum", x))
    singleStep = stored("singleStep", "double", 1.0)
    pageStep = stored("pageStep", "double", 10.0)
    tracking = delegated("_slider", "tracking", "bool")


@hosted
class ctkSliderWidget(qt.QWidget):
    """A slider and a spin box that show the same value."""

    setters = ("value", "spinBoxVisible", "decimals")
    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider, self._box = ctkDoubleSlider(), ctkDoubleSpinBox()
        self._box.minimum, self._box.maximum = 0.0, 100.0
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._slider.valueChanged.connect(self._onSlider)
        self._box.valueChanged.connect(self._onBox)

    def _onSlider(self, value: float) -> None:
        self._box.value = value

    def _onBox(self, value: float) -> None:
        self._slider.value = value
        self.valueChanged.emit(value)

    def _setLimit(self, name: str, number: float) -> None:
        setattr(self._box, name, number)
        self._slider.minimum, self._slider.maximum = self._box.minimum, self._box.maximum
        self._slider.value = self._box.value

    value = delegated("_box", "value", "double")
    minimum = qtProperty("double", lambda self: self._box.minimum, lambda self, x: self._setLimit("minimum", x))
    maximum = qtProperty("double", lambda self: self._box.maximum, lambda self, x: self._setLimit("maximum", x))
    pageStep = delegated("_slider", "pageStep", "double")
    prefix = delegated("_box", "prefix", "QString")
    suffix = delegated("_box", "suffix", "QString")
    tracking = delegated("_slider", "tracking", "bool")
    spinBoxVisible = qtProperty(
        "bool", lambda self: not self._box.isHidden(), lambda self, value: self._box.setVisible(value)
    )

    def _setSingleStep(self, step: float) -> None:
        self._slider.singleStep = self._box.singleStep = step

    def _setDecimals(self, decimals: int) -> None:
        self._box.decimals = decimals
        self.decimalsChanged.emit(decimals)

    singleStep = qtProperty("double", lambda self: self._box.singleStep, _setSingleStep)
    decimals = qtProperty("int", lambda self: self._box.decimals, _setDecimals)

    def reset(self) -> None:
        self.value = self.minimum


class _Range(qt.QWidget):
    """Two values within limits, the first not above the second."""

    minimumValueChanged = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    valuesChanged = QtCore.Signal(float, float)
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._limits = (0.0, 100.0)
        self._values = (0.0, 100.0)
        self._boxes = (qt.QDoubleSpinBox(), qt.QDoubleSpinBox())
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for box in self._boxes:
            layout.addWidget(box)
            box.valueChanged.connect(self._onBox)
        self._show()

    def setValues(self, minimumValue: float, maximumValue: float) -> None:
        low, high = (min(max(value, self._limits[0]), self._limits[1]) for value in (minimumValue, maximumValue))
        before, self._values = self._values, (min(low, high), max(low, high))
        self._show()
        if self._values != before:
            self.minimumValueChanged.emit(self._values[0])
            self.maximumValueChanged.emit(self._values[1])
            self.valuesChanged.emit(*self._values)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._limits = (min(minimum, maximum), max(minimum, maximum))
        self.rangeChanged.emit(*self._limits)
        self.setValues(*self._values)

    def _onBox(self, value: float) -> None:
        self.setValues(self._boxes[0].value, self._boxes[1].value)

    def _show(self) -> None:
        for box, value in zip(self._boxes, self._values, strict=True):
            blocked = box.blockSignals(True)
            box.setRange(*self._limits)
            box.value = value
            box.blockSignals(blocked)

    minimum = qtProperty("double", lambda self: self._limits[0], lambda self, x: self.setRange(x, self._limits[1]))
    maximum = qtProperty("double", lambda self: self._limits[1], lambda self, x: self.setRange(self._limits[0], x))
    minimumValue = qtProperty(
        "double", lambda self: self._values[0], lambda self, x: self.setValues(x, self._values[1])
    )
    maximumValue = qtProperty(
        "double", lambda self: self._values[1], lambda self, x: self.setValues(self._values[0], x)
    )

    def _setSingleStep(self, step: float) -> None:
        for box in self._boxes:
            box.singleStep = step

    singleStep = qtProperty("double", lambda self: self._boxes[0].singleStep, _setSingleStep)


@hosted
class ctkDoubleRangeSlider(_Range):
    pass


@hosted
class ctkRangeWidget(_Range):
    setters = ("decimals",)

    def _setDecimals(self, decimals: int) -> None:
        for box in self._boxes:
            box.decimals = decimals

    decimals = qtProperty("int", lambda self: self._boxes[0].decimals, _setDecimals)
