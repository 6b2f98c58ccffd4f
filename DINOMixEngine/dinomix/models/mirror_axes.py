"""Along which axes a model may see mirror images: left must never become right. Needs no torch, so that models can be listed."""

from collections.abc import Mapping
from typing import Any

from dinomix.labels import LabelSet
from dinomix.planning.plan import Plan, SpacingGrid


def mirror_axes(record: Mapping[str, Any], plan: Plan, labels: LabelSet) -> str:
    """Of "xyz" those along which a model was trained with mirror images, and that from left to right for any model none of whose
    structures has a side. Where one has, never that axis.
    """
    config = record.get("config")
    names = _texts(record.get("mirrored_axes")) | _texts(config.get("flips") if isinstance(config, dict) else None)
    if isinstance(plan.grid, SpacingGrid):
        names = names - {"x"} if labels.has_sides else names | {"x"}
    elif labels.has_sides:
        names = set()  # which axis of the file is that from left to right is not known
    return "".join(axis for axis in "xyz" if axis in names)


def _texts(listed: object) -> set[str]:
    return {each for each in listed if isinstance(each, str)} if isinstance(listed, list | tuple) else set()
