"""Colors and codes of structures."""

import colorsys

from dinomix.labels import Structure, Terminology


def color_for(name: str, id: int) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb((id * 0.618034) % 1, 0.65, 0.9)
    return round(r * 255), round(g * 255), round(b * 255)


def terminology_for(name: str) -> Terminology | None:
    return None


def terminology_entry(structure: Structure) -> str:
    return ""
