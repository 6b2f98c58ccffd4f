"""Whether an image is one that a model can know, by its intensities, its grid and what is found: told before it is believed.

A network gives labels to whatever it is shown. A CT whose values were rescaled, or an MR given to a model for CT, has livers
everywhere and no word of warning comes from the network itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.modality import looks_like_hu
from dinomix.errors import DinomixError
from dinomix.events import Emit
from dinomix.images.volume import Geometry, Volume
from dinomix.labels import LabelSet
from dinomix.models.training_cases import TrainingCases
from dinomix.names import listed
from dinomix.planning.plan import Plan, RangeWindow, StepsWindow, ToRange, Window
from dinomix.planning.preprocessing import nearest_to_ras

VOXELS = 2**20
"""Of which intensities are judged: evenly spread over the image."""
COARSER, SMALLER = 2.0, 0.5
"""Voxels this many times as large as any training case's, and an image that shows this share of the least of them, are told."""
LESS, MORE = 0.1, 3.0
"""A structure below this share of its smallest volume in the training cases, or above this multiple of its largest, is told."""
AIR = 1024
"""What is added to HU in files that hold no negative numbers."""
SMALL = 20
"""HU: no CT is between so narrow limits."""
NO_AIR = -50
"""HU: an image of which nearly nothing lies below shows neither air nor fat, unless these were cut off."""
TISSUE = 0.1
"""Share of a CT's voxels that at least lie within -150 to 250 HU: fat, water, muscle, organs."""

_AXES = ("from right to left", "from back to front", "from bottom to top")
EXPORT = "Export the CT again with its rescale slope and intercept, so that air is about -1000 and water 0."


@dataclass(frozen=True)
class Doubt:
    """Why a result may be worth nothing.

    Attributes:
        message, remedy: sentences.
        grave: the labels mean nothing: the image is not what the model knows. Else they may be less good.
    """

    message: str
    remedy: str
    grave: bool


def tell(doubts: Sequence[Doubt], emit: Emit, *, any_image: bool, image: str = "", otherwise: str = "") -> None:
    """Announce doubts as notices.

    Args:
        any_image: also the grave ones; else the first of these is raised.
        image: what the sentences begin with, where there are several images.
        otherwise: what the remedy of a grave doubt ends with: how to segment the image all the same.

    Raises:
        DinomixError: a grave doubt.
    """
    for doubt in doubts:
        message = f"{image}: {doubt.message}" if image else doubt.message
        if doubt.grave and not any_image:
            raise DinomixError(message, f"{doubt.remedy} {otherwise}".strip(), "other-image")
        emit("notice", message=f"{message} {doubt.remedy}")


def doubts_of_image(
    image: Volume, plan: Plan, cases: TrainingCases | None, modality: str | None = None, channel: int = 0
) -> list[Doubt]:
    """What speaks against segmenting an image.

    Args:
        image: (k, j, i), as it was read.
        plan: of the model.
        cases: what the model was trained on, where that is known: what is like them is not doubted.
        modality: the tag (0008,0060) of a DICOM series, where the image is one.
        channel: which of the plan's channels the image is for.
    """
    found = [_of_kind(image.array, plan, cases, modality, channel)]
    if cases is not None:
        found += _of_grid(image.geometry, cases)
    return [doubt for doubt in found if doubt is not None]


def doubts_of_result(result: Volume, label_set: LabelSet, cases: TrainingCases | None) -> list[Doubt]:
    """What a result itself makes doubtful: nothing found, or much less or more of a structure than there is in a body.

    Args:
        result: structure ids, (k, j, i).
    """
    # Slab by slab: bincount makes a copy of eight bytes a voxel.
    counts = np.zeros(max(label_set.ids) + 1, np.int64)
    for slab in result.array:
        counts += np.bincount(slab.ravel(), minlength=len(counts))[: len(counts)]
    if not counts[list(label_set.ids)].any():
        return [
            Doubt(
                f"None of the model's {len(label_set.ids)} structures was found.",
                "Check that the image shows the part of the body that the model is for.",
                grave=False,
            )
        ]
    odd: dict[str, list[str]] = {"smaller": [], "larger": []}
    voxel = float(np.prod(result.geometry.spacing)) / 1000
    for structure in label_set.structures:
        known, volume = cases.volume.get(structure.name) if cases else None, counts[structure.id] * voxel
        if known is None or not volume or LESS * known[0] <= volume <= MORE * known[1]:
            continue
        told = f"{structure.name} ({volume:.3g} ml; {known[0]:.3g} to {known[1]:.3g} ml in the training cases)"
        odd["smaller" if volume < known[0] else "larger"].append(told)
    return [
        Doubt(
            f"Much {how} than in the training cases: {listed(names)}.", "Look at these structures first.", grave=False
        )
        for how, names in odd.items()
        if names
    ]


def _of_kind(
    array: NDArray[Any], plan: Plan, cases: TrainingCases | None, modality: str | None, channel: int
) -> Doubt | None:
    wanted = plan.modalities[channel]
    if {wanted, modality} == {"CT", "MR"}:
        return Doubt(
            f"The image is {modality}, as its DICOM header says, and the model is for {wanted}.",
            f"Choose a model for {modality}.",
            grave=True,
        )
    values = _sample(array)
    low, middle, high = (float(value) for value in np.percentile(values, (0.5, 50, 99.5)))
    if not np.isfinite((low, high)).all():
        return None  # reading or segmenting refuses it, and says so
    if wanted not in ("CT", "MR") or (cases is not None and cases.has_like(low, high, channel)):
        return None
    in_hu = looks_like_hu((low, middle, high))
    if wanted == "MR":
        if not in_hu or low > -AIR / 2:
            return None
        return Doubt(
            f"The image looks like a CT in HU (half of a percent of it lies below {low:.0f}), and the model is for MR.",
            "Choose a model for CT.",
            grave=True,
        )
    if high - low > SMALL and (in_hu or _lowest(plan.windows[channel]) >= NO_AIR):
        return None
    return _not_in_hu(values, low, high)


def _lowest(window: Window) -> float:
    """HU below which all is the same to the model, as far as its window says so."""
    if isinstance(window, RangeWindow):
        return window.low
    first = window.steps[0] if isinstance(window, StepsWindow) else None
    return first.low if isinstance(first, ToRange) and first.clip else -np.inf


def _not_in_hu(values: NDArray[Any], low: float, high: float) -> Doubt:
    said = f"a model for CT needs HU, and the image's values go from {low:.3g} to {high:.3g}"
    if high - low <= SMALL:
        return Doubt(f"The image was scaled to a small range: {said}.", EXPORT, grave=True)
    if low >= 0 and high <= 255:
        return Doubt(f"The image was made one of 8 bits, as for display: {said}.", EXPORT, grave=True)
    if low >= NO_AIR and _is_ct(values.astype(np.float64) - AIR):
        return Doubt(
            f"The image holds stored values, to which the rescale was not applied: {said}.", EXPORT, grave=True
        )
    return Doubt(
        f"The image does not look like a CT: {said}.", "Choose a model for the kind of images that this is.", grave=True
    )


def _is_ct(values: NDArray[np.float64]) -> bool:
    """Whether values in HU would be those of a body in air: little between fat and lung, much of water's density."""
    low, middle, high = (float(value) for value in np.percentile(values, (0.5, 50, 99.5)))
    tissue = float(np.mean((values > -150) & (values < 250)))
    return looks_like_hu((low, middle, high)) and low < -800 and tissue >= TISSUE


def _of_grid(geometry: Geometry, cases: TrainingCases) -> list[Doubt]:
    axes = nearest_to_ras(geometry).axes
    found = []
    for axis, of_file in enumerate(axes):
        spacing, extent = geometry.spacing[of_file], geometry.spacing[of_file] * geometry.size[of_file]
        least, most = cases.spacing[axis]
        if spacing > COARSER * most:
            found.append(
                Doubt(
                    f"{_AXES[axis].capitalize()}, the image has a voxel each {spacing:.3g} mm, and the training cases each "
                    f"{_between(least, most)}.",
                    "Small structures may be missed; take a series of thinner slices if there is one.",
                    grave=False,
                )
            )
        if extent < SMALLER * cases.extent[axis][0]:
            found.append(
                Doubt(
                    f"{_AXES[axis].capitalize()}, the image shows {extent:.0f} mm, and the training cases "
                    f"{_between(*cases.extent[axis])}.",
                    "Structures at its edges may be missed or taken for others.",
                    grave=False,
                )
            )
    return found


def _between(low: float, high: float) -> str:
    return f"{low:.3g} mm" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g} mm"


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    """Voxels all over the image, of which no axis is taken at even steps of its own."""
    flat = array.reshape(-1)
    step = max(1, flat.size // VOXELS)
    # Odd, so that a step does not fall on the same column of each row.
    return flat[:: step | 1]
