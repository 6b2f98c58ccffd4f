"""The client of one worker: starts it, hands it jobs one after the other, and hears of its end.

Everything happens on the main thread, driven by Qt's events; nothing here waits.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.worker.stream import NOT_A_WORKER, PROTOCOL, Decoder, Message, encode

from ..models.folders import modelFolders
from ..process import EXITED, Process, whyEnded
from ..remedies import remedyOf
from ..signal import Signal
from ..task import Steps, Task
from ..timer import timer
from .command import WorkerCommand
from .computing import AUTOMATIC, Computing
from .job import Job
from .transfer import WorkerLine, privateFolder, whyNoFolder

if TYPE_CHECKING:
    from ..scene.volumes import NodeImage

CANCEL_SECONDS = 0.7
SILENCE_SECONDS = 15.0
FIELDS = {
    "started": ("pid", "host"), "hello": ("shares_files", "devices", "automatic"), "models": ("models",),
    "event": ("event",), "error": ("message", "remedy"),
}  # fmt: skip
"""What a message must hold; a program that sends back what it gets, such as cat, is no worker."""


class WorkerClient:
    """Speaks with one worker process.

    Attributes:
        state: "stopped", "starting", "ready", "busy" or "failed".
        hello: what the worker said of itself (docs/worker.md); None before it has.

    Signals:
        stateChanged(state)
        failed(problem, remedy): the worker could not be started, or is gone. Its jobs have failed with the same words.
    """

    def __init__(self, command: WorkerCommand) -> None:
        self.stateChanged, self.failed = Signal(), Signal()
        self.state = "stopped"
        self.hello: dict[str, Any] | None = None
        self._command = command
        self._process: Process | None = None
        self._line: WorkerLine | None = None  # once the worker has said hello
        self._folder: Any = None
        self._processNumber: int | None = None
        self._numbers = itertools.count(1)
        self._waiting: list[Job] = []
        self._current: Job | None = None
        self._sending: Steps | None = None
        self._listings: list[Task] = []
        self._folders: list[str] = []
        self._watchdog = timer(1000, self._checkSilence)

    # -- Life

    def start(self) -> None:
        """Start the worker unless it is there; ``stateChanged`` and perhaps ``failed`` follow."""
        if self._process is not None or self.state == "starting":
            return
        try:
            probe = self._makeFolder()
        except OSError as error:
            reason = error.strerror or str(error)
            self._setState("starting")
            # Later, so that the asker can connect to what it was given first.
            qt.QTimer.singleShot(0, lambda: self._onNoFolder(reason))
            return
        self._decoder = Decoder()
        self._process = Process(self._command, [], self._messages, hasInput=True)
        self._process.heard.connect(self._take)
        self._process.ended.connect(self._onEnded)
        self._setState("starting")
        self._process.start()
        self._process.send(encode({"type": "hello", "protocol": PROTOCOL, "probe": probe}))
        self._watchdog.start()

    def _makeFolder(self) -> dict[str, str]:
        """Make the folder between both; returns the file in it by which the worker tells whether it sees that."""
        self._folder = privateFolder()
        probe = {"file": str(Path(self._folder.name) / "probe.txt"), "nonce": secrets.token_hex(16)}
        Path(probe["file"]).write_text(probe["nonce"], encoding="utf-8")
        return probe

    def stop(self) -> None:
        """End the worker and all that it has started; its jobs are cancelled."""
        tasks = self._takeTasks()
        self._endProcess()
        self._setState("stopped")
        for task in tasks:
            task.confirmCancel()

    # -- Requests

    def listModels(self, folder: str = "") -> Task:
        """Ask for the models (MODEL dicts; docs/worker.md), which are the result; the worker is started if need be.

        Those of ``folder`` too from now on, which may be a model itself.
        """
        if folder:
            self._folders.append(folder)
        task = Task()
        self._listings.append(task)
        self.start()
        if self.hello is not None:
            self._askForModels()
        return task

    def estimate(
        self, image: NodeImage, model: str, computing: Computing = AUTOMATIC, moreModels: Sequence[str] = ()
    ) -> Job:
        """Ask how long segmenting takes; the result's ``fields`` hold seconds, windows, memory, device and reason."""
        request = {"type": "estimate", "model": model, "more_models": list(moreModels), **computing.asFields()}
        return self._add({**request, "shape": list(image.array.shape), "affine_ras": _rows(image.affineRas)})

    def segment(
        self,
        image: NodeImage,
        model: str,
        computing: Computing = AUTOMATIC,
        keep: tuple[str, ...] = (),
        more: Sequence[NodeImage] = (),
        moreModels: Sequence[str] = (),
    ) -> Job:
        """Segment a volume; the result's ``labels`` have the shape of ``image.array``, (k, j, i).

        Args:
            more: the further images of the case, in the order of the model's channels.
            moreModels: those that come after ``model``: what that knows or has found is its own.
        """
        described = [
            {"shape": list(each.array.shape), "dtype": each.array.dtype.name, "affine_ras": _rows(each.affineRas)}
            for each in (image, *more)
        ]
        request = {
            "type": "segment", "model": model, "image": described[0], "more": described[1:], **computing.asFields(),
            "keep": list(keep), "more_models": list(moreModels),
        }  # fmt: skip
        return self._add(request, arrays=[each.array for each in (image, *more)])

    def segmentFile(
        self,
        imagePath: str,
        outPath: str,
        model: str,
        computing: Computing = AUTOMATIC,
        keep: tuple[str, ...] = (),
        more: Sequence[str] = (),
        moreModels: Sequence[str] = (),
        regions: bool = False,
    ) -> Job:
        """Segment an image file or DICOM folder into a file; a worker elsewhere gets the file's bytes and sends its own.

        Args:
            more: the paths of the case's further images, in the order of the model's channels.
            moreModels: as ``segment`` takes them.
            regions: whether the model's regions, if it has some, are written too: a mask for each into NAME_regions/ beside
                ``outPath``, in DICOM into the same file.
        """
        request = {
            "type": "segment_file", "model": model, "image": {"path": imagePath},
            "more": [{"path": path} for path in more], "out": {"path": outPath}, **computing.asFields(),
            "keep": list(keep), "regions": regions, "more_models": list(moreModels),
        }  # fmt: skip
        return self._add(request, out=Path(outPath))

    # -- One job after the other

    def _add(self, request: dict[str, Any], arrays: Sequence[Any] = (), out: Path | None = None) -> Job:
        job = Job(f"job{next(self._numbers)}", request, self._cancel, arrays, out)
        self._waiting.append(job)
        self.start()
        # Later, so that the asker can connect to the job's signals first.
        qt.QTimer.singleShot(0, self._next)
        return job

    def _next(self) -> None:
        if self._current is not None or self._line is None or not self._waiting:
            return
        job = self._current = self._waiting.pop(0)
        self._setState("busy")
        job.state = "sending"
        self._sending = Steps(self._line.stepsOfAsking(job))
        self._sending.finished.connect(lambda ignored: self._onSent(job))
        self._sending.failed.connect(lambda *words: self._fail(job, *words))

    def _onSent(self, job: Job) -> None:
        self._sending = None
        job.state = "computing"

    def _cancel(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            job.confirmCancel()
            return
        if self._line is not None:
            self._line.ask({"type": "cancel", "job": job.name})
        if job.state == "sending":
            self._release(job)
            job.confirmCancel()
        else:
            qt.QTimer.singleShot(int(CANCEL_SECONDS * 1000), lambda: self._insist(job))

    def _insist(self, job: Job) -> None:
        """The worker is too deep in its work to hear: end it, and start another for what waits."""
        if self._process is not None:
            self._process.hearAll()
        if job.isOver or job is not self._current:
            return
        self._endProcess()
        self._release(job)
        self._setState("stopped")
        if self._waiting:
            self.start()
        job.confirmCancel()

    def _fail(self, job: Job, problem: str, remedy: str, code: str = "") -> None:
        self._release(job)
        job.fail(problem, remedy, code)

    def _release(self, job: Job) -> None:
        """A job is done, one way or another: go on with the next. Its asker is told afterwards."""
        self._stopSending()
        if self._line is not None:
            self._line.forget(job)
        self._current = None
        if self.state == "busy":
            self._setState("ready")
        qt.QTimer.singleShot(0, self._next)

    def _stopSending(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()

    # -- What the worker says

    def _messages(self, data: bytes) -> Iterator[Message]:
        try:
            yield from self._decoder.feed(data)
        except DinomixError as error:
            self._onBroken(error.problem, error.remedy)

    def _take(self, message: Message) -> None:
        fields, kind = message.fields, message.type
        if not all(name in fields for name in FIELDS.get(kind, ())):
            self._onBroken(_("The program that the worker command starts is not a worker."), NOT_A_WORKER)
            return
        job = self._current if self._current and fields.get("job") == self._current.name else None
        if kind == "started" and self._command.isOwnPython:
            # A container on this computer has its name, but numbers of its own: there, 1 is the worker.
            self._processNumber = int(fields["pid"])
        elif kind == "hello":
            self._onHello(fields)
        elif kind == "models":
            listings, self._listings = self._listings, []
            for task in listings:
                task.finish(fields["models"])
        elif kind == "error" and fields.get("job") is None:
            self._onBroken(fields["message"], remedyOf(fields))
        elif job is not None:
            self._takeForJob(job, message)

    def _takeForJob(self, job: Job, message: Message) -> None:
        fields, kind = message.fields, message.type
        if kind == "event":
            job.takeEvent(fields["event"])
        elif kind == "error":
            self._fail(job, fields["message"], remedyOf(fields), str(fields.get("code") or ""))
        elif kind == "cancelled":
            self._release(job)
            job.confirmCancel()
        elif kind in ("result", "loaded", "estimate", "frame"):
            self._takeResult(job, message)

    def _takeResult(self, job: Job, message: Message) -> None:
        try:
            if message.type == "frame":
                job.takeFrame(message)
            else:
                job.takeAnswer(message.fields)
        except DinomixError as error:
            job.fail(error.problem, error.remedy)
        except OSError as error:
            problem = _("The result cannot be written ({reason}).").format(reason=error.strerror or error)
            job.fail(problem, _("Free some disk space or choose another folder, then try again."))
        if job.isOver:
            self._release(job)

    def _onHello(self, fields: dict[str, Any]) -> None:
        assert self._process is not None
        self.hello = fields
        self._line = WorkerLine(self._process, Path(self._folder.name), fields["shares_files"])
        self._setState("ready")
        if self._listings:
            self._askForModels()
        self._next()

    def _askForModels(self) -> None:
        assert self._line is not None
        self._line.ask({"type": "models", "folders": [*modelFolders(), *self._folders]})

    # -- The end of it

    def _onEnded(self, how: str, exitCode: int) -> None:
        assert self._process is not None
        problem, remedy = whyEnded(self._command, how, exitCode, self._process.log, self.hello is not None)
        if how == EXITED and self.hello is None:
            remedy = _("{remedy} Test connection in the module's settings says more.").format(remedy=remedy)
        self._onBroken(problem, remedy)

    def _onNoFolder(self, reason: str) -> None:
        if self.state == "starting" and self._process is None:  # not stopped meanwhile
            self._onBroken(*whyNoFolder(reason))

    def _onBroken(self, problem: str, remedy: str) -> None:
        tasks = self._takeTasks()
        self._endProcess()
        self._setState("failed")
        for task in tasks:
            task.fail(problem, remedy)
        self.failed.emit(problem, remedy)

    def _checkSilence(self) -> None:
        if self._process is None:
            return
        self._process.hearNow()
        if time.monotonic() - self._process.lastHeard > SILENCE_SECONDS:
            self._onBroken(
                _("Nothing was heard of the worker for {seconds} seconds.").format(seconds=round(SILENCE_SECONDS)),
                _("Check the connection to its computer, then try again; the worker is started anew."),
            )

    def _takeTasks(self) -> list[Task]:
        """All that it was asked, which is the client's no longer."""
        self._stopSending()
        tasks = [*([self._current] if self._current else []), *self._waiting, *self._listings]
        self._current, self._waiting, self._listings = None, [], []
        return tasks

    def _endProcess(self) -> None:
        self._watchdog.stop()
        process, self._process = self._process, None
        if process is not None:
            process.end(self._processNumber)
        self.hello, self._line, self._processNumber = None, None, None
        if self._folder is not None:
            # Labels that are in use stay mapped; where the system keeps such files, the folder goes with Slicer.
            self._folder.cleanup()
            self._folder = None

    def _setState(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.stateChanged.emit(state)


def _rows(matrix: Any) -> list[list[float]]:
    """A 4x4 matrix as JSON has it."""
    return [[float(value) for value in row] for row in matrix]
