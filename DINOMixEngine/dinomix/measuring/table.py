"""Measurements of many cases as one table: CSV or JSON, one row for each case and structure, units in the column names."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.files import open_file, write_json, write_text
from dinomix.labels import LabelSet
from dinomix.measuring.measurements import PERCENTILES, Measurement

ENDINGS = (".csv", ".json")
Row = dict[str, str | int | float | bool | None]


def check_table(path: Path, may_replace: bool) -> None:
    """Raises DinomixError for a file that is no table, or is there already, before anything is measured."""
    if path.suffix.lower() not in ENDINGS:
        raise DinomixError(
            f"{path} is no table that can be written.", "Give a name that ends in .csv or .json.", "output"
        )
    if path.is_dir():
        raise DinomixError(f"{path} is a folder.", "Give the name of a file, such as measurements.csv.", "output")
    if path.exists() and not may_replace:
        raise DinomixError(f"{path} exists.", "Add --overwrite to replace it, or choose another name.", "exists")


def is_table_of_measurements(path: Path) -> bool:
    """Whether a file is a table that was written here."""
    if not path.is_file():
        return False
    with open_file(path) as file:
        head = file.read(200).decode("utf-8", "replace")
    columns = list(_row("", "", None, Measurement(0, 0.0), None, None))[:4]
    return head.startswith(",".join(columns)) or all(f'"{column}"' in head for column in columns)


def rows(
    case: str, found: Mapping[str, Measurement], labels: LabelSet, modality: str | None,
    predicted_dice: Mapping[str, float | None],
) -> list[Row]:  # fmt: skip
    """One row for each structure.

    Args:
        modality: "CT" gives intensities the unit HU; others have none.
        predicted_dice: by structure, where it is known.
    """
    coded = {s.name: s.terminology.type.value for s in labels.structures if s.terminology is not None}
    return [
        _row(case, name, coded.get(name), measurement, modality, predicted_dice.get(name))
        for name, measurement in found.items()
    ]


def _row(
    case: str, name: str, code: str | None, measurement: Measurement, modality: str | None, predicted_dice: float | None
) -> Row:
    unit = "_HU" if modality == "CT" else ""
    extent, center, of_image = measurement.extent, measurement.center, measurement.intensities
    row: Row = {
        "case": case,
        "structure": name,
        "code": code,
        "voxels": measurement.voxels,
        "volume_ml": measurement.volume,
        "components": measurement.components,
        "touches_edge_of_image": measurement.at_edge,
        "predicted_dice": predicted_dice,
    }
    for axis, letter in enumerate("RAS"):
        row[f"extent_{letter}_mm"] = extent[axis] if extent else None
    for axis, letter in enumerate("RAS"):
        row[f"center_{letter}_mm"] = center[axis] if center else None
    for key in ("mean", "deviation", "lowest", "highest"):
        row[f"intensity_{key}{unit}"] = getattr(of_image, key) if of_image else None
    for number, percent in enumerate(PERCENTILES):
        row[f"intensity_p{percent:02d}{unit}"] = of_image.percentiles[number] if of_image else None
    return row


def write_table(path: Path, of_cases: list[Row]) -> None:
    """Write rows, whose columns are the same; JSON holds a list of objects, CSV leaves empty what does not exist."""
    if path.suffix.lower() == ".json":
        write_json(path, of_cases)
        return
    text = io.StringIO()
    columns = dict.fromkeys(key for row in of_cases for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in of_cases)
    write_text(path, text.getvalue())


def _cell(value: str | int | float | bool | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
