"""The worker's process: bytes in, bytes out, and the end of it with everything that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import qt
from slicer.i18n import tr as _

from ..signal import Signal
from .command import WorkerCommand

LOG_CHARACTERS = 100_000
LARGEST_SIGNAL = 64


class WorkerProcess:
    """A process behind a QProcess; all signals on the main thread.

    Signals:
        received(data): bytes of its standard output.
        ended(reason): it is gone without being asked; why, as far as it is known.
    """

    def __init__(self, command: WorkerCommand) -> None:
        self.received, self.ended = Signal(), Signal()
        self.command = command
        self.log = ""
        self._isAskedToEnd = False
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(processEnvironment(command.environment))
        self._process.connect("readyReadStandardOutput()", self._onOutput)
        self._process.connect("readyReadStandardError()", self._onError)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._onFailedToStart)

    def start(self) -> None:
        """Start it; ``ended`` follows where that is not possible."""
        program, *arguments = self.command.arguments
        self._process.start(program, arguments)

    def send(self, data: bytes) -> None:
        """Send bytes to its standard input; they are buffered where it reads slowly."""
        if self.isRunning():
            self._process.write(qt.QByteArray(data))

    def bytesToSend(self) -> int:
        """Bytes that it has not read yet."""
        return int(self._process.bytesToWrite())

    def isRunning(self) -> bool:
        """Whether the process is there."""
        return self._process.state() != qt.QProcess.NotRunning

    def end(self, alsoEnd: int | None = None) -> None:
        """End it and all that it has started, at once. No signal follows.

        Args:
            alsoEnd: the worker's own process number on this computer, where it is known: a launcher stands between.
        """
        self._isAskedToEnd = True
        roots = [int(self._process.processId()) if self.isRunning() else 0, alsoEnd or 0]
        killTrees([root for root in roots if root > 0])
        self._process.kill()
        self._process.waitForFinished(200)

    def hearNow(self) -> None:
        """Take in what it has said by now, without waiting: after Slicer itself was busy, a timer may be due first."""
        if self.isRunning():
            self._process.waitForReadyRead(0)

    def _onOutput(self) -> None:
        data = bytes(self._process.readAllStandardOutput().data())
        if data and not self._isAskedToEnd:
            self.received.emit(data)

    def _onError(self) -> None:
        text = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        self.log = (self.log + text)[-LOG_CHARACTERS:]

    def _onFinished(self, exitCode: int, exitStatus: int) -> None:
        self._onOutput()
        self._onError()
        if self._isAskedToEnd:
            return
        self._isAskedToEnd = True
        if wasEndedFromOutside(exitCode, exitStatus):
            reason = _("it was ended by the system or by another program")
        else:
            reason = _("it ended with exit code {code}").format(code=exitCode)
        self.ended.emit(reason)

    def _onFailedToStart(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart and not self._isAskedToEnd:
            self._isAskedToEnd = True
            program = self.command.arguments[0]
            self.ended.emit(_("the program {program} cannot be started").format(program=program))


def wasEndedFromOutside(exitCode: int, exitStatus: int) -> bool:
    """Whether a signal has ended a process, or the program that it launched.

    A launcher tells by 128 and the signal's number how its program ended; other high exit codes, such as ssh's 255, are
    programs' own.
    """
    return exitStatus == qt.QProcess.CrashExit or (os.name == "posix" and 128 < exitCode <= 128 + LARGEST_SIGNAL)


def killTrees(roots: list[int]) -> None:
    """End processes and all their descendants, at once."""
    if sys.platform == "win32":
        for root in roots:
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(root)],
                check=False,
                capture_output=True,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        return
    children = _childrenOfAll()
    waiting, doomed = list(roots), []
    while waiting:
        process = waiting.pop()
        if process not in doomed:
            doomed.append(process)
            waiting += children[process]
    for process in doomed:
        try:
            os.kill(process, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _childrenOfAll() -> dict[int, list[int]]:
    """Process number -> numbers of its children; without psutil, which Slicer's own Python may not have."""
    children: dict[int, list[int]] = defaultdict(list)
    for process, parent in _processesAndParents():
        children[parent].append(process)
    return children


def _processesAndParents() -> list[tuple[int, int]]:
    if Path("/proc/self/stat").exists():
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    # The name in parentheses may hold spaces and parentheses of its own.
                    fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    found.append((int(folder.name), int(fields[1])))
                except (OSError, IndexError, ValueError):
                    continue
        return found
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    return [(int(process), int(parent)) for process, parent in (line.split() for line in listed.splitlines())]


def processEnvironment(variables: dict[str, str]) -> qt.QProcessEnvironment:
    """A whole environment as QProcess takes it."""
    environment = qt.QProcessEnvironment()
    for name, value in variables.items():
        environment.insert(name, value)
    return environment
