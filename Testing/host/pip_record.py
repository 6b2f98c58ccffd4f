"""Keeps tests from installing anything: an install by pip is written down instead, whoever asks for it.

``requests`` holds the arguments of each run, oldest first. ``answer`` says how the next runs end. ``outside()`` is what was asked
in ``PythonSlicer``, where only a pip without a network runs.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError

import slicer

RECORD = "SLICER_HOST_PIP_RECORD"  # as in python_slicer/slicer/util.py


@dataclass
class Answer:
    """What pip prints and returns; ``effect`` is called in between, with pip's arguments."""

    lines: list[str] = field(default_factory=list)
    returnCode: int = 0
    effect: Callable[[list[str]], None] | None = None


requests: list[list[str]] = []
answer = Answer()

_executePythonModule = slicer.util.executePythonModule


def reset() -> None:
    """Forget earlier requests; pip succeeds again without a word."""
    global answer
    requests.clear()
    Path(os.environ[RECORD]).unlink(missing_ok=True)
    answer = Answer()


def outside() -> list[tuple[str, list[str], dict[str, str]]]:
    """Module, arguments and pip's environment variables of each run that was asked for in ``PythonSlicer``, oldest first."""
    path = Path(os.environ[RECORD])
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def executePythonModule(
    module: str,
    args: list[str],
    blocking: bool = True,
    logCallback: Callable[[str], None] | None = None,
    completedCallback: Callable[[int], None] | None = None,
) -> None:
    """Slicer's own ``executePythonModule``, but for a pip that would change something, which is recorded."""
    if module != "pip" or args[0] not in ("install", "uninstall", "download"):
        _executePythonModule(module, args, blocking, logCallback, completedCallback)
        return
    requests.append(list(args))
    if blocking:
        returnCode = speak(list(args), logCallback)
        if returnCode != 0:
            raise CalledProcessError(returnCode, ["pip", *args])
        return
    import qt

    def end() -> None:
        returnCode = speak(list(args), logCallback)
        if completedCallback is not None:
            completedCallback(returnCode)

    qt.QTimer.singleShot(0, end)


def speak(args: list[str], logCallback: Callable[[str], None] | None) -> int:
    current = answer
    for line in current.lines:
        if logCallback is not None:
            logCallback(line)
    if current.effect is not None:
        current.effect(args)
    return current.returnCode


def install() -> None:
    """Put the recorder in the place of ``slicer.util.executePythonModule``."""
    slicer.util.executePythonModule = executePythonModule
