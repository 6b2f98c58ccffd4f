"""How the axial slices of a run are shown to its frozen teacher: which way up, how large, and in which gray values."""

from collections import Counter
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.planning.intensities import usual_range
from dinomix.planning.plan import Plan, RangeWindow, SpacingGrid
from dinomix.training.config import LARGEST_SCALE, FkdConfig
from dinomix.training.trial import Stage


@dataclass(frozen=True)
class View:
    """
    Attributes:
        black, white: the intensities that are shown so.
        scale: pixels of a picture for each voxel, along x and y.
        axes: what x and y of a slice run towards, as codes of nibabel: "RA", or what the files of a size grid have.
        gray: mean and deviation of the pictures, with black 0 and white 1, that the teacher was trained with; None for those
            of its backbone.
    """

    black: float = 0.0
    white: float = 1.0
    scale: tuple[float, float] = (1.0, 1.0)
    axes: str = "RA"
    gray: tuple[float, float] | None = None

    def shown(self, slices: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures as a radiologist sees them (anterior up, the patient's right on the left): (N, x, y) -> (N, 1, rows, columns).

        Args:
            slices: intensities between ``black`` and ``white``.
            size: pixels along x and y.
        """
        pictures = ((slices[:, None].float() - self.black) / (self.white - self.black)).clamp(0, 1)
        is_smaller = min(self.scale) < 1
        pictures = F.interpolate(pictures, size=size, mode="bilinear", align_corners=False, antialias=is_smaller)
        pictures = pictures.flip(self._flipped)
        return pictures if self._x_is_down else pictures.transpose(2, 3)

    def turned_back(self, maps: Tensor) -> Tensor:
        """(N, width, rows, columns) of such pictures -> (N, width, x, y)."""
        maps = maps if self._x_is_down else maps.transpose(2, 3)
        return maps.flip(self._flipped)

    @property
    def _x_is_down(self) -> bool:
        """Whether x runs along the picture's columns: it is the axis from head to foot, or from front to back where none is."""
        x, y = self.axes[0], self.axes[1]
        return x in "SI" or (x in "AP" and y not in "SI")

    @property
    def _flipped(self) -> list[int]:
        """The axes that run against the picture's, whose rows go back or down and whose columns go to the left or back."""
        return [number for number, code in enumerate(self.axes, start=2) if code in "RAS"]


def make_view(config: FkdConfig, plan: Plan, cohort: Cohort, stage: Stage, reduction: int) -> View:
    """The view of a run's teacher.

    Args:
        stage: of the student that follows it.
        reduction: pixels for each token of the teacher.

    Raises:
        DinomixError: the teacher is for Hounsfield units, and the plan's intensities are others.
    """
    black, white = usual_range(plan.window)
    scale = (
        scale_that_resolves(plan, stage, reduction) if isinstance(config.scale, str) else (config.scale, config.scale)
    )
    return View(black, white, scale, _axes(plan, cohort), _gray(config, plan))


def scale_that_resolves(plan: Plan, stage: Stage, reduction: int) -> tuple[float, float]:
    """Pixels for each voxel along x and y with which no token is coarser than a cell of the student's stage [ours].

    Pixels are square in the patient, and there are never less of them than voxels.
    """
    spacing = plan.grid.spacing[:2] if isinstance(plan.grid, SpacingGrid) else (1.0, 1.0)
    cells = [side / cells for side, cells in zip(plan.patch[:2], stage.grid[:2], strict=True)]
    pixel = min(cell * mm for cell, mm in zip(cells, spacing, strict=True)) / reduction
    pixel = max(min(pixel, *spacing), max(spacing) / LARGEST_SCALE)
    return spacing[0] / pixel, spacing[1] / pixel


def _axes(plan: Plan, cohort: Cohort) -> str:
    """What x and y of the network's grid run towards; on a size grid those of most files, which are not turned for it."""
    if isinstance(plan.grid, SpacingGrid):
        return plan.grid.orientation[:2]
    cases = [*cohort.with_role("labeled"), *cohort.with_role("unlabeled")]
    return Counter(case.orientation[:2] for case in cases).most_common(1)[0][0]


def _gray(config: FkdConfig, plan: Plan) -> tuple[float, float] | None:
    if config.hounsfield is None:
        return None
    if not isinstance(plan.window, RangeWindow) or plan.modality != "CT":
        raise DinomixError(
            "fkd.hounsfield is for CT, whose window the plan gives in Hounsfield units.", "Leave fkd.hounsfield out."
        )
    (mean, deviation), low, high = config.hounsfield, plan.window.low, plan.window.high
    return (mean - low) / (high - low), deviation / (high - low)
