"""One verb of the engine's command line, run in the background: its events, its end, and a way to give it up."""

from __future__ import annotations

import json
import socket
import time

import qt
from slicer.i18n import tr as _

from .remedies import remedyOf
from .signal import Signal
from .worker.command import WorkerCommand, engineCommand
from .worker.process import LOG_CHARACTERS, killTrees, processEnvironment, wasEndedFromOutside

TICK_SECONDS = 0.015
"""How long the events of one tick may take together; far below what a person notices."""
PACKAGE_MISSING = "No module named"


class EngineProcess:
    """Runs ``dinomix <arguments> --json``; everything happens on the main thread, and nothing here waits.

    Attributes:
        log: the last of what it printed on its error stream, and lines of its output that are no events.

    Signals; of the last three one is emitted, once, after ``start`` has returned and after the last event:
        event(event): a JSON object that it printed, as a dict.
        finished(exitCode): it has done its work; the exit code is 0.
        failed(problem, remedy): it cannot be started, was ended from outside, or left with another exit code. The words are
            those of its last ``error`` event, where there is one.
        cancelled(): it was given up, and all that it has started has ended.
    """

    def __init__(self, arguments: list[str], command: WorkerCommand | None = None) -> None:
        """
        Args:
            arguments: the verb and its options, such as ["check", "--labeled", folder, "--out", file].
            command: what runs the engine; None for ``engineCommand()``.

        Raises:
            DinomixError: the command that the user has set runs no engine on this computer.
        """
        self.event, self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal(), Signal()
        self.log = ""
        self._command = command or engineCommand()
        self._arguments = [*arguments, *([] if "--json" in arguments else ["--json"])]
        self._state = "new"  # then "running", "cancelling", "over"
        self._unread = bytearray()
        self._searched = 0
        self._hasEvents = False
        self._lastError: tuple[str, str] | None = None
        self._processNumber: int | None = None
        self._hasStarted = True
        self._exit: tuple[int, bool] | None = None  # exit code, and whether it was ended from outside
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(processEnvironment(self._command.environment))
        self._process.setStandardInputFile(qt.QProcess.nullDevice())
        self._process.connect("readyReadStandardOutput()", self._onOutput)
        self._process.connect("readyReadStandardError()", self._onErrorOutput)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._onProcessError)
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._onTick)

    def start(self) -> None:
        """Start it. It runs once; another run is another EngineProcess."""
        if self._state != "new":
            return
        self._state = "running"
        program, *arguments = self._command.arguments
        self._process.start(program, [*arguments, *self._arguments])

    def isRunning(self) -> bool:
        """Whether its end has still to be announced."""
        return self._state in ("running", "cancelling")

    def cancel(self) -> None:
        """End it with all that it has started; no further event comes, and ``cancelled`` follows as soon as it has ended."""
        if self._state != "running":
            return
        self._state = "cancelling"
        self._unread.clear()
        self._searched = 0
        self._killAll()
        # The next tick announces it where the process had ended already.
        if self._exit is not None:
            self._timer.start()

    def end(self) -> None:
        """End it with all that it has started, and wait for that: for when the module goes. No signal follows."""
        if not self.isRunning():
            return
        self._state = "over"
        self._timer.stop()
        self._killAll()
        self._process.waitForFinished(1000)

    def _killAll(self) -> None:
        isThere = self._process.state() != qt.QProcess.NotRunning
        roots = [int(self._process.processId()) if isThere else 0, self._processNumber or 0]
        killTrees([root for root in roots if root > 0])
        self._process.kill()

    # -- What it prints

    def _onOutput(self) -> None:
        data = bytes(self._process.readAllStandardOutput().data())
        if data and self._state == "running":
            self._unread += data
            self._timer.start()

    def _onErrorOutput(self) -> None:
        self._note(bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace"))

    def _onTick(self) -> None:
        """Announce some events, and the end after the last of them."""
        end = time.monotonic() + TICK_SECONDS
        while self._state == "running":
            line = self._nextLine()
            if line is None:
                break
            self._take(line)
            if time.monotonic() > end:
                return
        self._timer.stop()
        if self._exit is not None and self.isRunning():
            self._announceEnd(*self._exit)

    def _nextLine(self) -> bytes | None:
        end = self._unread.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._unread)
            if self._exit is None or not self._unread:
                return None
            end = self._searched  # a last line without an end
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        self._searched = 0
        return line

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self._note(line.decode("utf-8", "replace") + "\n")
            return
        self._hasEvents = True
        if event.get("kind") == "error":
            self._lastError = (str(event.get("message", "")), remedyOf(event))
        elif event.get("kind") == "started" and event.get("host") == socket.gethostname():
            # A launcher may stand between; ended alone, it would leave this one behind.
            self._processNumber = int(event["pid"])
        self.event.emit(event)

    def _note(self, text: str) -> None:
        self.log = (self.log + text)[-LOG_CHARACTERS:]

    # -- The end of it

    def _onFinished(self, exitCode: int, exitStatus: int) -> None:
        self._onOutput()
        self._onErrorOutput()
        self._exit = (exitCode, wasEndedFromOutside(exitCode, exitStatus))
        self._timer.start()

    def _onProcessError(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart:
            self._hasStarted, self._exit = False, (-1, False)
            self._timer.start()

    def _announceEnd(self, exitCode: int, isEndedFromOutside: bool) -> None:
        wasCancelled, self._state = self._state == "cancelling", "over"
        if wasCancelled:
            self.cancelled.emit()
        elif exitCode == 0 and not isEndedFromOutside and self._hasEvents:
            self.finished.emit(exitCode)
        else:
            self.failed.emit(*self._whyFailed(exitCode, isEndedFromOutside))

    def _whyFailed(self, exitCode: int, isEndedFromOutside: bool) -> tuple[str, str]:
        program = self._command.arguments[0]
        if not self._hasStarted:
            return (
                _("The program {program} cannot be started.").format(program=program),
                _(
                    "Correct the worker command in the settings of DINOMix Segment, or clear it to use Slicer's own Python."
                ),
            )
        if isEndedFromOutside:
            return (
                _("The engine was ended by the system or by another program."),
                _("Try again; if it ends again, close other programs to free memory."),
            )
        if self._lastError is not None:
            return self._lastError
        if PACKAGE_MISSING in self.log:
            return (
                _("DINOMix's packages are not installed in the Python that runs the engine ({words}).").format(
                    words=self._lastWords(1)
                ),
                _("Install them as the module offers, or in the environment that the worker command names."),
            )
        if exitCode == 0:
            return (
                _("The program {program} is not DINOMix's engine; it said: {words}").format(
                    program=program, words=self._lastWords(3) or "-"
                ),
                _(
                    "Correct the worker command in the settings of DINOMix Segment, or clear it to use Slicer's own Python."
                ),
            )
        return (
            _("The engine stopped with exit code {code}. Its last words: {words}").format(
                code=exitCode, words=self._lastWords(3) or "-"
            ),
            _("Try again; if it stops again, report it with the log."),
        )

    def _lastWords(self, lines: int) -> str:
        return " / ".join([line.strip() for line in self.log.splitlines() if line.strip()][-lines:])
