"""Volumes to the worker and labels back, a small step at a time, so that the window never waits."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.worker.arrays import FRAME, frames_of_array, frames_of_file, write_array

TICK_SECONDS = 0.015
"""How long the steps of one tick may take together; far below what a person notices."""
WAIT_MILLISECONDS = 10
"""Before looking again whether the other side has read; without it, a slow line would keep a processor busy."""


class Steps:
    """Runs a generator on a timer, some steps a tick. ``onDone()`` at its end, ``onFailed(problem, remedy)`` on an error."""

    def __init__(self, steps: Iterator[Any], onDone: Callable[[], None], onFailed: Callable[[str, str], None]) -> None:
        self._steps, self._onDone, self._onFailed = steps, onDone, onFailed
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._onTick)
        self._timer.start()

    def begin(self) -> None:
        """Do the first steps at once; what takes less than a tick is then done."""
        self._onTick()

    def stop(self) -> None:
        """Do no further step; neither function is called any more."""
        self._timer.stop()
        self._steps = iter(())

    def _onTick(self) -> None:
        if not self._timer.isActive():
            return
        end = time.monotonic() + TICK_SECONDS
        try:
            for step in self._steps:
                if step is WAIT or time.monotonic() > end:
                    self._timer.setInterval(WAIT_MILLISECONDS if step is WAIT else 0)
                    return
        except DinomixError as error:
            self._fail(error.problem, error.remedy)
            return
        except OSError as error:
            self._fail(
                _("The volume cannot be handed to the worker ({reason}).").format(reason=error.strerror or error),
                _("Free some disk space, or set another folder for temporary files in Slicer's settings."),
            )
            return
        self._timer.stop()
        self._onDone()

    def _fail(self, problem: str, remedy: str) -> None:
        self._timer.stop()
        self._onFailed(problem, remedy)


WAIT = object()
"""A step that says: nothing to do before the next tick."""


def privateFolder() -> tempfile.TemporaryDirectory[str]:
    """A folder for this user alone, where Slicer's settings put temporary files; removed at the latest when Slicer ends."""
    return tempfile.TemporaryDirectory(prefix="dinomix-", dir=slicer.app.temporaryPath, ignore_cleanup_errors=True)


def stepsToFile(array: Any, path: Path, onProgress: Callable[[int, int], None]) -> Iterator[Any]:
    """Copy an array (k, j, i) into a ``.npy`` file. Raises OSError where the disk is full."""
    for done, total in write_array(path, array):
        onProgress(done, total)
        yield done


def stepsToPipe(
    frames: Iterator[bytes],
    total: int,
    send: Callable[[bytes], None],
    bytesToSend: Callable[[], int],
    onProgress: Callable[[int, int], None],
) -> Iterator[Any]:
    """Send frames as fast as the other side reads them, so that no more than a few stand in memory."""
    for number in itertools.count():
        while bytesToSend() > 2**22:
            yield WAIT
        frame = next(frames, None)
        if frame is None:
            return
        send(frame)
        onProgress(min((number + 1) * FRAME, total), total)
        yield number


def framesOfImage(array: Any, job: str) -> Iterator[bytes]:
    """The frames of a volume's voxels (k, j, i)."""
    return frames_of_array(array, job, "image")


def framesOfPath(path: Path, job: str) -> tuple[Iterator[bytes], int]:
    """The frames of a file, or of all files of a folder (a DICOM series); and how many bytes they hold.

    Raises:
        DinomixError: there is nothing to send.
    """
    files = [path] if path.is_file() else sorted(file for file in path.glob("*") if file.is_file())
    if not files:
        raise DinomixError(
            _("There is no file {path}, or the folder is empty.").format(path=path), _("Choose another image.")
        )
    last = len(files) - 1
    parts = (frames_of_file(file, job, f"file:{file.name}", more=n < last) for n, file in enumerate(files))
    return itertools.chain.from_iterable(parts), sum(file.stat().st_size for file in files)
