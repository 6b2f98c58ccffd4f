"""A program beside Slicer: bytes in, messages out, and the end of it with everything that it has started."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import qt
from slicer.i18n import tr as _

from .processes import killTrees
from .signal import Signal
from .task import TICK_SECONDS
from .worker.command import WorkerCommand

LOG_CHARACTERS = 100_000
LARGEST_SIGNAL = 64
PACKAGE_MISSING = "No module named"
EXITED, KILLED, NOT_STARTED = "exited", "killed", "not started"


class Process:
    """A process behind a QProcess. While it runs it keeps itself; at its end nothing is connected to it any more.

    Attributes:
        log: the last of what it printed on its error stream.
        lastHeard: when it said something last, by ``time.monotonic``.

    Signals, from the event loop and never from within one of the QProcess's own:
        heard(message): one of what ``decode`` makes of its output; at most some milliseconds of them a tick.
        ended(how, exitCode): it is gone, and all that it said was heard: "exited", "killed" from outside, or "not started".
    """

    def __init__(
        self,
        command: WorkerCommand,
        arguments: list[str],
        decode: Callable[[bytes], Iterator[Any]],
        hasInput: bool = False,
    ) -> None:
        """
        Args:
            arguments: added to those of the command.
            decode: makes messages of the next bytes of its output; exhausted before it is called again.
            hasInput: whether ``send`` will be called; else its standard input is empty.
        """
        self.heard, self.ended = Signal(), Signal()
        self.log = ""
        self.lastHeard = time.monotonic()
        self._program = [*command.arguments, *arguments]
        self._decode: Callable[[bytes], Iterator[Any]] | None = decode
        self._unread: deque[bytes] = deque()
        self._messages: Iterator[Any] = iter(())
        self._isDue = False
        self._end: tuple[str, int] | None = None
        self._process = qt.QProcess()
        environment = qt.QProcessEnvironment()
        for name, value in command.environment.items():
            environment.insert(name, value)
        self._process.setProcessEnvironment(environment)
        if not hasInput:
            self._process.setStandardInputFile(qt.QProcess.nullDevice())

    def start(self) -> None:
        """Start it; it runs once."""
        self._link(self._process.connect)
        self._process.start(self._program[0], self._program[1:])

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

    def kill(self, alsoEnd: int | None = None) -> None:
        """End it and all that it has started; ``ended`` follows.

        Args:
            alsoEnd: the program's own process number, where it is surely one of this computer: a launcher may stand between.
        """
        roots = [int(self._process.processId()) if self.isRunning() else 0, alsoEnd or 0]
        killTrees([root for root in roots if root > 0])
        self._process.kill()

    def end(self, alsoEnd: int | None = None) -> None:
        """The same, waiting for a moment until it is gone. Nothing more is announced."""
        self._letGo()
        self.kill(alsoEnd)
        self._process.waitForFinished(1000)

    def hearNow(self) -> None:
        """Read what it has said by now, without waiting: after Slicer itself was busy, a timer may be due first."""
        if self.isRunning():
            self._process.waitForReadyRead(0)

    def hearAll(self) -> None:
        """Announce all that it has said by now, however long that takes."""
        self.hearNow()
        self._announce(math.inf)

    # -- What Qt tells

    def _link(self, connectOrNot: Callable[..., Any]) -> None:
        connectOrNot("readyReadStandardOutput()", self._onOutput)
        connectOrNot("readyReadStandardError()", self._onErrorOutput)
        connectOrNot("finished(int,QProcess::ExitStatus)", self._onFinished)
        connectOrNot("errorOccurred(QProcess::ProcessError)", self._onError)

    def _letGo(self) -> None:
        self._link(self._process.disconnect)
        self.heard.clear()
        self.ended.clear()
        self._unread.clear()
        self._messages, self._decode = iter(()), None

    def _onOutput(self) -> None:
        data = bytes(self._process.readAllStandardOutput().data())
        if data:
            self.lastHeard = time.monotonic()
            self._unread.append(data)
            self._announceSoon()

    def _onErrorOutput(self) -> None:
        text = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        self.log = (self.log + text)[-LOG_CHARACTERS:]

    def _onFinished(self, exitCode: int, exitStatus: int) -> None:
        self._onOutput()
        self._onErrorOutput()
        self._end = (KILLED if wasEndedFromOutside(exitCode, exitStatus) else EXITED, exitCode)
        self._announceSoon()

    def _onError(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart:
            self._end = (NOT_STARTED, -1)
            self._announceSoon()

    # -- What is announced

    def _announceSoon(self) -> None:
        if not self._isDue:
            self._isDue = True
            qt.QTimer.singleShot(0, self._onDue)

    def _onDue(self) -> None:
        self._isDue = False
        self._announce(TICK_SECONDS)

    def _announce(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (message := self._next()) is not None:
            self._announceSoon()  # before, since an error in a listener stops no other
            self.heard.emit(message)
            if time.monotonic() > until:
                return
        if self._end is not None:
            (how, exitCode), self._end = self._end, None
            self._link(self._process.disconnect)
            self.ended.emit(how, exitCode)
            self._letGo()

    def _next(self) -> Any:
        while True:
            message = next(self._messages, None)
            if message is not None or not self._unread or self._decode is None:
                return message
            self._messages = self._decode(self._unread.popleft())


def wasEndedFromOutside(exitCode: int, exitStatus: int) -> bool:
    """Whether a signal has ended a process, or the program that it launched.

    A launcher tells by 128 and the signal's number how its program ended; other high exit codes, such as ssh's 255, are
    programs' own.
    """
    return exitStatus == qt.QProcess.CrashExit or (os.name == "posix" and 128 < exitCode <= 128 + LARGEST_SIGNAL)


def whyEnded(command: WorkerCommand, how: str, exitCode: int, log: str, hasSpoken: bool) -> tuple[str, str]:
    """Problem and remedy where the engine or the worker has ended without saying why; perhaps the program was none of both."""
    program = command.arguments[0]
    correct = _(
        "Correct the worker command in the settings of DINOMix Segment, or clear it to use Slicer's own Python."
    )
    if how == NOT_STARTED:
        return _("The program {program} cannot be started.").format(program=program), correct
    if how == KILLED:
        problem = _("The process that computes was ended by the system or by another program.")
        return problem, _("Try again; if it ends again, close other programs to free memory, or set a memory limit.")
    lines = [line.strip() for line in log.splitlines() if line.strip()][-3:]
    words = " / ".join(lines) or "-"
    if PACKAGE_MISSING in words:
        problem = _("DINOMix's packages are not installed in the Python that computes ({words}).")
        remedy = _("Install them as the module offers, or in the environment that the worker command names.")
        return problem.format(words=lines[-1]), remedy
    if exitCode == 0 and not hasSpoken:
        problem = _("The program {program} is not DINOMix's engine; it said: {words}")
        return problem.format(program=program, words=words), correct
    problem = _("The process that computes stopped with exit code {code}. Its last words: {words}")
    return problem.format(code=exitCode, words=words), _("Try again; if it stops again, report it with the log.")
