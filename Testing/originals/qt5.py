"""What Python can reach of Qt's own classes in Slicer: their meta-objects, and what PythonQt's generated wrappers add.

The meta-objects are those of Qt 5, told by PyQt5 in the Python that ``QT5_PYTHON`` names: the test host's own Qt is Qt 6, which
differs from what is in Slicer.
"""

import json
import os
import subprocess
from functools import cache
from pathlib import Path

from originals.headers import CppClass, classesIn

DESCRIBE = """
import importlib, json
found = {}
for module in ("QtCore", "QtGui", "QtWidgets", "QtNetwork", "QtSvg", "QtXml"):
    module = importlib.import_module(f"PyQt5.{module}")
    for name, cls in vars(module).items():
        if not isinstance(cls, type) or not name.startswith("Q"):
            continue
        entry = found[name] = {"bases": [base.__name__ for base in cls.__bases__ if base.__name__.startswith("Q")]}
        meta = getattr(cls, "staticMetaObject", None)
        if meta is None:
            continue
        methods = [meta.method(index) for index in range(meta.methodOffset(), meta.methodCount())]
        public = [method for method in methods if method.access() == type(method).Access.Public]
        isSignal = lambda method: method.methodType() == type(method).MethodType.Signal
        text = lambda method: bytes(method.methodSignature()).decode()
        entry["signals"] = [text(method) for method in public if isSignal(method)]
        entry["callable"] = [text(method).partition("(")[0] for method in public if not isSignal(method)]
        entry["properties"] = [meta.property(i).name() for i in range(meta.propertyOffset(), meta.propertyCount())]
        enums = [meta.enumerator(i) for i in range(meta.enumeratorOffset(), meta.enumeratorCount())]
        entry["values"] = [enum.name() for enum in enums]
        entry["values"] += [enum.key(i) for enum in enums for i in range(enum.keyCount())]
print(json.dumps(found))
"""
EMPTY: dict[str, list[str]] = {}
OF_VTK = {"QVTKOpenGLNativeWidget": ["QOpenGLWidget"]}
"""Class of VTK's Qt library, which is in no checkout -> its bases."""


def missing() -> str:
    """What to set so that Qt's own members are known, or ""."""
    return "" if os.environ.get("QT5_PYTHON") else "QT5_PYTHON names no Python with PyQt5, which tells what Qt 5 has"


@cache
def metaObjects() -> dict[str, dict[str, list[str]]]:
    """Class -> its bases, signals, properties, public slots and enums; of no class where ``missing``.

    Raises:
        RuntimeError: the Python that ``QT5_PYTHON`` names cannot tell.
    """
    if missing():
        return {}
    command = [os.environ["QT5_PYTHON"], "-c", DESCRIBE]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"QT5_PYTHON={command[0]} has no PyQt5 that can be used (pip install PyQt5):\n{done.stderr}")
    return json.loads(done.stdout)


@cache
def wrappers() -> dict[str, CppClass]:
    """Class of Qt -> the wrapper that PythonQt has for it; of the newest Qt in the checkout."""
    folders = (Path(os.environ["PYTHONQT_SOURCE"]) / name for name in ("generated_cpp_515", "generated_cpp_511"))
    newest = next(folder for folder in folders if folder.is_dir())
    found: dict[str, CppClass] = {}
    for path in newest.rglob("*.h"):
        for cls in classesIn(path):
            if cls.name.startswith("PythonQtWrapper_"):
                found[cls.name.removeprefix("PythonQtWrapper_")] = cls
    return found


def exists(name: str) -> bool:
    return name in wrappers() or name in metaObjects()


def bases(name: str) -> list[str]:
    return OF_VTK.get(name) or metaObjects().get(name, EMPTY).get("bases", [])


def signals(name: str) -> frozenset[str]:
    return frozenset(metaObjects().get(name, EMPTY).get("signals", ()))


def properties(name: str) -> frozenset[str]:
    return frozenset(metaObjects().get(name, EMPTY).get("properties", ()))


def reachable(name: str) -> frozenset[str]:
    """What one class of Qt, without its bases, adds to an object."""
    entry = metaObjects().get(name, EMPTY)
    found = {*entry.get("callable", ()), *entry.get("properties", ()), *entry.get("values", ())}
    found |= {text.partition("(")[0] for text in entry.get("signals", ())}
    wrapper = wrappers().get(name)
    if wrapper is not None:
        found |= {each.removeprefix(f"static_{name}_") for each in wrapper.callable} | wrapper.values
    return frozenset(found)
