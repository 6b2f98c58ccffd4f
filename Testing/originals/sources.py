"""Where the originals are, and what their classes have with all their bases."""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from originals import qt5
from originals.headers import CppClass, classesIn, signatures, split, textWithin, withoutComments

VARIABLES = {
    "SLICER_SOURCE": "Libs/MRML/Widgets/qMRMLNodeComboBox.h",
    "CTK_SOURCE": "Libs/Widgets/ctkPathLineEdit.h",
    "PYTHONQT_SOURCE": "src/PythonQtStdDecorators.h",
}
"""Variable -> a file that is in such a checkout."""
EVERY_OBJECT = {"className", "help", "delete", "inherits", "name", "connect", "disconnect", "self"}
"""What PythonQt itself gives every object; ``self`` is for modules written in Python, whose class is found by its header too."""


def missing() -> str:
    """Which variables name no checkout with headers; "" if all do. A checkout of Slicer's Python files alone is not enough."""
    lacking = [
        name for name, file in VARIABLES.items() if not (Path(os.environ.get(name) or "/nowhere") / file).is_file()
    ]
    return f"{', '.join(lacking)} name no checkout with headers" if lacking else ""


def folder(variable: str) -> Path:
    return Path(os.environ[variable]).resolve()


def missingForObjects() -> str:
    """Like ``missing``, for what needs Qt's own members too: each object of a class derived from Qt's has them."""
    return missing() or qt5.missing()


@cache
def headers() -> dict[str, Path]:
    """Name of a class -> its header, which has the same name."""
    places = [
        folder("CTK_SOURCE") / "Libs",
        *(folder("SLICER_SOURCE") / name for name in ("Libs", "Base", "Modules/Loadable", "Modules/Scripted")),
    ]
    paths = [path for place in places for path in place.rglob("*.h") if "Testing" not in path.parts]
    return {path.stem: path for path in paths}


@cache
def cppClass(name: str) -> CppClass | None:
    """The class of that name in Slicer or CTK, or None."""
    path = headers().get(name)
    return next((found for found in classesIn(path) if found.name == name), None) if path else None


def lineage(name: str) -> Iterator[str]:
    """A class and all its bases, those of Qt or VTK too."""
    yield name
    found = cppClass(name)
    for base in found.bases if found else qt5.bases(name):
        yield from lineage(base)


@cache
def reachable(name: str) -> frozenset[str]:
    """What Python can use of an object of that class of Qt, CTK or Slicer."""
    found = set(EVERY_OBJECT)
    for cls in lineage(name):
        found |= decorated().get(cls, set())
        found |= cppClass(cls).reachable if cppClass(cls) else qt5.reachable(cls)
    return frozenset(found)


@cache
def signalsOf(name: str) -> frozenset[str]:
    """The normalized signatures of all signals of a class."""
    return frozenset().union(*(cppClass(cls).signals if cppClass(cls) else qt5.signals(cls) for cls in lineage(name)))


@cache
def propertiesOf(name: str) -> frozenset[str]:
    return frozenset().union(
        *(cppClass(cls).properties if cppClass(cls) else qt5.properties(cls) for cls in lineage(name))
    )


def isWritable(name: str, attribute: str) -> bool:
    """Whether a property that a class of Slicer or CTK declares can be set."""
    return any(attribute in cppClass(cls).writable for cls in lineage(name) if cppClass(cls))


def propertyType(name: str, attribute: str) -> str:
    """The C++ type of a property of a class in Slicer or CTK, or ""."""
    return next((cppClass(cls).properties.get(attribute, "") for cls in lineage(name) if cppClass(cls)), "")


def returnType(name: str, method: str) -> str:
    """The C++ class that a method of a class returns, or ""."""
    for cls in lineage(name):
        found = cppClass(cls) or qt5.wrappers().get(cls)
        for each in (method, f"static_{cls}_{method}"):
            if found is not None and each in found.returns:
                return found.returns[each]
    return ""


@cache
def methodsOfVtk(name: str) -> frozenset[str]:
    """The public methods of a class of Slicer that derives from VTK's; of VTK itself what the installed VTK has."""
    import vtk

    found: set[str] = set()
    for cls in lineage(name):
        found |= cppClass(cls).methods if cppClass(cls) else set(dir(getattr(vtk, cls, object)))
    return frozenset(found)


@cache
def methodsOfDerived(name: str) -> frozenset[str]:
    """The public methods of a class of VTK's or Slicer's and of all that derive from it: of what a function returns."""
    derived = [each for each in headers() if each.startswith("vtk") and name in lineage(each)]
    return methodsOfVtk(name).union(*map(methodsOfVtk, derived))


def lacks(name: str, attribute: str) -> bool:
    """Whether objects of a class of Qt, CTK or Slicer have no such attribute, or signal if it is written as ``clicked(bool)``."""
    if "(" in attribute:
        return attribute not in signalsOf(name)
    return attribute not in reachable(name) and attribute.removesuffix("_") not in reachable(name)  # exec_ is exec


@cache
def decorated() -> dict[str, set[str]]:
    """Class -> what PythonQt's decorators add to it, in Slicer, CTK and PythonQt itself."""
    found: dict[str, set[str]] = {}
    paths = [path for path in headers().values() if path.stem.endswith("PythonQtDecorators")]
    for path in [*paths, folder("PYTHONQT_SOURCE") / "src/PythonQtStdDecorators.h"]:
        for cls, name in decorations(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(cls, set()).add(name)
    return found


def decorations(text: str) -> Iterator[tuple[str, str]]:
    """(class, name) of each slot of decorators: of ``void f(C* self)`` and of ``void static_C_f()``."""
    for match in re.finditer(r"(\w+)\s*\(", withoutComments(text)):
        name, arguments = match[1], split(textWithin(match.string, match.end() - 1))
        static = re.match(r"static_([A-Za-z0-9]+)_(\w+)", name)
        if static:
            yield static[1], static[2]
        elif arguments:
            first = re.match(r"\s*(?:const\s+)?(\w+)\s*[*&]", arguments[0])
            if first:
                yield first[1], name


__all__ = ["headers", "lineage", "missing", "propertiesOf", "reachable", "signalsOf", "signatures"]
