"""How names are compared and listed; needs nothing installed."""

from collections.abc import Sequence


def normalized_name(name: str) -> str:
    """A name as it is compared: case, separators and the order of words do not matter ("Right Kidney" = "kidney_right")."""
    words = name.casefold().replace("_", " ").replace("-", " ").replace("/", " ").split()
    return " ".join(sorted(word for word in words if word not in {"and", "of", "the"}))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence: "a, b and 3 more"."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
