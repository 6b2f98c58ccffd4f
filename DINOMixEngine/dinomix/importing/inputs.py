"""The images that a model of elsewhere sees of a case, as channels of a plan: how they are called and scaled."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dinomix.cohort.cohort import MOST_CHANNELS
from dinomix.cohort.modality import Modality
from dinomix.errors import DinomixError
from dinomix.names import normalized_name
from dinomix.planning.plan import InputChannel, Window


class Input(NamedTuple):
    """One image of a case, as a model's own files call it."""

    name: str
    modality: Modality
    window: Window


def channel_fields(inputs: Sequence[Input], source: Path) -> dict[str, Any]:
    """The fields of a plan for the images of a case, in the network's order; one image needs no name.

    Names that are missing, used twice, or cannot be a channel's are changed.

    Raises:
        DinomixError: there are more than a plan can have.
    """
    if not 1 <= len(inputs) <= MOST_CHANNELS:
        raise DinomixError(
            f"{source} takes {len(inputs)} images of a patient at once.", f"1 to {MOST_CHANNELS} are possible."
        )
    first, *others = inputs
    fields: dict[str, Any] = {"modality": first.modality, "window": first.window}
    if not others:
        return fields
    names = _usable([each.name for each in inputs])
    more = [InputChannel(name=n, modality=i.modality, window=i.window) for n, i in zip(names[1:], others, strict=True)]
    return {**fields, "channel": names[0], "more_channels": tuple(more)}


def renamed(inputs: list[Input], names: Sequence[str], source: Path) -> list[Input]:
    """With other names of the images, in their order, where such are given.

    Raises:
        DinomixError: there are more or fewer than images.
    """
    if not names:
        return inputs
    if len(names) != len(inputs):
        raise DinomixError(
            f"{source}: {len(names)} images are named, and its network takes {len(inputs)}.", "Get the model again."
        )
    return [image._replace(name=name) for image, name in zip(inputs, names, strict=True)]


def modality_of(text: str) -> Modality | None:
    """The kind of images that a text such as "CT", "PET-CT" or "T1w MRI" speaks of; None where it says nothing."""
    words = re.findall("[a-z0-9]+", text.casefold())
    if any(word in ("pet", "pt", "fdg", "suv") for word in words):
        return "PT"
    if "ct" in words:
        return "CT"
    if any(word in ("mr", "mri", "adc", "dwi") or word.startswith(("t1", "t2", "flair")) for word in words):
        return "MR"
    return None


def _usable(names: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for number, name in enumerate(names, start=1):
        plain = re.sub(r"[\x00-\x1f/\\=@$%#]+", " ", name).strip()[:80] or f"image {number}"
        known = {normalized_name(other) for other in taken}
        numbered = plain
        while normalized_name(numbered) in known:
            numbered = f"{plain} {number}"
            number += len(names)
        taken.append(numbered)
    return taken
