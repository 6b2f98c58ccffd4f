"""What our files use is there in Slicer, Qt and CTK: each attribute of an object whose class can be told, each signal."""

import ast
from functools import cache

import pytest
import vtk

from originals import ours, qt5, sources

pytestmark = pytest.mark.skipif(bool(sources.missing()), reason=sources.missing())
ofObjects = pytest.mark.skipif(bool(sources.missingForObjects()), reason=sources.missingForObjects())

OF_SLICER = {"app", "modules", "mrmlScene"}
PYTHON_FILES = {"i18n", "packaging", "parameterNodeWrapper", "ScriptedLoadableModule", "testing", "util"}
OF_ADDON = {"vtkOrientedBSplineTransform"}
"""Of vtkAddon, a library of its own."""
OF_QT = {"SIGNAL", "SLOT", "QUiLoader"}


def wrong(uses) -> list[str]:
    return sorted({str(use) for use in uses})


def test_modules_have_what_is_used_of_them():
    uses = [use for use in ours.uses() if use.owner in ("qt", "ctk", "slicer", "slicer.util")]
    assert len(uses) > 300
    lacking = wrong(use for use in uses if not isInModule(use.owner, use.attribute))
    assert not lacking, "\n".join(lacking)


def isInModule(owner: str, name: str) -> bool:
    if owner == "qt":
        return name in OF_QT or qt5.exists(name)
    if owner == "slicer.util":
        return name in functionsOfUtil()
    if owner == "slicer":
        return (
            name in OF_SLICER | PYTHON_FILES | OF_ADDON
            or name.startswith(("DINOMix", "vtkLogger"))
            or sources.cppClass(name) is not None
        )
    return sources.cppClass(name) is not None


def test_functions_of_util_take_the_arguments_that_they_are_given():
    uses = [use for use in ours.uses() if use.owner == "slicer.util" and use.keywords]
    assert len(uses) > 10
    assert not wrong(use for use in uses if not takes(use.attribute, use.keywords))


def takes(function: str, keywords: frozenset[str]) -> bool:
    known = functionsOfUtil()[function]
    return known is None or keywords <= known


@cache
def functionsOfUtil() -> dict[str, frozenset[str] | None]:
    """What ``slicer.util`` defines, and the names of the arguments; None for a class, and where any are taken."""
    path = sources.folder("SLICER_SOURCE") / "Base/Python/slicer/util.py"
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = None
        elif isinstance(node, ast.FunctionDef):
            arguments = frozenset(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))
            found[node.name] = None if node.args.kwarg else arguments
    return found


@ofObjects
def test_objects_have_what_is_used_of_them():
    uses = [use for use in ours.uses() if isClassOfOriginals(use.owner)]
    assert len(uses) > 1000
    lacking = wrong(use for use in uses if lacks(use.owner.removeprefix("class "), use.attribute))
    assert not lacking, "\n".join(lacking)


def isClassOfOriginals(owner: str) -> bool:
    name = owner.removeprefix("class ")
    return "." not in name and (sources.cppClass(name) is not None or (name[:1] == "Q" and qt5.exists(name)))


def lacks(cls: str, attribute: str) -> bool:
    if attribute in ours.uiWidgets():
        return False  # a child, by its name
    return attribute not in sources.methodsOfDerived(cls) if cls.startswith("vtk") else sources.lacks(cls, attribute)


def test_methods_of_vtk_are_known_to_some_class():
    """Where the object's class cannot be told: a method with a capital letter is one of VTK's or of Slicer's nodes and logics."""
    uses = [use for use in ours.uses() if not use.owner and use.isCalled and use.attribute[:1].isupper()]
    assert len(uses) > 300
    lacking = wrong(use for use in uses if use.attribute not in everyMethod())
    assert not lacking, "\n".join(lacking)


@cache
def everyMethod() -> set[str]:
    """Of VTK and of Slicer's own classes, and the names of classes in our files and Slicer's modules."""
    found = {name for cls in vars(vtk).values() if isinstance(cls, type) for name in dir(cls)}
    for path in sources.headers().values():
        if path.stem.startswith("vtk"):
            found |= set().union(*(cls.methods for cls in sources.classesIn(path)))
    for path in (*ours.pythonFiles(), *(sources.folder("SLICER_SOURCE") / "Modules/Scripted").glob("*/*.py")):
        found |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    return found


@ofObjects
def test_signals_are_those_of_the_sender():
    uses = [use for use in ours.uses() if use.attribute in ("connect", "disconnect") and use.arguments]
    assert len(uses) > 80
    unknown = [f"{use} {use.arguments[0]}" for use in uses if use.arguments[0] not in signalsFor(use.owner)]
    assert not unknown


def signalsFor(owner: str) -> frozenset[str]:
    return sources.signalsOf(owner) if isClassOfOriginals(owner) else everySignal()


@cache
def everySignal() -> frozenset[str]:
    found = {text for name in qt5.metaObjects() for text in qt5.signals(name)}
    return frozenset(
        found.union(*(cls.signals for path in sources.headers().values() for cls in sources.classesIn(path)))
    )
