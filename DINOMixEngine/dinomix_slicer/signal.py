"""Signals in Python, since PythonQt cannot define Qt signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Something that is announced. Functions are called in the order in which they were connected, in the caller's thread."""

    def __init__(self) -> None:
        self._functions: list[Callable[..., Any]] = []

    def connect(self, function: Callable[..., Any]) -> None:
        """Call ``function`` at each ``emit``; connecting it again changes nothing."""
        if function not in self._functions:
            self._functions.append(function)

    def disconnect(self, function: Callable[..., Any]) -> None:
        """Call it no more; nothing happens if it was not connected."""
        if function in self._functions:
            self._functions.remove(function)

    def emit(self, *arguments: Any) -> None:
        """Call all connected functions; one that disconnects another while this runs is obeyed."""
        for function in list(self._functions):
            if function in self._functions:
                function(*arguments)
