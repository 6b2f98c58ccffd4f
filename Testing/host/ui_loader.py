"""``qt.QUiLoader``: reads the ``.ui`` files that Slicer reads, with the widget classes of ``ctk`` and ``slicer``.

What Slicer passes over in silence or with a line in its log is an error here: a widget class without a Designer plugin, for
which it makes the class that the file says it extends; a property that does not exist, a value of another type, two objects
of the same name, an enum written as only Qt 6 knows it, a connection from a signal or to a slot that does not exist.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from PySide6 import QtCore, QtUiTools, QtWidgets

from host.qt import signals
from host.qt.properties import declaredTypes

# Written by Designer for every layout, whatever its class.
LAYOUT_PROPERTIES = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "spacing", "margin"}
LAYOUT_PROPERTIES |= {"horizontalSpacing", "verticalSpacing"}
# Read by Qt's loader itself.
LOADER_PROPERTIES = {"QLabel": {"buddy"}, "Line": {"orientation"}}
# No Designer plugin makes these; they can only be made in Python.
WITHOUT_PLUGIN = {"ctkMessageBox", "qMRMLPlotView", "qSlicerScriptedLoadableModuleWidget"}
VALUE_TAGS = {"bool": {"bool"}, "QString": {"string", "cstring"}, "QStringList": {"stringlist"}, "int": {"number"}}
# The host's own widgets declare enums and flags as numbers.
OWN_VALUE_TAGS = {**VALUE_TAGS, "int": {"number", "enum", "set"}}


class UiFileError(ValueError):
    """What is wrong with a ``.ui`` file."""


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a ``.ui`` file from an open ``QFile``; raises UiFileError."""

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        content = bytes(device.readAll().data())
        document = ElementTree.fromstring(content)
        checkDocument(document, set(self.availableWidgets()))
        connections = [readConnection(element) for element in document.iterfind("connections/connection")]
        ownValues = takeOwnValues(document)
        for element in document.findall("connections"):
            document.remove(element)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(document))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise UiFileError(f"Qt cannot read it: {self.errorString()}")
        for objectName, propertyName, value in ownValues:
            setattr(namedObject(widget, objectName), propertyName, value)
        for sender, signal, receiver, slot in connections:
            signals.connect(namedObject(widget, sender), signal, namedObject(widget, receiver), slot)
        return widget

    def createWidget(self, className: str, parent: QtWidgets.QWidget | None = None, name: str = ""):
        cls = hostedClass(className)
        if cls is None:
            return super().createWidget(className, parent, name)
        widget = cls(parent)
        widget.setObjectName(name)
        return widget


def hostedClass(className: str) -> type | None:
    """The class of ``ctk`` or ``slicer`` with that name, or None if there is none or no plugin makes it."""
    import ctk
    import slicer

    if className in WITHOUT_PLUGIN:
        return None
    for prefix, module in (("ctk", ctk), ("qMRML", slicer), ("qSlicer", slicer)):
        cls = getattr(module, className, None) if className.startswith(prefix) else None
        if isinstance(cls, type) and issubclass(cls, QtWidgets.QWidget):
            return cls
    return None


def checkDocument(document: ElementTree.Element, qtClasses: set[str]) -> None:
    """UiFileError with everything that is wrong, one line each."""
    problems = [*wrongClasses(document, qtClasses), *wrongEnums(document), *repeatedNames(document)]
    if not problems:
        problems = list(wrongProperties(document))
    if problems:
        raise UiFileError("\n".join(problems))


def wrongClasses(document: ElementTree.Element, qtClasses: set[str]) -> Iterator[str]:
    declared = {element.findtext("class") for element in document.iterfind("customwidgets/customwidget")}
    for element in document.iter("widget"):
        className = element.get("class", "")
        if className in qtClasses:
            continue
        if hostedClass(className) is None:
            yield f"{describe(element)}: there is no widget class {className} in Qt, and no plugin in the test host"
        elif className not in declared:
            yield f"{describe(element)}: the class {className} is not listed under <customwidgets>"


def wrongEnums(document: ElementTree.Element) -> Iterator[str]:
    for element in [*document.iter("enum"), *document.iter("set")]:
        for name in (element.text or "").split("|"):
            if not re.fullmatch(r"\s*\w+(::\w+)?\s*", name):
                yield f"{name.strip()!r} is not written as Qt 5 reads it, for example Qt::AlignLeft"


def repeatedNames(document: ElementTree.Element) -> Iterator[str]:
    seen: set[str] = set()
    for element in document.iter():
        if element.tag in ("widget", "layout", "action", "spacer"):
            name = element.get("name", "")
            if name in seen:
                yield f"{describe(element)}: the name occurs twice"
            seen.add(name)


def wrongProperties(document: ElementTree.Element) -> Iterator[str]:
    for element in document.iter():
        if element.tag not in ("widget", "layout"):
            continue
        known = knownProperties(element)
        tags = OWN_VALUE_TAGS if hostedClass(element.get("class", "")) else VALUE_TAGS
        for item in element.findall("property"):
            name, value = item.get("name", ""), next(iter(item), None)
            if item.get("stdset") == "0" or name in extraProperties(element):
                continue
            if name not in known:
                yield f"{describe(element)}: {element.get('class')} has no property {name}"
            elif value is not None and value.tag not in tags.get(known[name], {value.tag}):
                yield f"{describe(element)}: the property {name} takes {known[name]}, not <{value.tag}>"


def knownProperties(element: ElementTree.Element) -> dict[str, str]:
    """Name -> C++ type of the properties of an element's class."""
    name = {"Line": "QFrame"}.get(element.get("class", ""), element.get("class", ""))
    return declaredTypes[hostedClass(name) or getattr(QtWidgets, name)]


def extraProperties(element: ElementTree.Element) -> set[str]:
    if element.tag == "layout":
        return LAYOUT_PROPERTIES
    return LOADER_PROPERTIES.get(element.get("class", ""), set())


def takeOwnValues(document: ElementTree.Element) -> list[tuple[str, str, object]]:
    """Remove enum values of the host's own widget classes, which Qt's loader cannot read: (object, property, value) each."""
    taken = []
    for element in document.iter("widget"):
        cls = hostedClass(element.get("class", ""))
        for item in element.findall("property"):
            value = next(iter(item), None)
            isOwn = cls is not None and isinstance(getattr(cls, item.get("name", ""), None), QtCore.Property)
            if isOwn and value is not None and value.tag in ("enum", "set"):
                element.remove(item)
                taken.append((element.get("name", ""), item.get("name", ""), enumValue(cls, value.text or "")))
    return taken


def enumValue(cls: type, text: str) -> int:
    """The number that ``ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable`` means to that class."""
    number = 0
    for name in text.split("|"):
        owner, _, member = name.strip().rpartition("::")
        source = cls if owner in ("", cls.__name__) else getattr(QtWidgets, owner, None) or getattr(QtCore, owner)
        number |= int(getattr(source, member))
    return number


def readConnection(element: ElementTree.Element) -> tuple[str, str, str, str]:
    return tuple(element.findtext(tag) or "" for tag in ("sender", "signal", "receiver", "slot"))


def namedObject(widget: QtWidgets.QWidget, name: str) -> QtCore.QObject:
    """The object of that name in ``widget``, itself included; UiFileError if there is none."""
    found = widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
    if found is None:
        raise UiFileError(f"a connection names {name}, which does not exist")
    return found


def describe(element: ElementTree.Element) -> str:
    return f"<{element.tag} name={element.get('name', '')!r}>"
