"""How the axial slices of a run are shown to its frozen teacher: which way up, how large, and in which gray values."""

from collections import Counter
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.names import listed, normalized_name
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
        colors: where images have several channels, the number of the channel that each of the three colors shows, and its
            black and white; empty where all three show the one channel. Not in the text of a view, by which features of one
            channel are found on disk.
    """

    black: float = 0.0
    white: float = 1.0
    scale: tuple[float, float] = (1.0, 1.0)
    axes: str = "RA"
    gray: tuple[float, float] | None = None
    colors: tuple[tuple[int, float, float], ...] = field(default=(), repr=False)

    def seen(self, images: Tensor) -> Tensor:
        """What is shown of images (B, channels, ...): (B, 1, ...), or (B, 3, ...) where the colors show several channels.

        All intensities are then between ``black`` and ``white``.
        """
        if not self.colors:
            return images[:, :1]
        extent = self.white - self.black
        return torch.stack([
            images[:, channel] if (black, white) == (self.black, self.white)
            else (images[:, channel] - black) / (white - black) * extent + self.black
            for channel, black, white in self.colors
        ], 1)  # fmt: skip

    def shown(self, slices: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures as a radiologist sees them, anterior up, the patient's right on the left: (N, colors, rows, columns).

        Args:
            slices: (N, x, y), or (N, colors, x, y), intensities between ``black`` and ``white``; one color is gray.
            size: pixels along x and y.
        """
        pictures = slices if slices.ndim == 4 else slices[:, None]
        pictures = ((pictures.float() - self.black) / (self.white - self.black)).clamp(0, 1)
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
        DinomixError: the teacher is for Hounsfield units, and the plan's intensities are others; or a color is to show a channel
            that the plan does not have.
    """
    colors = _colors(config, plan)
    black, white = colors[0][1:] if colors else usual_range(plan.window)
    scale = (
        scale_that_resolves(plan, stage, reduction) if isinstance(config.scale, str) else (config.scale, config.scale)
    )
    return View(black, white, scale, _axes(plan, cohort), _gray(config, plan), colors)


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


def _colors(config: FkdConfig, plan: Plan) -> tuple[tuple[int, float, float], ...]:
    """The channels that red, green and blue show, each with its black and white; without a setting the first three, of two the
    second twice [ours]. Empty where there is one channel."""
    names = [normalized_name(name) for name in plan.channels]
    unknown = [name for name in config.channels if normalized_name(name) not in names]
    if unknown:
        raise DinomixError(
            f"fkd.channels names {listed(unknown)}; the channels are {', '.join(plan.channels) or 'one without a name'}.",
            "Name some of these, or leave fkd.channels out.",
        )
    if len(names) == 1:
        return ()
    wanted = [names.index(normalized_name(name)) for name in config.channels] or list(range(min(3, len(names))))
    shown = (wanted * 3)[:3] if len(wanted) == 1 else (wanted + wanted[-1:])[:3]
    return tuple((number, *usual_range(plan.windows[number])) for number in shown)


def _gray(config: FkdConfig, plan: Plan) -> tuple[float, float] | None:
    if config.hounsfield is None:
        return None
    if plan.more_channels:
        raise DinomixError(
            "fkd.hounsfield is for cases with one image, a CT; these have several channels.",
            "Leave fkd.hounsfield out.",
        )
    if not isinstance(plan.window, RangeWindow) or plan.modality != "CT":
        raise DinomixError(
            "fkd.hounsfield is for CT, whose window the plan gives in Hounsfield units.", "Leave fkd.hounsfield out."
        )
    (mean, deviation), low, high = config.hounsfield, plan.window.low, plan.window.high
    return (mean - low) / (high - low), deviation / (high - low)
