"""Puts either Slicer's own Python files or the host's stand-ins into ``slicer``.

With the environment variable ``SLICER_SOURCE`` naming a checkout of Slicer's source, the files are taken from there as they
are. Of it, only ``Base/Python/slicer`` is needed; where they are there, ``Modules/Loadable/Terminologies/Resources`` gives
Slicer's terminologies, and ``Modules/Scripted/SegmentStatistics`` can be imported as in Slicer.
"""

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

import qt
import slicer

# Name in Slicer -> module of the host that stands in for it.
STAND_INS = {
    "i18n": "host.i18n",
    "ScriptedLoadableModule": "host.scripted_module",
    "parameterNodeWrapper": "host.parameter_node",
    "packaging": "host.packaging",
    "testing": "host.testing",
}

# Slicer's name of a compiled library -> the module of slicer-core that is this library.
LIBRARIES = {
    "vtkITK": "slicer_core.vtkITK",
    "vtkSegmentationCorePython": "slicer_core.vtkSegmentationCore",
}
SCRIPTED_MODULES = ("SegmentStatistics",)


def checkout() -> Path | None:
    """The checkout of Slicer's source to be used, or None. FileNotFoundError if it does not hold what is needed."""
    folder = os.environ.get("SLICER_SOURCE")
    if not folder:
        return None
    path = Path(folder).resolve()
    if not (path / "Base/Python/slicer/ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(
            f"SLICER_SOURCE names {path}, which has no Base/Python/slicer/ScriptedLoadableModule.py"
        )
    return path


def terminologyFolder() -> Path | None:
    """Where the checkout has Slicer's terminologies, or None."""
    path = checkout()
    folder = path / "Modules/Loadable/Terminologies/Resources" if path else None
    return folder if folder and folder.is_dir() else None


def addNamedClasses(folder: Path) -> None:
    """Give ``ctk`` and ``slicer`` an empty class for each widget that Slicer's files name and the host does not have."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py") if "tests" not in path.parts)
    for module, pattern in ((sys.modules["ctk"], r"\bctk\.(ctk\w+)"), (slicer, r"\bslicer\.(qMRML\w+)")):
        for name in sorted(set(re.findall(pattern, text))):
            if not hasattr(module, name):
                setattr(module, name, type(name, (), {"__doc__": "Named by Slicer's files, not in the test host."}))


def addScriptedModules(path: Path) -> None:
    """Make the checkout's scripted modules importable, with the libraries that they import by name."""
    for name, library in LIBRARIES.items():
        sys.modules[name] = importlib.import_module(library)
    for folder in (path / "Modules/Scripted" / name for name in SCRIPTED_MODULES):
        if folder.is_dir():
            sys.path.append(str(folder))


def install() -> None:
    """Make the five modules importable as ``slicer.<name>``, and of a checkout its scripted modules.

    What a checkout does not have is not there: Slicer 5.10 has no ``slicer.packaging``.
    """
    path = checkout()
    if path is not None:
        slicer.__path__ = [*slicer.__path__, str(path / "Base/Python/slicer")]
        addNamedClasses(path / "Base/Python/slicer")
        addScriptedModules(path)
        # Slicer 5.10's own modules use this of Qt 5, which Qt 6 has no more.
        qt.QLayout.setMargin = lambda layout, margin: layout.setContentsMargins(margin, margin, margin, margin)
    for name, standIn in STAND_INS.items():
        if path is None:
            sys.modules[f"slicer.{name}"] = importlib.import_module(standIn)
        if importlib.util.find_spec(f"slicer.{name}") is not None:
            setattr(slicer, name, importlib.import_module(f"slicer.{name}"))
