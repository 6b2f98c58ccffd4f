"""``slicer.packaging``: finds out what is installed as Slicer does, and asks ``slicer.util.executePythonModule`` to run pip.

The host lets no pip run (see ``host.pip_record``), so what a test installs is what it asked pip for.
"""

import importlib
import logging
import shlex
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from subprocess import CalledProcessError

import slicer.util
from packaging.requirements import InvalidRequirement, Requirement

__all__ = [
    "isPipInstallInProgress",
    "load_pyproject_dependencies",
    "load_requirements",
    "pip_check",
    "pip_ensure",
    "pip_install",
    "pip_uninstall",
]

Requirements = str | Requirement | list[str | Requirement]

_installing = False


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements in a requirements.txt; comments and pip's options are passed over."""
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def load_pyproject_dependencies(path: str | Path) -> list[Requirement]:
    """The list ``dependencies`` of the table ``project``; KeyError without that table."""
    tables = tomllib.loads(Path(path).read_text())
    if "project" not in tables:
        raise KeyError(f"{path} has no table [project]")
    project = tables["project"]
    return [Requirement(line) for line in project.get("dependencies", [])]


def pip_check(req: Requirements) -> bool:
    """True if every requirement that applies here is installed in a fitting version, with its extras."""
    return all(isSatisfied(requirement, set()) for requirement in listOf(req))


def pip_ensure(
    requirements: Requirements,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Install what is missing after asking; RuntimeError if the user says no. Nothing is done in testing mode.

    In ``PythonSlicer``, outside the application, nobody is asked.
    """
    missing = [requirement for requirement in listOf(requirements) if not pip_check(requirement)]
    if not missing:
        return None
    if not isApplication():
        return pip_install(list(map(str, missing)), constraints=constraints, skip_packages=skip_packages)
    if skip_in_testing and slicer.app.testingEnabled():
        logging.info(f"testing mode: {', '.join(map(str, missing))} not installed")
        return None
    names = "\n".join(map(str, missing))
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"Install these packages?\n{names}", requester):
        raise RuntimeError("User declined package installation")
    before = installedVersions()
    skipped = pip_install(
        [str(requirement) for requirement in missing],
        constraints=constraints,
        skip_packages=skip_packages,
        show_progress=show_progress,
        requester=requester,
    )
    # As in Slicer, whoever agrees loses what is not saved.
    isAsked = prompt_restart and replacedInUse(before) and not slicer.app.testingEnabled()
    if isAsked and slicer.util.confirmYesNoDisplay("Packages in use were replaced. Restart now?", requester):
        slicer.util.restart()
    return skipped


def pip_install(
    requirements: str | list[str],
    constraints: str | Path | None = None,
    no_deps_requirements: str | list[str] | None = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    parent: object = None,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> list[str] | None:
    """Run ``pip install``; with ``blocking=False`` the callbacks hear of its lines and of its end.

    Outside the application and in testing mode it waits in any case, and no callback is called.
    """
    global _installing
    if skip_packages is not None and (no_deps_requirements is not None or not blocking):
        raise ValueError("skip_packages goes with neither no_deps_requirements nor blocking=False")
    isPlain = not isApplication() or slicer.app.testingEnabled()
    if not blocking and not isPlain and _installing:
        raise RuntimeError("another pip_install is in progress")
    if no_deps_requirements is not None:
        slicer.util.executePythonModule("pip", ["install", *argumentsOf(no_deps_requirements), "--no-deps"])
    arguments = ["install", *argumentsOf(requirements)]
    if constraints is not None:
        arguments += ["-c", str(constraints)]
    if isPlain:
        slicer.util.executePythonModule("pip", arguments, blocking=True)
        return [] if skip_packages is not None else None
    if blocking:
        runWithDialog(arguments, requester, show_progress)
        return [] if skip_packages is not None else None
    _installing = True

    def completed(returnCode: int) -> None:
        global _installing
        _installing = False
        if completedCallback is not None:
            completedCallback(returnCode)

    try:
        slicer.util.executePythonModule("pip", arguments, False, logCallback, completed)
    except Exception:
        _installing = False
        raise
    return None


def runWithDialog(arguments: list[str], requester: str | None, isShown: bool) -> None:
    """Run pip to its end; where a dialog shows it, a failure is shown by another one before it is raised."""
    try:
        slicer.util.executePythonModule("pip", arguments, blocking=True)
    except CalledProcessError:
        if isShown:
            slicer.util.errorDisplay("Package installation failed.", windowTitle=requester)
        raise


def pip_uninstall(
    requirements: str | list[str],
    blocking: bool = True,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> None:
    """Run ``pip uninstall --yes``."""
    arguments = ["uninstall", *argumentsOf(requirements), "--yes"]
    slicer.util.executePythonModule("pip", arguments, blocking, logCallback, completedCallback)


def isPipInstallInProgress() -> bool:
    """True while a ``pip_install(blocking=False)`` runs."""
    return _installing


def isApplication() -> bool:
    """False in ``PythonSlicer``, where ``slicer`` has no ``app``."""
    return hasattr(slicer, "app")


def installedVersions() -> dict[str, str]:
    """Name -> version of every installed package."""
    importlib.invalidate_caches()
    return {distribution.metadata["Name"]: distribution.version for distribution in metadata.distributions()}


def replacedInUse(before: dict[str, str]) -> list[str]:
    """Packages that have another version than before, and whose modules are loaded."""
    packages = metadata.packages_distributions()
    inUse = {package for module, names in packages.items() if module in sys.modules for package in names}
    return [name for name, version in installedVersions().items() if name in inUse and before.get(name) != version]


def listOf(requirements: Requirements) -> list[Requirement]:
    """The requirements given as one text (one with a marker, or several between blanks), one object, or a list."""
    if isinstance(requirements, Requirement):
        return [requirements]
    if isinstance(requirements, str):
        try:
            return [Requirement(requirements)]
        except InvalidRequirement:
            return [Requirement(part) for part in requirements.split()]
    if isinstance(requirements, list):
        return [Requirement(item) if isinstance(item, str) else item for item in requirements]
    raise TypeError(f"requirements are a text, a Requirement or a list, not {requirements!r}")


def argumentsOf(requirements: str | list[str]) -> list[str]:
    if isinstance(requirements, str):
        return shlex.split(requirements)
    if isinstance(requirements, list) and all(isinstance(item, str) for item in requirements):
        return list(requirements)
    raise ValueError(f"pip takes a text or a list of texts, not {requirements!r}")


def isSatisfied(requirement: Requirement, seen: set) -> bool:
    key = (requirement.name.lower(), frozenset(requirement.extras))
    if key in seen or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
        return True
    seen.add(key)
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if version not in requirement.specifier:
        return False
    wanted = [Requirement(line) for line in metadata.requires(requirement.name) or []] if requirement.extras else []
    for needed in wanted:
        if needed.marker is not None and any(needed.marker.evaluate({"extra": extra}) for extra in requirement.extras):
            needed.marker = None
            if not isSatisfied(needed, seen):
                return False
    return True
