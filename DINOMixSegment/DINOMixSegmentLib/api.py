"""Segmenting from a script: resolve the model, start, and let the event loop run until it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode

    from .logic import DINOMixSegmentLogic
    from .request import SegmentRequest

START_SECONDS = 120.0  # importing torch from a cold network drive takes a minute


def modelFolder(logic: DINOMixSegmentLogic, model: str | None) -> str:
    """The folder of a model that is named by its folder or its title; None means the only one.

    Raises:
        DinomixError: there is no such model, or not exactly one where None was given.
    """
    if model is not None and Path(model).expanduser().is_dir():
        return str(Path(model).expanduser().resolve())
    models = listedModels(logic)
    found = [each for each in models if model in (None, each["path"], each["title"])]
    if len(found) == 1:
        return found[0]["path"]
    names = ", ".join(each["title"] for each in models) or _("none")
    if model is None:
        problem = _("There is not exactly one model, so it must be named.")
    else:
        problem = _("There is no single model {model}.").format(model=model)
    raise DinomixError(problem, _("Give a model's folder, or one of these titles: {names}.").format(names=names))


def listedModels(logic: DINOMixSegmentLogic) -> list[dict]:
    """The worker's models, asked for now.

    Raises:
        DinomixError: the worker does not start.
    """
    outcome = Outcome()
    logic.modelsChanged.connect(outcome.succeed)
    logic.failed.connect(outcome.fail)
    try:
        logic.refreshModels()
        pumpUntil(outcome.isKnown, START_SECONDS)
    finally:
        logic.modelsChanged.disconnect(outcome.succeed)
        logic.failed.disconnect(outcome.fail)
    return outcome.get()


def segmentAndWait(logic: DINOMixSegmentLogic, request: SegmentRequest) -> vtkMRMLSegmentationNode:
    """Segment and return the segmentation.

    Raises:
        DinomixError: it failed or was cancelled. An interrupted script (Ctrl+C) cancels.
    """
    outcome = Outcome()
    logic.finished.connect(outcome.succeed)
    logic.failed.connect(outcome.fail)
    logic.cancelled.connect(outcome.cancel)
    try:
        logic.start(request)
        pumpUntil(outcome.isKnown)
        segmentation = outcome.get()
        pumpUntil(lambda: not logic.makesSurfaces())
    except KeyboardInterrupt:
        logic.cancel()
        raise
    finally:
        logic.finished.disconnect(outcome.succeed)
        logic.failed.disconnect(outcome.fail)
        logic.cancelled.disconnect(outcome.cancel)
    return segmentation


def pumpUntil(condition: Callable[[], bool], seconds: float | None = None) -> None:
    """Let the event loop run until the condition holds.

    Raises:
        DinomixError: it does not within ``seconds``.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while not condition():
        if end is not None and time.monotonic() > end:
            raise DinomixError(
                _("The worker has not answered for {seconds:.0f} seconds.").format(seconds=seconds),
                _("Look at its command in the settings of DINOMix Segment, and test the connection there."),
            )
        slicer.app.processEvents()
        time.sleep(0.005)


class Outcome:
    """What came of something, from the first signal that says so."""

    def __init__(self) -> None:
        self._value: object = None
        self._error: DinomixError | None = None
        self._isKnown = False

    def isKnown(self) -> bool:
        return self._isKnown

    def succeed(self, value: object) -> None:
        if not self._isKnown:
            self._isKnown, self._value = True, value

    def fail(self, problem: str, remedy: str) -> None:
        if not self._isKnown:
            self._isKnown, self._error = True, DinomixError(problem, remedy)

    def cancel(self) -> None:
        self.fail(_("Segmenting was cancelled."), "")

    def get(self):
        """The value. Raises DinomixError where it failed."""
        if self._error is not None:
            raise self._error
        return self._value
