"""What the logic needs of its collaborators, so that tests can give it others than the worker process and pip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..signal import Signal
from .computing import AUTOMATIC, Computing


class Job(Protocol):
    """Something the worker was asked to do. Signals are emitted on the main thread, from the event loop.

    Attributes:
        state: "waiting", "sending", "computing", "receiving", "finished", "failed" or "cancelled".
        progress: (stage, step, total, eta in seconds or None)
        notice: (text)
        finished: (result): labels, structures, notices, seconds, device; ``fields`` holds the worker's whole answer
        failed: (problem, remedy)
        cancelled: ()
    """

    state: str
    progress: Signal
    notice: Signal
    finished: Signal
    failed: Signal
    cancelled: Signal

    def cancel(self) -> None: ...


class Client(Protocol):
    """The worker's client, ``dinomix_slicer.worker.client.WorkerClient``.

    Attributes:
        state: "stopped", "starting", "ready", "busy" or "failed".
        hello: what the worker said of itself; None before it has.
        stateChanged: (state)
        failed: (problem, remedy)
    """

    state: str
    hello: dict[str, Any] | None
    stateChanged: Signal
    failed: Signal

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def requestModels(self, callback: Callable[[list[dict[str, Any]]], None]) -> None: ...

    def load(self, model: str) -> Job: ...

    def estimate(self, image: Any, model: str, computing: Computing = AUTOMATIC) -> Job: ...

    def segment(self, image: Any, model: str, computing: Computing = AUTOMATIC, keep: tuple[str, ...] = ()) -> Job: ...

    def segmentFile(
        self,
        imagePath: str,
        outPath: str,
        model: str,
        computing: Computing = AUTOMATIC,
        keep: tuple[str, ...] = (),
    ) -> Job: ...


class Installer(Protocol):
    """What installs the engine's dependencies, ``dinomix_slicer.setup.dependencies.DependencyInstaller``.

    Attributes:
        progress: (text, step, total)
        logged: (line)
        finished: (needsRestart)
        failed: (problem, remedy)
        cancelled: ()
    """

    progress: Signal
    logged: Signal
    finished: Signal
    failed: Signal
    cancelled: Signal

    def missing(self) -> list[str]: ...

    def notices(self) -> list[str]: ...

    def install(self, confirm: Callable[[str], bool]) -> None: ...

    def cancel(self) -> None: ...
