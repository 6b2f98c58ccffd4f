"""Label sets of models from elsewhere: names, and codes where the model brings them."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from dinomix.errors import DinomixError, reason_of
from dinomix.files import open_file
from dinomix.labels import LabelSet, Structure
from dinomix.terminology import Code, Terminology, color_for, terminology_for

LARGEST_TABLE = 10**7
_CATEGORY = "SegmentedPropertyCategoryCodeSequence"
_TYPE = "SegmentedPropertyTypeCodeSequence"
_MODIFIER = "SegmentedPropertyTypeModifierCodeSequence"


def labels_from_names(names: dict[int, str], channels: int, source: Path) -> LabelSet:
    """A label set for a network of ``channels`` outputs, of which 0 is the background.

    Args:
        names: channel -> name; a channel without one is called "structure k".

    Raises:
        DinomixError: there are more names than channels.
    """
    _check_count(names, channels, source)
    return LabelSet.from_names(_unique({k: names.get(k) or f"structure {k}" for k in range(1, channels)}))


def read_labels_csv(path: Path, channels: int) -> LabelSet:
    """``labels.csv`` of the models for the extension MONAIAuto3DSeg: value, name, and DICOM codes in columns.

    Raises:
        DinomixError: it is no such table, or names more values than the network has channels.
    """
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise ValueError(f"it is larger than {LARGEST_TABLE / 1e6:g} MB")
        with io.TextIOWrapper(open_file(path), newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("LabelValue") or "").strip()]
        by_value = {int(row["LabelValue"]): row for row in rows}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DinomixError(
            f"{path} is not a table of labels ({reason_of(error)}).", "It needs the columns LabelValue and Name."
        ) from error
    by_value.pop(0, None)
    _check_count(by_value, channels, path)
    names = _unique({k: _name(by_value.get(k, {}), k) for k in range(1, channels)})
    structures = []
    for value, name in names.items():
        row = by_value.get(value, {})
        codes = _terminology(row) or terminology_for(name)
        structures.append(
            Structure(id=value, name=name, color=color_for(_known_name(name, codes), value), terminology=codes)
        )
    return LabelSet(structures=tuple(structures))


def _check_count(names: Iterable[int], channels: int, source: Path) -> None:
    if beyond := [value for value in names if not 0 <= value < channels]:
        raise DinomixError(
            f"{source} names the value {beyond[0]}, but the network has {channels} output channels.",
            "Check that labels and weights belong together.",
        )


def _name(row: dict[str, str], value: int) -> str:
    return (row.get("Name") or row.get(f"{_TYPE}.CodeMeaning") or "").strip() or f"structure {value}"


def _known_name(name: str, codes: Terminology | None) -> str:
    """The name under which a structure has a color: its own, or what its codes mean."""
    if codes is None or terminology_for(name) is not None:
        return name
    return f"{codes.type.meaning} {codes.modifier.meaning}" if codes.modifier else codes.type.meaning


def _terminology(row: dict[str, str]) -> Terminology | None:
    category, kind = _code(row, _CATEGORY), _code(row, _TYPE)
    return Terminology(category=category, type=kind, modifier=_code(row, _MODIFIER)) if category and kind else None


def _code(row: dict[str, str], field: str) -> Code | None:
    scheme, value, meaning = (
        (row.get(f"{field}.{part}") or "").strip() for part in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
    return Code(scheme=scheme, value=value, meaning=meaning) if scheme and value else None


def _unique(names: dict[int, str]) -> dict[int, str]:
    """Names with a number where two are the same, since a label set tells structures by their names."""
    seen: set[str] = set()
    unique = {}
    for value, name in names.items():
        unique[value] = name if name not in seen else f"{name} {value}"
        seen.add(unique[value])
    return unique
