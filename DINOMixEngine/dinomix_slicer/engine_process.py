"""One verb of the engine's command line, run in the background: its events, its end, and a way to give it up."""

from __future__ import annotations

from collections.abc import Iterator

from dinomix.files import parse_json

from .process import EXITED, Process, whyEnded
from .remedies import remedyOf
from .signal import Signal
from .task import Task
from .worker.command import WorkerCommand, engineCommand

MOST_NOTES = 1000


class EngineProcess(Task):
    """Runs ``dinomix <arguments> --json``; nothing here waits. ``finished`` gets the exit code, 0.

    Where it fails, the words are those of its last ``error`` event, if there is one. It was ``cancelled`` when all that it has
    started has ended.

    Signals, beside those of a task, which come after ``start`` has returned:
        event(event): a JSON object that it printed, as a dict.
    """

    def __init__(self, arguments: list[str], command: WorkerCommand | None = None) -> None:
        """
        Args:
            arguments: the verb and its options, such as ["check", "--labeled", folder, "--out", file].
            command: what runs the engine; None for ``engineCommand()``.

        Raises:
            DinomixError: the command that the user has set runs no engine on this computer.
        """
        super().__init__()
        self.state = "new"  # then "running", "cancelling"
        self.event = Signal()
        self._command = command or engineCommand()
        self._process = Process(
            self._command, [*arguments, *([] if "--json" in arguments else ["--json"])], self._lines
        )
        self._rest = b""  # of a line
        self._notes: list[str] = []  # lines of its output that are no events
        self._hasEvents = False
        self._lastError: tuple[str, str] | None = None
        self._processNumber: int | None = None

    @property
    def log(self) -> str:
        """What it printed that is no event, the last of its error stream at the end."""
        return "\n".join([*self._notes, self._process.log])

    def start(self) -> None:
        """Start it. It runs once; another run is another EngineProcess."""
        if self.state == "new":
            self.state = "running"
            self._process.heard.connect(self._take)
            self._process.ended.connect(self._onEnded)
            self._process.start()

    def isRunning(self) -> bool:
        """Whether its end has still to be announced."""
        return self.state in ("running", "cancelling")

    def cancel(self) -> None:
        """End it with all that it has started; no further event comes, and ``cancelled`` follows as soon as it has ended."""
        if self.state == "running":
            self.state = "cancelling"
            self._process.kill(self._processNumber)

    def end(self) -> None:
        """End it with all that it has started, and wait for that: for when the module goes. No signal follows."""
        if self.isRunning():
            self.state = "cancelled"
            self._process.end(self._processNumber)

    def _letGo(self) -> None:
        self.event.clear()

    def _lines(self, data: bytes) -> Iterator[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from lines

    def _take(self, line: bytes) -> None:
        if self.state != "running":
            return
        try:
            event = parse_json(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._notes = [*self._notes, line.decode("utf-8", "replace")][-MOST_NOTES:]
            return
        self._hasEvents = True
        if event.get("kind") == "error":
            self._lastError = (str(event.get("message", "")), remedyOf(event))
        elif event.get("kind") == "started" and self._command.isOwnPython:
            # A launcher may stand between; ended alone, it would leave this one behind. Of another command this may be a
            # number inside a container, which another process has outside.
            self._processNumber = int(event["pid"])
        self.event.emit(event)

    def _onEnded(self, how: str, exitCode: int) -> None:
        if self._rest:
            self._take(self._rest)  # a last line without an end
        if self.state == "cancelling":
            self.confirmCancel()
        elif how == EXITED and exitCode == 0 and self._hasEvents:
            self.finish(exitCode)
        elif how == EXITED and self._lastError is not None:
            self.fail(*self._lastError)
        else:
            self.fail(*whyEnded(self._command, how, exitCode, self.log, self._hasEvents))
