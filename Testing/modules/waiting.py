"""Waiting in module tests, in Slicer and in the test host alike."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import qt
import slicer

from dinomix_slicer import task


def processEvents(milliseconds: float = 0) -> None:
    """Let the event loop run for that long, and on a busy computer longer: at least once around for every 2 ms.

    One round may do less than what is due, since Qt puts timers behind other events, and what it does may be followed by more.
    """
    end = time.monotonic() + milliseconds / 1000
    rounds = milliseconds // 2
    slicer.app.processEvents()
    while time.monotonic() < end or rounds > 0:
        slicer.app.processEvents()
        time.sleep(0.001)
        rounds -= 1


def waitUntil(condition: Callable[[], bool], seconds: float = 60, what: str = "") -> None:
    """Let the event loop run until ``condition()`` is true; AssertionError, with ``what`` was awaited, after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds} s: {what or condition}")
        processEvents(5)


@contextmanager
def rowsAtEachTurn(table: object) -> Iterator[list[int]]:
    """How many rows of a table are filled at each turn of the event loop, while every step of a filling takes a tick of its own.

    So it can be seen, however fast the computer is, that the window has its turn between any two steps.
    """
    rows = [0]

    def count() -> None:
        filled = rows[-1]
        while table.item(filled, 0) is not None:
            filled += 1
        rows.append(filled)

    timer = qt.QTimer()
    timer.setInterval(0)
    timer.connect("timeout()", count)
    timer.start()
    with patch.object(task, "TICK_SECONDS", -1.0):
        yield rows
    timer.stop()
