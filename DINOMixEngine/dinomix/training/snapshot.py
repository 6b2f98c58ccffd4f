"""How a run segments one validation case by now: a segmentation on the case's own image grid, for others to show."""

import math
from dataclasses import replace

import numpy as np
import torch

from dinomix.cohort.case_images import read_first_image
from dinomix.cohort.cohort import Case
from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.images.volume import Geometry
from dinomix.images.writing import write_labels
from dinomix.inference.native_grid import NativeLabels
from dinomix.planning.connected_components import remove_stray_pieces
from dinomix.planning.plan import OnePiece
from dinomix.planning.preprocessing import Preprocessed, preprocess
from dinomix.planning.whereabouts import of_image
from dinomix.training.run_directory import RunDirectory


class Snapshots:
    """Writes RUN/snapshot/CASE.seg.nrrd anew at each validation.

    The image is read once, for its grid alone. When it cannot be read any more, a notice says so and training goes on:
    the cached case is all that training needs.
    """

    def __init__(self, directory: RunDirectory, case: Case) -> None:
        self.directory, self.case = directory, case
        self._grid: tuple[Preprocessed, Geometry] | None = None
        self._missing = False

    def begun(self, size: tuple[int, int, int], emit: Emit) -> NativeLabels | None:
        """What takes the logits of the case, slab by slab, for ``write``; None where the image cannot be read any more.

        Args:
            size: voxels of the prepared case along (x, y, z).
        """
        if self._missing:
            return None
        try:
            preprocessed, _ = self._grid = self._grid or self._read()
        except (DinomixError, FileNotFoundError) as error:
            self._missing = True
            emit("notice", message=f"No segmentation of {self.case.name} is shown while training: {error}")
            return None
        return NativeLabels(preprocessed, size, self.directory.cohort.labels.ids)

    def write(self, found: NativeLabels, one_piece: OnePiece, dice: list[float | None], step: int, emit: Emit) -> None:
        """Write the segmentation of the case, and announce it.

        Args:
            found: what ``begun`` gave, once it has taken all logits.
            one_piece: whose stray pieces are left out, as the model's result leaves them out.
            dice: of each structure in this case, on the network's grid; None where the case lacks it.

        Raises:
            OSError: the disk is full.
        """
        assert self._grid is not None
        (_, geometry), labels, native = self._grid, self.directory.cohort.labels, found.array.transpose(2, 1, 0)
        near = of_image(one_piece.whereabouts, geometry, self.directory.plan, (0, 1, 2))
        remove_stray_pieces(native, one_piece, np.array([0, *labels.ids]), nearness=near)
        path = self.directory.path / "snapshot" / f"{self.case.name}.seg.nrrd"
        write_labels(np.ascontiguousarray(native.transpose(2, 1, 0)), geometry, labels, path)
        known = [value for value in dice if value is not None]
        emit(
            "snapshot",
            step=step,
            case=self.case.name,
            path=path.relative_to(self.directory.path).as_posix(),
            mean=sum(known) / len(known) if known else None,
        )

    def _read(self) -> tuple[Preprocessed, Geometry]:
        volume = read_first_image(self.case.images)
        preprocessed = preprocess(volume, self.directory.plan)
        return replace(preprocessed, tensor=torch.empty(0)), volume.geometry


def shown_first(cases: tuple[Case, ...]) -> list[Case]:
    """The cases with the smallest one at the front: its segmentation is written soonest."""
    smallest = min(cases, key=lambda case: math.prod(case.size), default=None)
    return sorted(cases, key=lambda case: case is not smallest)
