"""What a user asks to be removed from results: all but the largest piece of a structure, or pieces below a size."""

from collections.abc import Mapping

from dinomix.errors import DinomixError
from dinomix.inference.segment import kept_labels
from dinomix.labels import LabelSet
from dinomix.planning.connected_components import Rules

LARGEST, ML = "largest", "ml"
ALL = ""
"""In place of a structure's name: each of them."""


def asked_rules(asked: Mapping[str, str], labels: LabelSet) -> Rules:
    """Id -> the least size of its pieces, ml; None for the largest piece alone.

    Args:
        asked: structure -> "largest" or a size such as "0.5ml"; ``ALL`` for those that are not named.

    Raises:
        DinomixError: a structure is not one of ``labels``, or a rule is neither.
    """
    rules: dict[int, float | None] = {}
    for name in sorted(asked):  # ALL first
        smallest = _smallest(asked[name])
        rules |= dict.fromkeys(kept_labels(labels, (name,) if name != ALL else ()).ids, smallest)
    return rules


def _smallest(rule: str) -> float | None:
    text = rule.strip().lower()
    if text == LARGEST:
        return None
    try:
        size = float(text.removesuffix(ML)) if text.endswith(ML) else 0.0
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise DinomixError(
            f"--clean-up {rule!r} is neither largest nor a size.",
            "Give largest, or a least size such as 0.5ml.",
            "clean-up",
        )
    return size
