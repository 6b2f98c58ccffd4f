"""Which Python packages the engine needs, and which of them this Python lacks. Nothing is imported to find out."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

HERE = Path(__file__).resolve()
LISTS = (HERE.parents[1] / "pyproject.toml", HERE.parents[3] / "pyproject.toml")
"""Where the one list of dependencies is: beside this file in an installed extension, else at the top of the source tree."""
ACCELERATORS = "openvino"
"""The list of optional packages that are installed with the others; where one cannot be had, that is no failure."""
SEGMENT, TRAIN = "segment", "train"
"""What packages are for: segmenting alone, with models that carry a graph; or training too, which takes all."""
BUNDLED = ("numpy", "scipy", "SimpleITK")
"""Packages that Slicer brings and has loaded; another version of them would break Slicer itself."""


def requirements() -> list[Requirement]:
    """The engine's dependencies.

    Raises:
        DinomixError: the list was not installed with the extension.
    """
    return _applying(_table()["project"]["dependencies"])


def forSegmenting() -> list[Requirement]:
    """Enough to segment without PyTorch, OpenVINO among them. Raises as ``requirements``."""
    return _applying(_table()["dependency-groups"][SEGMENT])


def accelerators() -> list[Requirement]:
    """What the engine uses where it is there, and does without else; those that are not installed. Raises as ``requirements``."""
    return [r for r in _applying(_table()["project"]["optional-dependencies"][ACCELERATORS]) if not isInstalled(r)]


def _table() -> dict[str, Any]:
    for path in LISTS:
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
    raise DinomixError(_("The extension's list of packages is missing."), _("Install the DINOMix extension again."))


def _applying(lines: list[str]) -> list[Requirement]:
    found = [Requirement(line) for line in lines]
    return [r for r in found if r.marker is None or r.marker.evaluate()]


def missing(purpose: str = TRAIN) -> list[Requirement]:
    """What is not installed of what a purpose takes, or in a version that does not serve."""
    wanted = requirements() if purpose == TRAIN else forSegmenting()
    return [requirement for requirement in wanted if not isInstalled(requirement)]


def isInstalled(requirement: Requirement) -> bool:
    """Whether a package is there in a fitting version. A half-installed one, without a version, is not."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return bool(version) and requirement.specifier.contains(version, prereleases=True)


def torchSpecifier() -> SpecifierSet:
    """The versions of torch to ask for on this computer."""
    specifier = next(r.specifier for r in requirements() if r.name == "torch")
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        # The last version for Intel Macs, which Slicer on Apple silicon is too, under Rosetta.
        specifier &= SpecifierSet("<2.3")
    if sys.platform == "win32" and not hasLongPaths():
        # Its files have paths longer than Windows allows by default; pip then leaves a half that nothing can mend.
        specifier &= SpecifierSet("<2.13")
    return specifier


def hasLongPaths() -> bool:
    """Whether Windows was told to allow paths of more than 260 characters; True elsewhere."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def constraints() -> list[str]:
    """Lines for pip that keep the packages that Slicer brings as they are."""
    lines = []
    for name in BUNDLED:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


def versions() -> dict[str, str]:
    """Name -> version of every installed package, by the names of their folders: reading all of them takes too long."""
    found: dict[str, str] = {}
    for folder in reversed(sys.path):
        for entry in Path(folder).glob("*.dist-info"):
            name, _dash, version = entry.name.removesuffix(".dist-info").partition("-")
            found[canonicalize_name(name)] = version
    return found


def changedInUse(before: dict[str, str]) -> list[str]:
    """Packages whose version is not that of ``before`` (see ``versions``) any more, and whose old one Slicer has loaded."""
    importlib.invalidate_caches()
    now = versions()
    changed = [name for name, version in before.items() if now.get(name, version) != version]
    return sorted(name for name in changed if _modules(name) & set(sys.modules))


def _modules(name: str) -> set[str]:
    """The top-level modules that a package has installed."""
    files = importlib.metadata.files(name) or []
    return {Path(file.parts[0]).stem for file in files if file.suffix in (".py", ".so", ".pyd")}


def notices() -> list[str]:
    """What is wrong with the installed packages though they suffice; full sentences."""
    found: list[str] = []
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return found
    if torch.endswith("+cpu") and shutil.which("nvidia-smi"):
        found.append(
            _(
                "This computer has an NVIDIA GPU, but the installed PyTorch {version} computes on the CPU only. To use the GPU, "
                "open the PyTorch Utils module, uninstall PyTorch, and install it again."
            ).format(version=torch)
        )
    if os.name == "nt" and not hasLongPaths() and not SpecifierSet("<2.13").contains(torch.split("+")[0]):
        found.append(
            _("PyTorch {version} may be incomplete, since Windows allows only short paths. Allow long paths, then reinstall it.")
            .format(version=torch)
        )  # fmt: skip
    return found
