"""Which widget can show which type of parameter, as in ``slicer.parameterNodeWrapper``. A pair that Slicer refuses is refused."""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from host.validators import Choice, Maximum, Minimum, WithinRange

QT_LARGEST_INT = 2**31 - 1


@dataclass(frozen=True)
class Decimals:
    """Annotation: decimals that a spin box or slider shows."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """Annotation: step of a spin box or slider."""

    value: float


@dataclass
class Connector:
    """One widget's value: how it is read and written, and the signal that tells of a change (None if it cannot change)."""

    read: Callable[[], object]
    write: Callable[[typing.Any], None]
    signal: typing.Any
    _slot: Callable[[], None] | None = None

    def connect(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after each change of the widget's value."""
        self._slot = lambda *arguments: changed()
        if self.signal is not None:
            self.signal.connect(self._slot)

    def disconnect(self) -> None:
        if self.signal is not None and self._slot is not None:
            self.signal.disconnect(self._slot)
        self._slot = None


def connectorFor(widget, annotation: object) -> Connector:
    """The connector of ``widget`` to a parameter of the (perhaps annotated) type; RuntimeError if Slicer has none."""
    metadata = annotation.__metadata__ if typing.get_origin(annotation) is typing.Annotated else ()
    datatype = typing.get_args(annotation)[0] if metadata else annotation
    for classes, accepts, make in connectorKinds():
        if type(widget) in classes and accepts(datatype):
            return make(widget, datatype, metadata)
    raise RuntimeError(f"a {type(widget).__name__} cannot show a parameter of type {datatype}")


def connectorKinds() -> list[tuple]:
    import ctk
    import qt
    import slicer

    checkBoxes = widgetClasses((qt, "QCheckBox"), (ctk, "ctkCheckBox"))
    intBoxes = widgetClasses((qt, "QSlider"), (qt, "QSpinBox"))
    floatBoxes = widgetClasses(
        (qt, "QDoubleSpinBox"), (ctk, "ctkSliderWidget"), (ctk, "ctkDoubleSpinBox"), (slicer, "qMRMLSliderWidget")
    )
    comboBoxes = widgetClasses((qt, "QComboBox"), (ctk, "ctkComboBox"))
    return [
        (checkBoxes, isOneOf(bool), lambda widget, *_: connectProperty(widget, "checked", widget.stateChanged)),
        (widgetClasses((qt, "QPushButton")), isOneOf(bool), connectButton),
        (intBoxes, isOneOf(int), connectInt),
        (floatBoxes, isOneOf(float, int), connectFloat),
        (comboBoxes, isOneOf(str, int, float, bool), connectChoice),
        (comboBoxes, isEnum, connectEnum),
        (widgetClasses((qt, "QLineEdit")), isOneOf(str), connectLineEdit),
        (widgetClasses((qt, "QLabel")), isOneOf(str), lambda widget, *_: connectProperty(widget, "text", None)),
        (widgetClasses((qt, "QTextEdit")), isOneOf(str), connectTextEdit),
        (widgetClasses((ctk, "ctkPathLineEdit")), isOneOf(Path), connectPath),
        (widgetClasses((ctk, "ctkDirectoryButton")), isOneOf(Path), connectDirectory),
        (widgetClasses((slicer, "qMRMLNodeComboBox")), isNode, connectNode),
    ]


def widgetClasses(*places: tuple) -> tuple[type, ...]:
    return tuple(getattr(module, name) for module, name in places if hasattr(module, name))


def isOneOf(*datatypes: type) -> Callable[[object], bool]:
    return lambda datatype: datatype in datatypes


def isEnum(datatype: object) -> bool:
    return isinstance(datatype, type) and issubclass(datatype, Enum)


def isNode(datatype: object) -> bool:
    from host.parameter_node import nodeTypes

    return bool(nodeTypes(datatype))


def firstOf(metadata: tuple, kind: type):
    return next((item for item in metadata if isinstance(item, kind)), None)


def connectProperty(widget, name: str, signal) -> Connector:
    return Connector(lambda: getattr(widget, name), lambda value: setattr(widget, name, value), signal)


def connectButton(widget, datatype, metadata) -> Connector:
    if not widget.checkable:
        raise RuntimeError(f"the button {widget.objectName} is not checkable, so it cannot show a truth value")
    return connectProperty(widget, "checked", widget.toggled)


def bounds(metadata: tuple) -> tuple:
    """The lowest and highest value by the annotations, None where there is none."""
    within, lowest, highest = (firstOf(metadata, kind) for kind in (WithinRange, Minimum, Maximum))
    if within is not None:
        return within.minimum, within.maximum
    return lowest.minimum if lowest else None, highest.maximum if highest else None


def connectInt(widget, datatype, metadata) -> Connector:
    minimum, maximum = bounds(metadata)
    if type(widget).__name__ == "QSlider" and None in (minimum, maximum):
        raise RuntimeError("a slider needs a parameter with a smallest and a largest value")
    step = firstOf(metadata, SingleStep)
    if step is not None:
        widget.singleStep = step.value
    widget.setMinimum(-QT_LARGEST_INT - 1 if minimum is None else minimum)
    widget.setMaximum(QT_LARGEST_INT if maximum is None else maximum)
    return connectProperty(widget, "value", widget.valueChanged)


def connectFloat(widget, datatype, metadata) -> Connector:
    minimum, maximum = bounds(metadata)
    if type(widget).__name__ in ("ctkSliderWidget", "qMRMLSliderWidget") and None in (minimum, maximum):
        raise RuntimeError("a slider needs a parameter with a smallest and a largest value")
    decimals, step = firstOf(metadata, Decimals), firstOf(metadata, SingleStep)
    if datatype is int:
        widget.decimals = 0
    elif decimals is not None:
        widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    widget.minimum = float("-inf") if minimum is None else minimum
    widget.maximum = float("inf") if maximum is None else maximum
    return Connector(lambda: datatype(widget.value), lambda value: setattr(widget, "value", value), widget.valueChanged)


def connectChoice(widget, datatype, metadata) -> Connector:
    choice = firstOf(metadata, Choice)
    if choice is None:
        raise RuntimeError("a combo box needs a parameter with the annotation Choice")
    return connectItems(widget, [(str(item), item) for item in choice.choices])


def connectEnum(widget, datatype, metadata) -> Connector:
    return connectItems(widget, [(item.label() if hasattr(item, "label") else item.name, item) for item in datatype])


def connectItems(widget, items: list[tuple[str, object]]) -> Connector:
    widget.clear()
    for label, _ in items:
        widget.addItem(label)
    values = [value for _, value in items]

    def write(value: object) -> None:
        widget.currentIndex = values.index(value)

    return Connector(lambda: values[widget.currentIndex], write, widget.currentIndexChanged)


def connectLineEdit(widget, datatype, metadata) -> Connector:
    def write(value: str) -> None:
        if widget.text != value:
            widget.text = value

    return Connector(lambda: widget.text, write, widget.textChanged)


def connectTextEdit(widget, datatype, metadata) -> Connector:
    return Connector(widget.toPlainText, widget.setPlainText, widget.textChanged)


def connectPath(widget, datatype, metadata) -> Connector:
    return Connector(
        lambda: Path(widget.currentPath),
        lambda value: setattr(widget, "currentPath", str(value)),
        widget.currentPathChanged,
    )


def connectDirectory(widget, datatype, metadata) -> Connector:
    return Connector(
        lambda: Path(widget.directory), lambda value: setattr(widget, "directory", str(value)), widget.directoryChanged
    )


def connectNode(widget, datatype, metadata) -> Connector:
    from host.parameter_node import nodeTypes

    widget.nodeTypes = [item.__name__ for item in nodeTypes(datatype)]
    return Connector(widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged)
