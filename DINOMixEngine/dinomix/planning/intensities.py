"""How a plan's window scales intensities, said once: in MONAI's transforms, which model folders name too."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.arrays import Array, namespace, usual
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


def scaled(image: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """Intensities as the network takes them, by a window of steps; ``image`` may have any shape."""
    array = usual(image)
    for name, arguments in monai_steps(window):
        array = _OWN[name](array, **arguments)
    return np.asarray(array)


def limits(array: NDArray[np.generic], window: RangeWindow | PercentileWindow) -> tuple[float, float]:
    """The intensities that become 0 and 1: the window's own, or percentiles of all voxels, as MONAI takes them."""
    if isinstance(window, RangeWindow):
        return window.low, window.high
    values = np.asarray(array, np.float32)
    ends = (window.lower, window.upper)
    if values.size > QUANTILE_VOXELS:
        low, high = (float(np.float32(np.percentile(values, end))) for end in ends)
    else:
        ascending = np.sort(values, axis=None)
        low, high = (_quantile(ascending, end) for end in ends)
    return low, high


def between(image: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Intensities as MONAI's ``ScaleIntensityRange`` scales and clips them to [0, 1]; in place."""
    image -= np.float32(low)
    if high != low:
        image /= np.float32(high - low)
        np.clip(image, 0, 1, out=image)
    return image


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


def _quantile(ascending: NDArray[np.float32], percent: float) -> float:
    """As PyTorch computes and rounds it, so that a window has the same bits with PyTorch and without."""
    if np.isnan(ascending[-1]):
        return float(ascending[-1])
    rank = float(np.float32(percent / 100)) * (len(ascending) - 1)
    below = ascending[int(rank)]
    above = ascending[int(np.ceil(rank))]
    step, weight = float(above - below), np.float32(rank - int(rank))
    if weight < 0.5:
        return float(np.float32(float(below) + float(weight) * step))
    return float(np.float32(float(above) + float(weight - np.float32(1)) * step))


def _scale_range(image: Array, a_min: float, a_max: float, b_min: float, b_max: float, clip: bool) -> Array:
    if a_max == a_min:
        return image - a_min + b_min
    image = (image - a_min) / (a_max - a_min) * (b_max - b_min) + b_min
    return namespace(image).clip(image, b_min, b_max) if clip else image


def _scale(image: Array, minv: float, maxv: float) -> Array:
    xp = namespace(image)
    low, high = xp.min(image), xp.max(image)
    return image * minv if low == high else (image - low) / (high - low) * (maxv - minv) + minv


def _normalize(image: Array, nonzero: bool) -> Array:
    if not nonzero:
        return _normal(image, image)
    xp, counted = namespace(image), image != 0
    return xp.where(counted, _normal(image, image[counted]), image) if xp.any(counted) else image


def _normal(image: Array, values: Array) -> Array:
    """An image whose intensities ``values`` get the mean 0 and the deviation 1."""
    xp = namespace(values)
    return (image - float(xp.mean(values))) / (float(xp.std(values)) or 1.0)


def _apply(image: Array, func: str) -> Array:
    if func == "$torch.tanh":
        return namespace(image).tanh(image)
    if not isinstance(image, np.ndarray):
        return image.sigmoid()  # which the standard has not, and which no formula gives to the last bit
    from scipy.special import expit

    return expit(image)


_OWN: dict[str, Callable[..., Array]] = {
    "ScaleIntensityRange": _scale_range,
    "ScaleIntensity": _scale,
    "NormalizeIntensity": _normalize,
    "Lambda": _apply,
}
"""MONAI's transforms of ``_transforms``, for either kind of arrays; with PyTorch's tensors, they give the bits of MONAI's."""


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
