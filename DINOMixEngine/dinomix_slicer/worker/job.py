"""One thing that the worker was asked to do, as its asker sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.formats import REGIONS, case_name
from dinomix.names import file_name
from dinomix.worker.arrays import REGION_FRAMES, ArrayFromFrames, frame_bytes, read_array
from dinomix.worker.stream import Message

from ..remedies import textOf
from ..task import Task


@dataclass
class Result:
    """What the worker has computed; only what was asked for is filled in.

    Attributes:
        labels: structure ids, (k, j, i) of the image's shape, uint8 or uint16.
        structures, regions: STRUCTURE and REGION dicts; see docs/worker.md.
        notices: full sentences that the user should see.
        fields: the whole answer.
    """

    labels: Any = None
    structures: list[dict[str, Any]] = field(default_factory=list)
    regions: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)


class Job(Task):
    """Something that the worker was asked to do; ``finished`` gets a ``Result``. Cancelled, it is over within a second.

    Attributes:
        state: "waiting", "sending", "computing", "receiving", then that of a task.
        arrays: the voxels to send, (k, j, i) of each image of a case, until they are sent.
    """

    def __init__(
        self,
        name: str,
        request: dict[str, Any],
        onCancel: Callable[[Job], None],
        arrays: Sequence[Any] = (),
        out: Path | None = None,
    ) -> None:
        """``out`` is the file that the result is to be in."""
        super().__init__()
        self.name, self.request = name, {**request, "job": name}
        self.state = "waiting"
        self.arrays = list(arrays)
        self.out = out
        self._onCancel: Callable[[Job], None] | None = onCancel
        self._answer: dict[str, Any] = {}
        self._received: ArrayFromFrames | None = None
        self._partial: Path | None = None  # the file that frames are being written to
        self._frames = 0  # of it, which are there

    def cancel(self) -> None:
        """Give it up; ``cancelled`` follows within a second."""
        if self._onCancel is not None:
            self._onCancel(self)

    # -- What the client tells it

    def takeEvent(self, event: dict[str, Any]) -> None:
        """One of the engine's events."""
        if event.get("kind") == "progress":
            self.progress.emit(event["stage"], event["step"], event["total"], event["eta"])
        elif event.get("kind") == "notice":
            self.notice.emit(textOf(event))

    def takeAnswer(self, fields: dict[str, Any]) -> None:
        """The worker's answer; where its frames follow, the job is over when they have come.

        Raises:
            DinomixError: the labels cannot be read.
        """
        self._answer = fields
        if not fields.get("frames"):
            self._finishWith(read_array(Path(fields["file"])) if "file" in fields else None)
            return
        self.state = "receiving"
        if self.out is None:
            self._received = ArrayFromFrames(tuple(fields["shape"]), fields["dtype"])

    def takeFrame(self, message: Message) -> None:
        """A frame of the result.

        Raises:
            DinomixError: a frame is missing or damaged.
            OSError: the result's file cannot be written.
        """
        if self._received is not None:
            self._received.add(message)
            self.progress.emit(_("receiving the labels"), *self._received.progress, None)
            if self._received.is_complete:
                self._finishWith(self._received.array)
        elif self.out is not None:
            self._takeFrameOfFile(message, fileOfFrame(self.out, message.fields))

    def _takeFrameOfFile(self, message: Message, target: Path) -> None:
        """The files follow one another, each written aside until it is whole."""
        if self._partial is None:
            target.parent.mkdir(exist_ok=True)
            self._partial, self._frames = target.with_name(f".partial-{target.name}"), 0
        with open(self._partial, "ab" if self._frames else "wb") as file:
            file.write(frame_bytes(message, self._frames))
        self._frames += 1
        if message.fields.get("last"):
            self._partial.replace(target)
            self._partial = None
            if not message.fields.get("more"):
                self._finishWith(None)

    def _finishWith(self, labels: Any) -> None:
        answer = self._answer
        if labels is not None and list(labels.shape) != answer.get("shape"):
            raise DinomixError(_("The worker's labels do not have the shape that it announced."), _("Try again."))
        told = {what: answer.get(what, []) for what in ("structures", "regions", "notices")}
        self.finish(Result(labels, **told, fields=answer))

    def _letGo(self) -> None:
        self.arrays = []
        self._received = self._onCancel = None
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)


def fileOfFrame(out: Path, fields: dict[str, Any]) -> Path:
    """The file that a frame is of: ``out``, or the mask of a region, which lies in a folder beside it.

    Raises:
        DinomixError: it is called as no such file can be.
    """
    name = str(fields.get("name", "")).partition(REGION_FRAMES)[2]
    if not name:
        return out
    if file_name(name, "region") != name:
        raise DinomixError(_("The worker has sent a file that it was not asked for."), _("Start the worker again."))
    return out.with_name(case_name(out) + REGIONS) / name
