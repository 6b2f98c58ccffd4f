"""What structures are called in SNOMED CT, and the colors they are drawn in: the table ``structures.json``.

A row of the table holds the names that a structure goes by (compared with ``normalized_name``), its type code, where
it has one a modifier, a color, ``sides`` where a left and a right one exist, and ``general_anatomy`` where Slicer's own
list of general anatomy has the type. All codes are SNOMED CT codes as DICOM uses them (scheme "SCT").
"""

import colorsys
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dinomix.files import read_json
from dinomix.names import normalized_name


class Code(BaseModel):
    """One coded concept, e.g. SCT 10200004 "Liver"."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    scheme: str
    value: str
    meaning: str


class Terminology(BaseModel):
    """What Slicer and DICOM SEG call a segment: category, type and, where there are two sides, the side."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    category: Code
    type: Code
    modifier: Code | None = None


GENERAL_ANATOMY = "Segmentation category and type - 3D Slicer General Anatomy list"
DICOM_MASTER = "Segmentation category and type - DICOM master list"
REGIONS = "Anatomic codes - DICOM master list"
ANATOMY = Code(scheme="SCT", value="123037004", meaning="Anatomical Structure")
TISSUE = Code(scheme="SCT", value="85756007", meaning="Tissue")
_NO_TYPE = (TISSUE.value, "T-D0050")
"""Tissue of no particular kind, in SNOMED CT and as older files have it."""
SIDES = {
    "left": Code(scheme="SCT", value="7771000", meaning="Left"),
    "right": Code(scheme="SCT", value="24028007", meaning="Right"),
}


def terminology_for(name: str) -> Terminology | None:
    """The codes of a structure by any of its names ("kidney_right", "Right Kidney"); None for an unknown name."""
    row = _rows().get(normalized_name(name))
    return row[0] if row else None


def color_for(name: str, id: int) -> tuple[int, int, int]:
    """RGB in 0..255: the table's color of a known structure, else one of a sequence in which neighbors differ well."""
    row = _rows().get(normalized_name(name))
    if row:
        return row[1]
    # Steps of the golden ratio around the hue circle never come close to a recent color again.
    red, green, blue = colorsys.hsv_to_rgb(id * 0.618034 % 1, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def terminology_entry(terminology: Terminology | None) -> str:
    """Slicer's text for a segment's ``TerminologyEntry`` tag.

    It is context~category~type~modifier~regionContext~region~regionModifier, each code scheme^value^meaning.

    A structure without codes gets what Slicer itself gives to an unknown segment: tissue of no particular kind.
    """
    codes = terminology or Terminology(category=TISSUE, type=TISSUE)
    context = GENERAL_ANATOMY if _in_general_anatomy(codes) else DICOM_MASTER
    parts = [context, *(_triplet(c) for c in (codes.category, codes.type, codes.modifier)), REGIONS, "^^", "^^"]
    return "~".join(parts)


def terminology_of(entry: str) -> Terminology | None:
    """The codes of a text as ``terminology_entry`` writes it; None where it has none, or says tissue of no particular kind."""
    codes = [_code_of(part) for part in entry.split("~")[1:4]]
    if len(codes) < 2 or codes[0] is None or codes[1] is None or codes[1].value in _NO_TYPE:
        return None
    return Terminology(category=codes[0], type=codes[1], modifier=codes[2] if len(codes) > 2 else None)


def _code_of(triplet: str) -> Code | None:
    scheme, _, rest = triplet.partition("^")
    value, _, meaning = rest.partition("^")
    return Code(scheme=scheme, value=value, meaning=meaning) if scheme and value else None


def _triplet(code: Code | None) -> str:
    return f"{code.scheme}^{code.value}^{code.meaning}" if code else "^^"


def _in_general_anatomy(codes: Terminology) -> bool:
    known = {row[0].type.value for row in _rows().values() if row[2]} | {TISSUE.value}
    sides = {None, *(side.value for side in SIDES.values())}
    return codes.type.value in known and (codes.modifier.value if codes.modifier else None) in sides


@lru_cache(maxsize=1)
def _rows() -> dict[str, tuple[Terminology, tuple[int, int, int], bool]]:
    """normalized name -> codes, color, whether Slicer's general anatomy has it."""
    rows: dict[str, tuple[Terminology, tuple[int, int, int], bool]] = {}
    table = read_json(Path(__file__).with_name("structures.json"))
    for entry in table["structures"]:
        plain = Terminology(
            category=_code(entry["category"]) if "category" in entry else ANATOMY,
            type=_code(entry["type"]),
            modifier=_code(entry["modifier"]) if "modifier" in entry else None,
        )
        red, green, blue = entry["color"]
        general = bool(entry.get("general_anatomy"))
        for name in entry["names"]:
            rows[normalized_name(name)] = (plain, (red, green, blue), general)
            for side, code in SIDES.items() if entry.get("sides") else ():
                sided = plain.model_copy(update={"modifier": code})
                color = (red, green, blue) if side == "right" else _lighter(red, green, blue)
                rows[normalized_name(f"{name} {side}")] = (sided, color, general)
    return rows


def _code(pair: list[str]) -> Code:
    return Code(scheme="SCT", value=pair[0], meaning=pair[1])


def _lighter(*rgb: int) -> tuple[int, int, int]:
    """A left structure is drawn lighter than the right one, so that the two can be told apart in one picture."""
    red, green, blue = (round(value + (255 - value) * 0.4) for value in rgb)
    return red, green, blue
