"""How a plan's window scales intensities, said once: in MONAI's transforms, which model folders name too."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dinomix.planning.plan import (
    MinMax,
    PercentileWindow,
    RangeWindow,
    Sigmoid,
    Step,
    StepsWindow,
    Tanh,
    ToRange,
    Window,
    ZScore,
)

QUANTILE_VOXELS = 1_000_000
"""Up to here MONAI takes PyTorch's quantiles, beyond it NumPy's percentiles."""

Transform = tuple[str, dict[str, Any]]
"""The name of a transform of ``monai.transforms`` and its arguments, as MONAI's configuration language has them."""


def monai_steps(window: Window) -> list[Transform]:
    """The transforms of a window, in their order."""
    match window:
        case RangeWindow():
            limits = {"a_min": window.low, "a_max": window.high, "b_min": 0.0, "b_max": 1.0}
            return [("ScaleIntensityRange", {**limits, "clip": True})]
        case PercentileWindow():
            limits = {"lower": window.lower, "upper": window.upper, "b_min": 0.0, "b_max": 1.0}
            return [("ScaleIntensityRangePercentiles", {**limits, "clip": True, "relative": False})]
        case StepsWindow():
            return [transform for step in window.steps for transform in _transforms(step)]


def scales_on_grid(window: Window) -> bool:
    """Whether the window sees the voxels of the network's grid rather than those of the file."""
    return isinstance(window, StepsWindow) and window.on == "grid"


def scaled(image: torch.Tensor, window: Window) -> torch.Tensor:
    """Intensities as the network takes them, float32; ``image`` may have any shape."""
    from monai import transforms

    for name, arguments in monai_steps(window):
        known = {key: _FUNCTIONS.get(value, value) for key, value in arguments.items()}
        image = getattr(transforms, name)(**known)(image)
    return torch.as_tensor(image).as_subclass(torch.Tensor).float()


def limits(array: NDArray[np.generic], window: RangeWindow | PercentileWindow) -> tuple[float, float]:
    """The intensities that become 0 and 1: the window's own, or percentiles of all voxels, as MONAI takes them."""
    if isinstance(window, RangeWindow):
        return window.low, window.high
    values = np.asarray(array, np.float32)
    ends = (window.lower, window.upper)
    if values.size > QUANTILE_VOXELS:
        low, high = (float(np.float32(np.percentile(values, end))) for end in ends)
    else:
        flat = torch.from_numpy(np.ascontiguousarray(values).reshape(-1))
        low, high = (float(torch.quantile(flat, torch.tensor(end / 100.0))) for end in ends)
    return low, high


def between(image: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Intensities (float32) as MONAI's ``ScaleIntensityRange`` scales and clips them to [0, 1]; in place.

    The same numbers as ``scaled`` gives, for some voxels of a volume whose ``limits`` are known.
    """
    image.sub_(low)
    return image if high == low else image.div_(high - low).clamp_(0, 1)


def usual_range(window: Window) -> tuple[float, float]:
    """Where nearly all scaled intensities lie: for pictures of them, and for whoever wants [0, 1]."""
    low, high = 0.0, 1.0
    if isinstance(window, StepsWindow):
        for step in window.steps:
            match step:
                case ToRange() | MinMax():
                    low, high = step.to
                case ZScore():
                    low, high = -3.0, 3.0
                case Sigmoid():
                    low, high = 0.0, 1.0
                case Tanh():
                    low, high = -step.limit, step.limit
    return low, high


_FUNCTIONS: dict[Any, Any] = {"$torch.sigmoid": torch.sigmoid, "$torch.tanh": torch.tanh}
"""The functions that a window may name; a plan cannot bring its own."""


def _transforms(step: Step) -> list[Transform]:
    match step:
        case ToRange():
            return [_linear(step.low, step.high, *step.to, clip=step.clip)]
        case ZScore():
            return [("NormalizeIntensity", {"nonzero": step.nonzero})]
        case MinMax():
            return [("ScaleIntensity", {"minv": step.to[0], "maxv": step.to[1]})]
        case Sigmoid():
            return [("Lambda", {"func": "$torch.sigmoid"})]
        case Tanh():
            return [
                _linear(0.0, step.limit, 0.0, 1.0, clip=False),
                ("Lambda", {"func": "$torch.tanh"}),
                _linear(0.0, 1.0, 0.0, step.limit, clip=False),
            ]


def _linear(low: float, high: float, to_low: float, to_high: float, *, clip: bool) -> Transform:
    return "ScaleIntensityRange", {"a_min": low, "a_max": high, "b_min": to_low, "b_max": to_high, "clip": clip}
