"""What a model was unsure of: a mark on segments, and in the worker's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import vtk

PREDICTED_DICE = "DINOMix.UnsureWithPredictedDice"
"""Tag of a segment that its model was unsure of: the Dice that it predicted. It is saved with the segmentation."""

Unsure = list[tuple[str, str]]
"""(name, predicted Dice) of structures, those that a model is least sure of first."""


def unsureOf(structures: Sequence[dict[str, Any]]) -> Unsure:
    """Of STRUCTURE dicts of a result (docs/worker.md)."""
    return _sorted((each["name"], f"{each['predicted_dice']:.2f}") for each in structures if each.get("unsure"))


def markUnsure(segment: Any, structure: dict[str, Any]) -> None:
    """Mark a segment where the model is unsure of its structure."""
    for _name, dice in unsureOf([structure]):
        segment.SetTag(PREDICTED_DICE, dice)


def unsureSegments(segmentationNode: Any) -> Unsure:
    """Of the segments of a segmentation."""
    segmentation = segmentationNode.GetSegmentation()
    unsure = []
    for each in segmentation.GetSegmentIDs():
        segment, dice = segmentation.GetSegment(each), vtk.mutable("")
        if segment.GetTag(PREDICTED_DICE, dice):
            unsure.append((segment.GetName(), str(dice)))
    return _sorted(unsure)


def inWords(unsure: Sequence[tuple[str, str]]) -> str:
    """Such as "spleen (0.41), liver (0.66)"."""
    return ", ".join(f"{name} ({dice})" for name, dice in unsure)


def _sorted(unsure: Any) -> Unsure:
    return sorted(unsure, key=lambda structure: structure[1])
