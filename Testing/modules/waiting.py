"""Waiting in module tests, in Slicer and in the test host alike."""

import time
from collections.abc import Callable

import slicer


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


def waitUntil(condition: Callable[[], bool], seconds: float = 10, what: str = "") -> None:
    """Let the event loop run until ``condition()`` is true; AssertionError, with ``what`` was awaited, after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds} s: {what or condition}")
        processEvents(5)
