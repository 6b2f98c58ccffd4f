"""Cases of the open scene into a study's folder, beside the window: copied in small steps, written in a thread."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..signal import Signal
from ..task import InBackground, Steps
from .case_files import CaseFiles, NothingInside, Overlap, writeCase
from .scene_cohort import CaseArrays, SceneCase, stateOf, stepsOfCase


@dataclass(frozen=True)
class _Written:
    """What was written: the state of the nodes then, the files, and what the disk says of them."""

    state: object
    files: CaseFiles
    onDisk: object


class SceneExport:
    """Writes cases into a folder, those only that have changed since this object wrote them, or since the files were written.

    Signals; of the last three one is emitted, once for each ``start``:
        progress(done, total): cases that are written, and all.
        finished(files): a list of ``CaseFiles``.
        failed(problem, remedy): what is written by then stays.
        cancelled()
    """

    def __init__(self) -> None:
        self.progress = Signal()
        self.finished, self.failed, self.cancelled = Signal(), Signal(), Signal()
        self._written: dict[Path, _Written] = {}
        self._steps: Steps | None = None

    def start(self, cases: list[SceneCase], folder: Path, leftOut: Collection[str] = ()) -> None:
        """Write these cases; ``leftOut`` names segments that are not wanted."""
        self.cancel()
        steps = self._steps = Steps(self._stepsOf(cases, folder, leftOut))
        steps.finished.connect(lambda files: self._end(self.finished, files))
        steps.failed.connect(lambda *words: self._end(self.failed, *words))
        steps.cancelled.connect(lambda: self._end(self.cancelled))

    def isRunning(self) -> bool:
        return self._steps is not None

    def cancel(self) -> None:
        """Give it up; ``cancelled`` is emitted at once. A file is whole or as it was."""
        if self._steps is not None:
            self._steps.cancel()

    def _end(self, signal: Signal, *arguments: Any) -> None:
        self._steps = None
        signal.emit(*arguments)

    def _stepsOf(
        self, cases: list[SceneCase], folder: Path, leftOut: Collection[str]
    ) -> Generator[Any, None, list[CaseFiles]]:
        files = []
        for number, case in enumerate(cases):
            self.progress.emit(number, len(cases))
            path = folder / case.name
            state = stateOf(case, leftOut)
            last = self._written.get(path)
            if last is not None and last.state == state and last.onDisk == _onDisk(last.files):
                files.append(last.files)
                continue
            arrays = yield from stepsOfCase(case, leftOut)
            written = yield from _stepsOfWriting(arrays, folder)
            self._written[path] = _Written(state, written, _onDisk(written))
            files.append(written)
        self.progress.emit(len(cases), len(cases))
        return files


def _stepsOfWriting(arrays: CaseArrays, folder: Path) -> Generator[Any, None, CaseFiles]:
    """Write one case in a thread; the generator returns its files."""
    work = InBackground(lambda checkStop: writeCase(arrays, folder, checkStop))
    try:
        files: CaseFiles = yield from work.steps()
    except Overlap as error:
        one, other = error.args
        raise DinomixError(
            _(
                "In the segmentation of {name} the segments {one} and {other} overlap; a voxel can be one structure only."
            ).format(name=arrays.name, one=one, other=other),
            _("Subtract one from the other with Logical operators in the Segment Editor, or leave one of them out."),
        ) from error
    except NothingInside as error:
        raise DinomixError(
            _("The segmentation of {name} has no voxel inside its volume.").format(name=arrays.name),
            _("Check that both belong together, or choose no segmentation: it is then an unlabeled case."),
        ) from error
    except OSError as error:
        raise DinomixError(
            _("The files of {name} cannot be written to {folder} ({reason}).").format(
                name=arrays.name, folder=folder, reason=error.strerror or error
            ),
            _("Free some disk space, or choose a study folder that you may write to."),
        ) from error
    return files


def _onDisk(files: CaseFiles) -> object:
    """Size and time of the files; None when one is not there."""
    try:
        states = [path.stat() for path in (files.image, files.label) if path is not None]
    except OSError:
        return None
    return [(state.st_size, state.st_mtime_ns) for state in states]
