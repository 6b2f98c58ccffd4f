"""Work on arrays in a thread, beside Slicer's window.

Qt's event loop holds Python's lock in Slicer, so that a thread stands still unless the main thread lets it go now and then:
``isOver`` does. What the thread calls must let the lock go itself while it computes, as numpy, zlib and hashlib do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Stopped(Exception):
    """Raised by what was asked to stop."""


class InBackground:
    """Runs ``function(checkStop)`` in a thread; ``checkStop()`` raises ``Stopped`` once nobody wants the result any more."""

    def __init__(self, function: Callable[[Callable[[], None]], Any]) -> None:
        self._function = function
        self._isStopped = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        # A daemon, so that Slicer can end meanwhile; files are written aside and never half.
        self._thread = threading.Thread(target=self._run, name="DINOMix", daemon=True)
        self._thread.start()

    def isOver(self, seconds: float = 0.004) -> bool:
        """Let the thread work for that long, and say whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to stop; it does so soon."""
        self._isStopped.set()

    def result(self) -> Any:
        """What the function has returned; what it has raised is raised here. Waits for its end."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._function(self._checkStop)
        except BaseException as error:
            self._error = error

    def _checkStop(self) -> None:
        if self._isStopped.is_set():
            raise Stopped
