"""How names are compared, listed and made those of files, by engine and bridge alike; needs nothing installed."""

import re
import unicodedata
from collections.abc import Sequence

CHANNEL_NAME = r"^[^\x00-\x1f/\\=@$%#]{1,100}$"
"""What a kind of image may be called, such as "t2": it stands in options NAME=FILE and in one line of a text."""
LONGEST = 180
"""Bytes of a name that a file is called after; something comes before and behind it."""


_SIDES = frozenset((
    "left", "right", "l", "r", "lt", "rt", "lh", "rh", "sinister", "sinistra", "sinistrum", "dexter", "dextra", "dextrum",
    "links", "linke", "linker", "linkes", "rechts", "rechte", "rechter", "rechtes", "gauche", "droit", "droite", "izquierdo",
    "izquierda", "derecho", "derecha", "sinistro", "destro", "destra", "esquerdo", "esquerda", "direito", "direita", "左", "右",
))  # fmt: skip


def normalized_name(name: str) -> str:
    """A name as it is compared: case, separators and the order of words do not matter ("Right Kidney" = "kidney_right")."""
    words = name.casefold().replace("_", " ").replace("-", " ").replace("/", " ").split()
    return " ".join(sorted(word for word in words if word not in {"and", "of", "the"}))


def channel_name(text: str) -> str:
    """A text as the name of a channel; see ``CHANNEL_NAME``."""
    return re.sub(r"[\x00-\x1f/\\=@$%#]+", " ", text).strip()[:100] or "channel"


def names_a_side(name: str) -> bool:
    """Whether a name says left or right, in English, Latin, German, French, Spanish, Italian, Portuguese, Chinese or Japanese."""
    plain = unicodedata.normalize("NFKD", name)
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+|[左右]", plain)
    return any(word.casefold() in _SIDES for word in words)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence: "a, b and 3 more"."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def file_name(name: str, otherwise: str) -> str:
    """A name as a file or folder may be called on every system, without an ending; letters of all languages stay.

    Args:
        otherwise: what it is called where nothing is left, and before a word that Windows keeps for itself.
    """
    plain = unicodedata.normalize("NFC", name)
    plain = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]+', "_", plain).strip(" ._")
    plain = plain.encode()[:LONGEST].decode("utf-8", "ignore").rstrip(" .")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)?", plain):
        return f"{otherwise}_{plain}".rstrip("_")
    return plain
