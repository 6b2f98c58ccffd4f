"""How the worker is started: Slicer's own Python, or whatever command the user has set."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

SETTING = "DINOMix/WorkerCommand"
PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that holds the packages dinomix and dinomix_slicer."""
REMOTE_SHELLS = ("ssh", "autossh", "mosh", "plink")


@dataclass(frozen=True)
class WorkerCommand:
    """A program with its arguments, and the whole environment that it gets.

    ``isOwnPython`` says that it is Slicer's own Python, whose packages the module may install.
    """

    arguments: list[str]
    environment: dict[str, str]
    isOwnPython: bool = False


def workerCommand(text: str | None = None) -> WorkerCommand:
    """The command to start the worker with.

    Args:
        text: a command line as the user writes it, such as "ssh gpu-box dinomix worker"; None for the setting
            DINOMix/WorkerCommand. Empty: Slicer's own Python.

    Raises:
        DinomixError: a quotation mark is not closed.
    """
    if text is None:
        text = str(qt.QSettings().value(SETTING) or "")
    if not text.strip():
        return _ownPython()
    # Another environment must not find Slicer's libraries and packages before its own.
    return WorkerCommand(splitCommand(text), slicer.util.startupEnvironment())


def engineCommand(text: str | None = None) -> WorkerCommand:
    """The command that a verb of the engine with its options is added to, such as ["dinomix"].

    Args:
        text: as for ``workerCommand``; its last word, ``worker``, is taken away.

    Raises:
        DinomixError: a quotation mark is not closed, or the worker runs on another computer or in another way than
            ``... dinomix worker``: what is checked and trained lies on this computer.
    """
    command = workerCommand(text)
    *words, last = command.arguments
    if Path(words[0] if words else last).stem.lower() in REMOTE_SHELLS:
        raise DinomixError(
            _("The worker command runs on another computer, and cases are checked and models trained on this one."),
            _(
                "Clear the worker command in the settings of DINOMix Segment, or set one that starts dinomix on this computer."
            ),
        )
    if last != "worker" or not words:
        raise DinomixError(
            _(
                "How to run the engine cannot be told from the worker command, since its last word is not worker: {command}"
            ).format(command=" ".join(command.arguments)),
            _("Set a worker command such as /path/to/dinomix worker, or clear it to use Slicer's own Python."),
        )
    return WorkerCommand(words, command.environment, command.isOwnPython)


def splitCommand(text: str, isWindows: bool = os.name == "nt") -> list[str]:
    """The words of a command line; quotation marks keep words with spaces together, and on Windows \\ is a plain letter.

    Raises:
        DinomixError: a quotation mark is not closed.
    """
    try:
        words = shlex.split(text, posix=not isWindows)
    except ValueError as error:
        raise DinomixError(
            _("The worker command has a quotation mark that is not closed ({command}).").format(command=text),
            _("Correct it in the module's settings, or clear it to use Slicer's own Python."),
        ) from error
    if not isWindows:
        return words
    return [word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word for word in words]


def ownPython() -> str:
    """The Python of this Slicer, as a program of its own."""
    return shutil.which("PythonSlicer") or sys.executable


def _ownPython() -> WorkerCommand:
    environment = dict(os.environ)
    paths = [str(PACKAGES), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    environment["PYTHONUTF8"] = "1"
    for name in ("TMPDIR", "TEMP", "TMP"):
        environment[name] = slicer.app.temporaryPath
    return WorkerCommand([ownPython(), "-m", "dinomix", "worker"], environment, isOwnPython=True)
