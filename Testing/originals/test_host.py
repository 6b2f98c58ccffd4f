"""The test host has nothing that the originals lack: no class, attribute, signal or plugin."""

import ctk
import pytest
import slicer
from PySide6 import QtCore, QtWidgets

import host
from host import ui_loader
from host.qt.properties import declaredTypes
from host.qt.signals import SignalAttribute, signatures
from originals import plugins, sources

host.loadModules()
pytestmark = pytest.mark.skipif(bool(sources.missing()), reason=sources.missing())
ofObjects = pytest.mark.skipif(bool(sources.missingForObjects()), reason=sources.missingForObjects())


def widgetClasses() -> list[type]:
    found = [vars(module)[name] for module in (ctk, slicer) for name in dir(module) if name.startswith(("ctk", "q"))]
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, QtWidgets.QWidget)]


def ownMembers(cls: type) -> set[str]:
    """What the host's classes among the bases declare, but for what they take over from Qt's."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("host.")]
    names = {name for base in own for name in vars(base) if not name.startswith("_")}
    names |= {name for base in own for name in vars(base).get("WRITABLE", ())}
    return {
        name
        for name in names
        if name not in ("cppSignals", "setters", "signals", "WRITABLE", "PROPERTIES")
        and not any(hasattr(base, name) for base in cls.__mro__ if base not in own)
    }


@ofObjects
@pytest.mark.parametrize("cls", widgetClasses(), ids=lambda cls: cls.__name__)
def test_widget(cls):
    name = cls.__name__
    assert sources.cppClass(name) is not None, f"there is no header of {name}"
    qtBase = next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("PySide6"))
    assert qtBase in sources.lineage(name)
    unknown = ownMembers(cls) - sources.reachable(name)
    assert not unknown, f"Python does not reach {sorted(unknown)} of {name}"


@ofObjects
@pytest.mark.parametrize("cls", widgetClasses(), ids=lambda cls: cls.__name__)
def test_signals(cls):
    widget = cls()
    names = {name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, SignalAttribute)}
    names -= {name for base in cls.__mro__ if base.__module__.startswith("PySide6") for name in vars(base)}
    mine = {text for text in signatures(widget) if text.partition("(")[0] in names and not text.startswith("_")}
    widget.deleteLater()
    assert not mine - sources.signalsOf(cls.__name__)


@ofObjects
@pytest.mark.parametrize("cls", widgetClasses(), ids=lambda cls: cls.__name__)
def test_properties(cls):
    own = [base for base in cls.__mro__ if base.__module__.startswith("host.")]
    properties = {name: v for base in own for name, v in vars(base).items() if isinstance(v, QtCore.Property)}
    wrong = {name for name, each in properties.items() if each.fset and not sources.isWritable(cls.__name__, name)}
    assert not wrong, f"cannot be set: {sorted(wrong)}"
    types = {name: (declaredTypes[cls][name], sources.propertyType(cls.__name__, name)) for name in properties}
    wrong = {name: pair for name, pair in types.items() if pair[1] in PLAIN and pair[0] != pair[1]}
    assert not wrong


PLAIN = {"bool", "int", "double", "QString", "QStringList", "QColor", "QIcon"}


def others() -> list[tuple[object, str]]:
    """(stand-in that is no Qt object, the classes that it stands for)"""
    layouts = slicer.app.layoutManager()
    return [
        (slicer.app, "qSlicerApplication"),
        (slicer.app.commandOptions(), "qSlicerCommandOptions"),
        (slicer.app.coreIOManager(), "qSlicerIOManager"),
        (slicer.app.moduleManager(), "qSlicerModuleManager"),
        (slicer.app.moduleManager().factoryManager(), "qSlicerModuleFactoryManager"),
        (slicer.modules.volumes, "qSlicerLoadableModule"),
        (layouts, "qSlicerLayoutManager"),
        (layouts.sliceWidget("Red"), "qMRMLSliceWidget qMRMLSliceView qMRMLSliceControllerWidget"),
        (layouts.threeDWidget(0), "qMRMLThreeDWidget qMRMLThreeDView qMRMLThreeDViewControllerWidget"),
        (slicer.modules.dinomixsegment, "qSlicerScriptedLoadableModule"),
    ]


@ofObjects
@pytest.mark.parametrize(("standIn", "names"), others(), ids=lambda value: type(value).__name__)
def test_other_class(standIn, names):
    own = {name for name in (*vars(standIn), *ownMembers(type(standIn))) if not name.startswith("_")}
    own -= {"restarts"}  # for tests
    unknown = own.difference(*map(sources.reachable, names.split()))
    assert not unknown, f"Python does not reach {sorted(unknown)} of {names}"
    properties = frozenset().union(*map(sources.propertiesOf, names.split()))
    wrong = {name for name in own if callable(getattr(standIn, name)) == (name in properties)}
    assert not wrong, f"property here and function there, or the other way round: {sorted(wrong)}"
    signals = frozenset().union(*map(sources.signalsOf, names.split()))
    assert not set(getattr(standIn, "signals", ())) - signals


def test_plugins():
    """The widgets of ``.ui`` files are those that a Designer plugin makes."""
    made = {cls.__name__ for cls in widgetClasses() if ui_loader.hostedClass(cls.__name__) is not None}
    assert not made - plugins.pluginClasses()
    assert not ui_loader.WITHOUT_PLUGIN & plugins.pluginClasses()
