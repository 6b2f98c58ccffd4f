"""One thing that the worker was asked to do, as its asker sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.worker.arrays import ArrayFromFrames, frame_bytes, read_array
from dinomix.worker.stream import Message

from ..remedies import textOf
from ..signal import Signal

OVER = ("finished", "failed", "cancelled")


@dataclass
class Result:
    """What the worker has computed; only what was asked for is filled in.

    Attributes:
        labels: structure ids, (k, j, i) of the image's shape, uint8 or uint16.
        structures: STRUCTURE dicts; see docs/worker.md.
        seconds: of the worker, loading included.
        path: the file that was written.
        fields: the whole answer.
    """

    labels: Any = None
    structures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    device: str = ""
    notices: list[str] = field(default_factory=list)
    path: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class Job:
    """Something that the worker was asked to do.

    Attributes:
        state: "waiting", "sending", "computing", "receiving", "finished", "failed" or "cancelled".

    Signals, on the main thread; of the last three one is emitted, once:
        progress(stage, step, total, eta): eta in seconds, or None while unknown.
        notice(text)
        finished(result)
        failed(problem, remedy)
        cancelled()
    """

    def __init__(self, name: str, request: dict[str, Any], onCancel: Callable[[Job], None]) -> None:
        self.name, self.request = name, {**request, "job": name}
        self.state = "waiting"
        self.progress, self.notice = Signal(), Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self._onCancel = onCancel
        self._answer: dict[str, Any] = {}
        self._array: ArrayFromFrames | None = None
        self._file: Path | None = None
        self._frames = 0

    @property
    def isOver(self) -> bool:
        """Whether finished, failed or cancelled was announced."""
        return self.state in OVER

    def cancel(self) -> None:
        """Give it up; ``cancelled`` follows within a second."""
        if not self.isOver:
            self._onCancel(self)

    # -- What the client tells it

    def takeEvent(self, event: dict[str, Any]) -> None:
        """One of the engine's events."""
        if event.get("kind") == "progress":
            self.progress.emit(event["stage"], event["step"], event["total"], event["eta"])
        elif event.get("kind") == "notice":
            self.notice.emit(textOf(event))

    def takeAnswer(self, fields: dict[str, Any], outPath: Path | None = None) -> None:
        """The worker's answer; where its frames follow, the job is over when they have come.

        Raises:
            DinomixError: the labels cannot be read.
        """
        self._answer = fields
        if not fields.get("frames"):
            labels = read_array(Path(fields["file"])) if "file" in fields else None
            self._finish(labels, fields.get("path", ""))
            return
        self.state = "receiving"
        if outPath is None:
            self._array = ArrayFromFrames(tuple(fields["shape"]), fields["dtype"])
        else:
            self._file = outPath
            self._aside.unlink(missing_ok=True)

    def takeFrame(self, message: Message) -> None:
        """A frame of the result.

        Raises:
            DinomixError: a frame is missing or damaged.
            OSError: the result's file cannot be written.
        """
        if self._array is not None:
            self._array.add(message)
            done, total = self._array.progress
            self.progress.emit(_("receiving the labels"), done, total, None)
            if self._array.is_complete:
                self._finish(self._array.array, "")
        elif self._file is not None:
            with open(self._aside, "ab") as file:
                file.write(frame_bytes(message, self._frames))
            self._frames += 1
            if message.fields.get("last"):
                self._aside.replace(self._file)
                self._finish(None, str(self._file))

    def fail(self, problem: str, remedy: str) -> None:
        """It cannot be done."""
        if not self.isOver:
            self._clean()
            self.state = "failed"
            self.failed.emit(problem, remedy)

    def confirmCancel(self) -> None:
        """It was given up."""
        if not self.isOver:
            self._clean()
            self.state = "cancelled"
            self.cancelled.emit()

    @property
    def _aside(self) -> Path:
        assert self._file is not None
        return self._file.with_name(f".partial-{self._file.name}")

    def _clean(self) -> None:
        if self._file is not None:
            self._aside.unlink(missing_ok=True)

    def _finish(self, labels: Any, path: str) -> None:
        answer = self._answer
        if labels is not None and list(labels.shape) != answer.get("shape"):
            raise DinomixError(_("The worker's labels do not have the shape that it announced."), _("Try again."))
        self.state = "finished"
        self.finished.emit(
            Result(
                labels=labels,
                structures=answer.get("structures", []),
                seconds=answer.get("seconds", 0.0),
                device=answer.get("device", ""),
                notices=answer.get("notices", []),
                path=path,
                fields=answer,
            )
        )
