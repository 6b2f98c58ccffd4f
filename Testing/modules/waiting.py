"""Waiting in module tests, in Slicer and in the test host alike."""

import time
from collections.abc import Callable

import slicer


def processEvents(milliseconds: float = 0) -> None:
    """Let the event loop run for that long, at least once around."""
    end = time.monotonic() + milliseconds / 1000
    slicer.app.processEvents()
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.001)


def waitUntil(condition: Callable[[], bool], seconds: float = 10, what: str = "") -> None:
    """Let the event loop run until ``condition()`` is true; AssertionError, with ``what`` was awaited, after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds} s: {what or condition}")
        processEvents(5)
