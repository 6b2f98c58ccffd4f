"""Work beside Slicer's window: announced by signals, ended once, and then let go.

PythonQt holds what is connected where the cycle collector does not see it, and that collector seldom runs while Slicer works
with few, large objects. So a task that is over drops its listeners and what it worked on, and its steps are driven by single
shots, which nothing has to disconnect.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from .signal import Signal

TICK_SECONDS = 0.015
"""How long the steps of one tick may take together; far below what a person notices."""
WAIT_MILLISECONDS = 5
"""Before a step that waits is tried again; without it, a slow line would keep a processor busy."""
THREAD_SECONDS = 0.004
"""How long one step lets a thread have Python's lock, which Qt's event loop holds in Slicer."""
WAIT = object()
"""A step that says: nothing to do before the next tick."""


class Cancelled(Exception):
    """Raised in what is given up: in the generator of ``Steps``, and by the ``checkStop`` of ``inBackground``."""


class Task:
    """Something that takes a while. It is held by who waits for it, and drops all listeners when it is over.

    Attributes:
        state: what it does; at last "finished", "failed" or "cancelled".
        code: of a task that failed, the code of the error (docs/python_api.md), or "".

    Signals, on the main thread; of the last three one is emitted, once, and last:
        progress(stage, step, total, eta): eta in seconds, or None while unknown.
        notice(text): a sentence that the user should see.
        finished(result)
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self) -> None:
        self.state, self.code = "running", ""
        self.progress, self.notice = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()

    @property
    def isOver(self) -> bool:
        """Whether its end was announced."""
        return self.state in ("finished", "failed", "cancelled")

    def cancel(self) -> None:
        """Give it up; ``cancelled`` follows."""
        self.confirmCancel()

    # -- For who does the work

    def finish(self, result: Any = None) -> None:
        """It is done."""
        self._end("finished", result)

    def fail(self, problem: str, remedy: str = "", code: str = "") -> None:
        """It cannot be done."""
        if not self.isOver:
            self.code = code
        self._end("failed", problem, remedy)

    def confirmCancel(self) -> None:
        """It was given up."""
        self._end("cancelled")

    def _end(self, state: str, *arguments: Any) -> None:
        if self.isOver:
            return
        self.state = state
        self._letGo()
        try:
            getattr(self, state).emit(*arguments)
        finally:
            for signal in (self.progress, self.notice, self.finished, self.failed, self.cancelled):
                signal.clear()

    def _letGo(self) -> None:
        """Drop what is not needed any more, before the end is announced."""


class Steps(Task):
    """Runs a generator from the event loop, a few milliseconds a tick, until it returns: that is the result.

    It yields ``WAIT`` where there is nothing to do before the next tick, another ``Task`` to go on with its result when that
    is over, and anything else between two steps. A ``DinomixError`` is its failure.
    """

    def __init__(self, steps: Iterator[Any]) -> None:
        super().__init__()
        self._steps: Any = steps
        self._inner: Task | None = None  # what it waits for
        self._isDue = self._isStepping = False
        self._later(0)

    def begin(self) -> None:
        """Do the first steps at once; what takes less than a tick is then done."""
        self._onDue()

    def cancel(self) -> None:
        """Give it up, after what it waits for was."""
        if self._inner is not None:
            self._inner.cancel()
        elif self._isStepping or not isinstance(self._steps, Generator):
            self.confirmCancel()
        elif not self.isOver:
            self._go(lambda: self._steps.throw(Cancelled()))

    def _later(self, milliseconds: int) -> None:
        if not self._isDue:
            self._isDue = True
            qt.QTimer.singleShot(milliseconds, self._onDue)

    def _onDue(self) -> None:
        self._isDue = False
        if self._inner is None and not self._isStepping and not self.isOver:
            self._go(lambda: next(self._steps))

    def _go(self, resume: Callable[[], Any]) -> None:
        """Resume the generator, and take steps until the time is up."""
        end = time.monotonic() + TICK_SECONDS
        self._isStepping = True
        try:
            step = resume()
            while step is not WAIT and not isinstance(step, Task) and time.monotonic() <= end:
                step = next(self._steps)
        except StopIteration as stop:
            self.finish(stop.value)
        except Cancelled:
            self.confirmCancel()
        except DinomixError as error:
            self.fail(error.problem, error.remedy, error.code)
        except OSError as error:
            self.fail(
                _("A file cannot be read or written ({reason}).").format(reason=error),
                _("See that there is space on the disk and that the folder can be written, then try again."),
            )
        except Exception as error:
            self.fail(
                _("Something went wrong that DINOMix did not expect ({reason}).").format(reason=error),
                _("Try again; if it happens again, report it with what the Python console shows."),
            )
            raise
        else:
            self._goOnAfter(step)
        finally:
            self._isStepping = False

    def _goOnAfter(self, step: Any) -> None:
        if self.isOver:
            return
        if not isinstance(step, Task):
            self._later(WAIT_MILLISECONDS if step is WAIT else 0)
            return
        self._inner = step
        # Errors are made where they are thrown: its traceback holds all frames, and one that held the error would be a cycle.
        step.finished.connect(lambda result: self._goOn(lambda: self._steps.send(result)))
        step.failed.connect(
            lambda problem, remedy: self._goOn(lambda: self._steps.throw(DinomixError(problem, remedy, step.code)))
        )
        step.cancelled.connect(lambda: self._goOn(lambda: self._steps.throw(Cancelled())))

    def _goOn(self, resume: Callable[[], Any]) -> None:
        self._inner = None
        if not self.isOver:
            self._go(resume)

    def _letGo(self) -> None:
        self._steps = iter(())
        if self._inner is not None:
            # Its own end, which may come at once, is nothing to this one any more.
            inner, self._inner = self._inner, None
            inner.cancel()


class InBackground:
    """Runs ``function(checkStop)`` in a thread, which must let Python's lock go itself while it computes, as numpy and VTK do.

    ``checkStop()`` raises ``Cancelled`` once nobody wants the result any more.
    """

    def __init__(self, function: Callable[[Callable[[], None]], Any]) -> None:
        self._function = function
        self._isStopped = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        # A daemon, so that Slicer can end meanwhile; files are written aside and never half.
        self._thread = threading.Thread(target=self._run, name="DINOMix", daemon=True)

    def steps(self) -> Generator[Any, None, Any]:
        """Steps that let the thread work and return what the function has returned; closed earlier, they ask it to stop."""
        self._thread.start()
        try:
            while self._thread.is_alive():
                self._thread.join(THREAD_SECONDS)
                yield WAIT
        finally:
            self._isStopped.set()
        return self.result()

    def result(self) -> Any:
        """What the function has returned; what it has raised is raised here. Waits for its end."""
        if self._thread.ident is None:
            self._thread.start()
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
            raise Cancelled


def waitFor(task: Task, seconds: float | None = None, start: Callable[[], None] | None = None) -> Any:
    """Let the event loop run until a task is over; returns its result.

    Args:
        start: starts it, where it could be over before anybody has listened.

    Raises:
        DinomixError: it failed, was cancelled, or is not over within ``seconds``. An interrupted script (Ctrl+C) cancels it.
    """
    results: list[Any] = []
    errors: list[DinomixError] = []
    task.finished.connect(results.append)
    task.failed.connect(lambda problem, remedy: errors.append(DinomixError(problem, remedy, task.code)))
    end = None if seconds is None else time.monotonic() + seconds
    if start is not None:
        start()
    try:
        while not task.isOver:
            if end is not None and time.monotonic() > end:
                raise DinomixError(
                    _("The worker has not answered for {seconds:.0f} seconds.").format(seconds=seconds),
                    _("Look at its command in the settings of DINOMix Segment, and test the connection there."),
                )
            slicer.app.processEvents()
            time.sleep(0.005)
    except BaseException:
        task.cancel()
        raise
    if errors:
        raise errors.pop()
    if task.state == "cancelled":
        raise DinomixError(_("It was cancelled."))
    return results[0]
