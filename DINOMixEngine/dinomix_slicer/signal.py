"""Signals in Python, since PythonQt cannot define Qt signals, and connecting to Qt's without keeping an object."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dinomix.errors import DinomixError


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

    @property
    def isHeard(self) -> bool:
        """Whether a function is connected."""
        return bool(self._functions)

    def clear(self) -> None:
        """Let all functions go, and what they hold."""
        self._functions.clear()

    def emit(self, *arguments: Any) -> None:
        """Call all connected functions; one that disconnects another while this runs is obeyed."""
        for function in list(self._functions):
            if function in self._functions:
                function(*arguments)


@contextmanager
def telling(failed: Signal) -> Iterator[None]:
    """Announce a ``DinomixError`` by ``failed(problem, remedy)`` instead of raising it; what is left to do is left out."""
    try:
        yield
    except DinomixError as error:
        failed.emit(error.problem, error.remedy)


class Listener:
    """Who hears signals until it goes itself."""

    def __init__(self) -> None:
        self._heard: list[tuple[Signal, Callable[..., None]]] = []

    def hear(self, signal: Signal, slot: Callable[..., None]) -> None:
        """Call ``slot`` at each ``emit`` until ``stopHearing``."""
        signal.connect(slot)
        self._heard.append((signal, slot))

    def stopHearing(self) -> None:
        """Hear nothing any more."""
        for signal, slot in self._heard:
            signal.disconnect(slot)
        self._heard.clear()


def weakly(method: Callable[..., Any]) -> Callable[..., None]:
    """What calls a bound method as long as its object is there, for a Qt object that is the object's own, such as a timer.

    PythonQt holds what is connected, where Python's cycle collector does not see it: an object with a timer that is connected
    to one of its own methods would live for ever, with everything that it holds.
    """
    kept = weakref.WeakMethod(method)

    def call(*arguments: Any) -> None:
        present = kept()
        if present is not None:
            present(*arguments)

    return call
