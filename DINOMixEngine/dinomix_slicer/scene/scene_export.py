"""Cases of the open scene into a study's folder, beside the window: copied in small steps, written in a thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from functools import partial
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from ..task import InBackground
from .case_files import (
    CaseFiles,
    CheckStop,
    NothingInside,
    OtherImage,
    Overlap,
    areAsWritten,
    filesOf,
    isAnotherImage,
    writeCase,
)
from .scene_cohort import CaseArrays, SceneCase, stateOf, stepsOfCase


class SceneExport:
    """Writes cases into a folder, those only that have changed since this object wrote them, or since the files were written."""

    def __init__(self) -> None:
        self._states: dict[Path, object] = {}  # image file -> what the nodes were when it was written

    def steps(
        self,
        cases: list[SceneCase],
        folder: Path,
        leftOut: Collection[str] = (),
        onProgress: Callable[[int, int], None] = lambda done, total: None,
        kept: Collection[Path] = (),
    ) -> Generator[Any, None, list[CaseFiles]]:
        """Steps that write these cases and return their files; given up, a file is whole or as it was.

        Args:
            leftOut: names of segments that are not wanted.
            onProgress: gets how many cases are written, and how many there are.
            kept: image files that labels elsewhere were drawn on, which no other image may replace.
        """
        files = []
        for number, case in enumerate(cases):
            onProgress(number, len(cases))
            of = filesOf(case.name, folder, case.segmentation is not None, 1 + len(case.more))
            state = stateOf(case, leftOut)
            if self._states.get(of.image) != state or not areAsWritten(of):
                arrays = yield from stepsOfCase(case, leftOut)
                write = _writeSame if of.image in kept else writeCase
                yield from stepsOfWriting(partial(write, arrays, of), case.name, folder)
                self._states[of.image] = state
            files.append(of)
        onProgress(len(cases), len(cases))
        return files

    def hasChanged(self, case: SceneCase, folder: Path, leftOut: Collection[str] = ()) -> bool:
        """Whether the nodes are others than when this object wrote the case; not of one that it never wrote."""
        of = filesOf(case.name, folder, case.segmentation is not None, 1 + len(case.more))
        written = self._states.get(of.image)
        return written is not None and written != stateOf(case, leftOut)


def _writeSame(case: CaseArrays, files: CaseFiles, checkStop: CheckStop) -> None:
    """As ``writeCase``. Raises OtherImage where the image is another one than what was written."""
    if isAnotherImage(case, files, checkStop):
        raise OtherImage
    writeCase(case, files, checkStop)


def stepsOfWriting(write: Callable[[Callable[[], None]], Any], name: str, folder: Path) -> Generator[Any, None, Any]:
    """Write a case in a thread, by ``write(checkStop)``; the generator returns its result.

    Raises:
        DinomixError: the case's segments overlap or lie outside of the image, labels of another image were corrected under its
            name, or the folder cannot be written.
    """
    try:
        return (yield from InBackground(write).steps())
    except Overlap as error:
        one, other = error.args
        raise DinomixError(
            _(
                "In the segmentation of {name} the segments {one} and {other} overlap; a voxel can be one structure only."
            ).format(name=name, one=one, other=other),
            _("Subtract one from the other with Logical operators in the Segment Editor, or leave one of them out."),
        ) from error
    except OtherImage as error:
        raise DinomixError(
            _("Labels that were corrected belong to another volume that was called {name}.").format(name=name),
            _("Rename this volume in the Data module, and check the cases again."),
        ) from error
    except NothingInside as error:
        raise DinomixError(
            _("What is drawn in the segmentation of {name} lies outside of its volume.").format(name=name),
            _("Choose the volume that it was drawn on, or leave it an unlabeled case."),
        ) from error
    except OSError as error:
        raise DinomixError(
            _("The files of {name} cannot be written to {folder} ({reason}).").format(
                name=name, folder=folder, reason=error.strerror or error
            ),
            _("Free some disk space, or choose a study folder that you may write to."),
        ) from error
