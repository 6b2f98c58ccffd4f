"""Starting a training run as a process of its own, which goes on when Slicer is closed, and asking it to pause or stop."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.files import write_json

from ..paths import isFile, isFolder
from ..processes import createdAt, isHeld, killTrees
from ..worker.command import engineCommand
from .state import ALIVE, LAUNCH, LOCK, readJson

LOG, REQUEST = "log.txt", "request.json"
CLOCK_SECONDS = 10.0
"""How far the time of a process's creation may be from that which a file tells of it; far less than a number takes to return."""

_started: dict[Path, subprocess.Popen[bytes]] = {}
"""The processes that this Slicer has started, so that their end is collected; a reload of a module keeps them."""


def startRun(run: Path, arguments: list[str]) -> None:
    """Start ``dinomix train`` with these options into a new run directory; returns at once.

    Args:
        arguments: the options of ``train``, without the verb and without ``--out``.

    Raises:
        DinomixError: a run is there already, the engine's command is none for this computer, or it cannot be started.
    """
    if isFile(run / "config.json"):
        raise DinomixError(_("There is a run in {path} already.").format(path=run), _("Give the new run another name."))
    _launch(run, ["train", *arguments, "--out", str(run)])


def resumeRun(run: Path) -> None:
    """Start a process that goes on with a run; returns at once.

    Raises:
        DinomixError: as ``startRun``; or there is no run to go on with.
    """
    if not isFile(run / "config.json"):
        raise DinomixError(
            _("There is no run in {path} that could be resumed.").format(path=run), _("Start a new one.")
        )
    _launch(run, ["train", "--resume", str(run)])


def finishRun(run: Path) -> None:
    """Start a process that makes the model of a run that none trains, from its best weights by now; returns at once.

    Raises:
        DinomixError: as ``startRun``; or the run has no checkpoint yet.
    """
    if not hasCheckpoint(run):
        raise DinomixError(
            _("The run in {path} has no checkpoint yet of which a model could be made.").format(path=run),
            _("Resume it."),
        )
    _launch(run, ["train", "--finish", str(run)])


def hasCheckpoint(run: Path) -> bool:
    """Whether a model can be made of the run as it is."""
    return isFile(run / "checkpoints" / "last.pt")


def askRun(run: Path, request: str) -> None:
    """Ask a run to "pause", or to "stop" and keep its best model. It answers between two steps, by an event.

    Raises:
        DinomixError: the run's folder is gone, or nothing can be written there.
    """
    if not isFolder(run):
        raise DinomixError(_("The folder of this run is gone: {path}").format(path=run), _("Open another run."))
    try:
        write_json(run / REQUEST, {"request": request})
    except OSError as error:
        raise _unwritable(run, error) from error


def endRun(run: Path) -> None:
    """End the processes of a run on this computer at once; it can be resumed from its last checkpoint."""
    killTrees(list(_processesOf(run)))
    exitCode(run)


def exitCode(run: Path) -> int | None:
    """The exit code of the process that this Slicer has started last for a run; None while it goes on, or without one."""
    process = _started.get(run)
    return process.poll() if process is not None else None


# -- Inside


def _processesOf(run: Path) -> Iterator[int]:
    """Those that surely are the run's: after a restart of the computer, others may have the numbers that its files name."""
    process = _started.get(run)
    if process is not None and process.poll() is None:
        yield process.pid
    number, written = _noted(run / LAUNCH)
    created = createdAt(number) if number > 0 else None
    if created is not None and abs(created - written) < CLOCK_SECONDS:
        yield number
    number, written = _noted(run / ALIVE)
    created = createdAt(number) if number > 0 and isHeld(run / LOCK) else None
    if created is not None and created < written + CLOCK_SECONDS:
        yield number


def _noted(file: Path) -> tuple[int, float]:
    """The process of this computer that a file of a run names, and when it was written; 0 without one."""
    data = readJson(file) or {}
    if data.get("host") != socket.gethostname():
        return 0, 0.0
    return int(data.get("pid", 0)), float(data.get("time", 0))


def _launch(run: Path, arguments: list[str]) -> None:
    command = engineCommand()
    program = [*command.arguments, *arguments]
    try:
        run.mkdir(parents=True, exist_ok=True)
        with open(run / LOG, "ab") as log:
            words = " ".join(json.dumps(word) if " " in word else word for word in program)
            log.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {words}\n".encode())
            log.flush()
            start = log.tell()
            _started[run] = _detached(program, log, command.environment)
        note = {"pid": _started[run].pid, "host": socket.gethostname(), "time": time.time(), "log": start}
        write_json(run / LAUNCH, {**note, "arguments": program})
    except FileNotFoundError as error:
        raise DinomixError(
            _("The program {program} cannot be started.").format(program=program[0]),
            _("Correct the worker command in the settings of DINOMix Segment, or clear it to use Slicer's own Python."),
        ) from error
    except OSError as error:
        raise _unwritable(run, error) from error


def _detached(program: list[str], log: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process that is outside Slicer's own group and console, so that it does not end with them."""
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT,
        # The log is a file: progress is read from the events.
        "env": {**environment, "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"},
    }  # fmt: skip
    if sys.platform != "win32":
        return subprocess.Popen(program, start_new_session=True, **options)
    flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    try:
        return subprocess.Popen(program, creationflags=flags | subprocess.CREATE_BREAKAWAY_FROM_JOB, **options)
    except PermissionError:  # Slicer was started by a program that does not let its children go
        return subprocess.Popen(program, creationflags=flags, **options)


def _unwritable(run: Path, error: OSError) -> DinomixError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DinomixError(
            _("There is no space left on the disk of {path}").format(path=run), _("Free some space, then try again.")
        )
    return DinomixError(
        _("Nothing can be written to {path} ({reason}).").format(path=run, reason=error.strerror or str(error)),
        _("Choose a study folder that you may write to."),
    )
