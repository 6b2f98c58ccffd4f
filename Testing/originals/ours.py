"""What our own files use of Slicer, Qt and CTK, as far as it can be told without running them."""

import ast
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from originals import sources

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("DINOMixEngine/dinomix_slicer", "DINOMixSegment", "DINOMixTrain", "Testing/modules")
"""What runs in Slicer."""
MODULES = ("qt", "ctk", "slicer", "vtk")
OBJECTS = {"slicer.mrmlScene": "vtkMRMLScene", "slicer.app": "qSlicerApplication"}
"""What these names are objects of."""
PYTHON = "python"
LIBRARIES = {*sys.stdlib_module_names, "numpy", "SimpleITK"}
MAKES_NODES = ("AddNewNodeByClass", "CreateNodeByClass", "GetFirstNodeByClass", "GetSingletonNode")


@dataclass(frozen=True)
class Use:
    """An attribute that a line of a file uses.

    Attributes:
        owner: dotted name of a module (``slicer.util``), ``class X`` for a class itself, the name of a class for an object of
            it, PYTHON for what is of Python's own libraries, or "" where that cannot be told.
        isCalled: as ``x.attribute(...)``.
        arguments: the texts among the arguments of the call.
        keywords: the names of its keyword arguments.
    """

    path: Path
    line: int
    owner: str
    attribute: str
    isCalled: bool
    arguments: tuple[str, ...] = ()
    keywords: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.line}: {self.owner or '?'}.{self.attribute}"


def pythonFiles() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))


def uiFiles() -> list[Path]:
    return sorted(REPOSITORY.glob("*/Resources/UI/*.ui"))


@cache
def uiWidgets() -> dict[str, set[str]]:
    """Name of a widget in a ``.ui`` file -> its classes."""
    found: dict[str, set[str]] = {}
    for path in uiFiles():
        for element in ElementTree.parse(path).iter("widget"):
            found.setdefault(element.get("name", ""), set()).add(element.get("class", ""))
    return found


@cache
def uses() -> tuple[Use, ...]:
    return tuple(use for path in pythonFiles() for use in usesIn(path))


def usesIn(path: Path) -> Iterator[Use]:
    """Every attribute in a file, each function with the types of its own variables."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = dict.fromkeys(libraries(tree), PYTHON)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inFunctions = {id(node) for function in functions for node in ast.walk(function)}
    seen: set[int] = set()
    for scope in (*reversed(functions), tree):  # inner functions first
        names = variables(scope, imported)
        calls = {id(node.func): node for node in ast.walk(scope) if isinstance(node, ast.Call)}
        for node in ast.walk(scope):
            if not isinstance(node, ast.Attribute) or id(node) in seen or (scope is tree and id(node) in inFunctions):
                continue
            seen.add(id(node))
            call = calls.get(id(node))
            texts = textsOf(call) if call else ()
            keywords = frozenset(keyword.arg for keyword in call.keywords if keyword.arg) if call else frozenset()
            yield Use(path, node.lineno, typeOf(node.value, names), node.attr, call is not None, texts, keywords)


def textsOf(call: ast.Call) -> tuple[str, ...]:
    return tuple(part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str))


def libraries(tree: ast.AST) -> Iterator[str]:
    """The names under which a file imports Python's own libraries, and what it imports of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (getattr(node, "module", None) or alias.name).partition(".")[0] in LIBRARIES:
                    yield (alias.asname or alias.name).partition(".")[0]


def variables(scope: ast.AST, imported: dict[str, str]) -> dict[str, str]:
    """Types of the variables that are given a value once, from values whose type is known."""
    found = dict(imported)
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            found[name] = typeOf(node.value, found) if name not in found else ""
    return found


def typeOf(node: ast.expr, names: dict[str, str]) -> str:
    """The ``owner`` of a Use for this expression."""
    if isinstance(node, ast.Name):
        return node.id if node.id in MODULES else names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        return typeOfAttribute(node, names)
    if isinstance(node, ast.Call):
        return typeOfCall(node, names)
    return ""


def typeOfAttribute(node: ast.Attribute, names: dict[str, str]) -> str:
    if isUi(node.value) and len(uiWidgets().get(node.attr, ())) == 1:
        return next(iter(uiWidgets()[node.attr]))
    owner = typeOf(node.value, names)
    if owner == PYTHON:
        return PYTHON
    whole = f"{owner}.{node.attr}"
    if whole in OBJECTS:
        return OBJECTS[whole]
    if owner == "slicer.modules":
        return "" if node.attr.lower().startswith("dinomix") else "qSlicerLoadableModule"
    if owner in MODULES:
        return f"class {node.attr}" if node.attr[:1] in "Qqcv" and node.attr[1:2].isalpha() else whole
    if owner and "." not in owner and " " not in owner:
        return known(sources.propertyType(owner, node.attr))
    return ""


def isUi(node: ast.expr) -> bool:
    """``ui``, ``self.ui``, ``self._ui``, and ``self.ui2`` in tests."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_").rstrip("0123456789") == "ui"


def typeOfCall(node: ast.Call, names: dict[str, str]) -> str:
    if typeOf(node.func, names) == PYTHON:
        return PYTHON
    if not isinstance(node.func, ast.Attribute):
        return ""
    made = typeOf(node.func, names)
    if made.startswith("class "):
        return made.removeprefix("class ")
    owner = typeOf(node.func.value, names)
    if owner == "vtkMRMLScene" and node.func.attr in MAKES_NODES:
        return next((text for text in textsOf(node) if text.startswith("vtkMRML")), "")
    if owner and "." not in owner:
        found = known(sources.returnType(owner.removeprefix("class "), node.func.attr))
        return "" if found.startswith("Q") else found  # a function of Qt may return an object of a derived class
    return ""


def known(name: str) -> str:
    """``name`` if there is such a class."""
    return name if name and (sources.cppClass(name) is not None or sources.qt5.exists(name)) else ""
