"""Along which axes a model may see mirror images: left must never become right. Needs no torch, so that models can be listed."""

from collections.abc import Mapping
from typing import Any

from dinomix.labels import LabelSet
from dinomix.planning.plan import Plan, SpacingGrid


def mirror_axes(record: Mapping[str, Any], plan: Plan, labels: LabelSet) -> str:
    """Of "xyz" those along which a model was trained with mirror images; it has learned nothing of others, and loses by them.

    Never that from left to right where a structure has a side.
    """
    config = record.get("config")
    config = config if isinstance(config, dict) else {}
    names = {
        *_texts(record.get("mirrored_axes")),
        *_texts(config.get("flips")),
        *("x" if config.get("mirror") is True else ""),
    }
    if labels.has_sides:
        # Which axis of the file is that from left to right is not known of other grids.
        names = names - {"x"} if isinstance(plan.grid, SpacingGrid) else set()
    return "".join(axis for axis in "xyz" if axis in names)


def _texts(listed: object) -> set[str]:
    return {each for each in listed if isinstance(each, str)} if isinstance(listed, list | tuple) else set()
