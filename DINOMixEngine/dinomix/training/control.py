"""What a run is asked to do while it trains: pause or stop by RUN/request.json, or leave by Ctrl-C or a kill."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.files import read_json

POLL_SECONDS = 0.2
"""Between two looks at the file: steps may be shorter than a look at a folder that is on another computer."""


class Wish(IntEnum):
    """What was asked for; of several, the largest counts."""

    GO = 0
    PAUSE = 1
    STOP = 2
    INTERRUPT = 3


class Asked(Exception):
    """Raised between two cases when something was asked for."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish.name)
        self.wish = wish


class RunPaused(DinomixError):
    """A run that has ended for now and can be resumed. ``asked`` tells whether it was asked to, or something failed."""

    def __init__(self, problem: str, remedy: str, code: str = "", *, asked: bool = False) -> None:
        super().__init__(problem, remedy, code)
        self.asked = asked


class Control:
    """Listens for what one process of a run is asked to do.

    Attributes:
        saved_step: the step that a resume would go on from, after ``steps_before`` of an earlier stage.
        interrupted: set by SIGINT or SIGTERM while ``listening``.
    """

    def __init__(self, run: Path | None, since: float = 0.0) -> None:
        """``run`` is None for a process that hears of requests from another one; ``since`` as ``train.resume`` has it."""
        self.saved_step = self.steps_before = 0
        self.interrupted = threading.Event()
        self._file = run / "request.json" if run is not None else None
        self._looked, self._seen = -POLL_SECONDS, Wish.GO
        if self._file is not None and self._file.exists() and self._file.stat().st_mtime < since:
            self._file.unlink(missing_ok=True)

    def wish(self, emit: Emit) -> Wish:
        """What is asked for now; looks at the file now and then only. A request that is not known is told and removed."""
        if self.interrupted.is_set():
            return Wish.INTERRUPT
        if self._file is not None and time.monotonic() - self._looked >= POLL_SECONDS:
            self._looked = time.monotonic()
            self._seen = self._read(self._file, emit)
        return self._seen

    def obey(self, emit: Emit) -> None:
        """Between two cases. Raises Asked when something is asked for."""
        if wish := self.wish(emit):
            raise Asked(wish)

    def obeyed(self) -> None:
        """The request is done: remove it."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        self._seen = Wish.GO

    def obeying(self, emit: Emit) -> Emit:
        """``emit`` for a function that announces each case: after each event, what was asked for is obeyed."""

        def emit_and_obey(kind: str, **fields: Any) -> None:
            emit(kind, **fields)
            self.obey(emit)

        return emit_and_obey

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask to save and leave at the end of the step; a second one leaves at once.

        One that follows within a second is the first again: a launcher passes on the Ctrl-C that the terminal has sent.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        asked = 0.0

        def request(number: int, frame: object) -> None:
            nonlocal asked
            if self.interrupted.is_set():
                if time.monotonic() - asked > 1:
                    raise KeyboardInterrupt
                return
            asked = time.monotonic()
            self.interrupted.set()
            print("Stopping after this step; a second interrupt stops at once.", file=sys.stderr)

        with _handled_by(request, signal.SIGINT, signal.SIGTERM):
            yield

    def _read(self, file: Path, emit: Emit) -> Wish:
        try:
            request = read_json(file)["request"]
        except FileNotFoundError:
            return Wish.GO
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return self._seen  # still being written
        if request not in ("pause", "stop"):
            emit("notice", message=f'{file} asks for "{request}"; only "pause" and "stop" are known.')
            file.unlink(missing_ok=True)
            return Wish.GO
        return Wish.PAUSE if request == "pause" else Wish.STOP


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """A SIGTERM, as a computer sends it that shuts down, raises KeyboardInterrupt as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handled_by(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def _handled_by(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
