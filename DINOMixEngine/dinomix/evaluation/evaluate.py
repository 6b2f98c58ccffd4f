"""Folders of segmentations compared with folders of references: ``metrics.json``, a CSV beside it and a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dinomix.errors import DinomixError
from dinomix.evaluation import dhc_compat, strict
from dinomix.evaluation.one_grid import read_pair
from dinomix.evaluation.references import ALL_KNOWN, Known, Reference
from dinomix.events import Emit, Progress, silent
from dinomix.files import write_json, write_text
from dinomix.images.dicom_drawn import drawn_in
from dinomix.images.formats import ENDINGS, REGIONS, case_name
from dinomix.images.image_headers import is_image_path
from dinomix.images.masks import mask_folders_in, masks_in_case
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet
from dinomix.names import listed

Protocol = Literal["strict", "dhc-compat"]
DEFAULT_TOLERANCE = 1.0
"""Of NSD, in mm, for every class that has none of its own: about a voxel of a good CT."""
METRICS = ("dice", "nsd", "hd95", "asd")


def evaluate_folders(
    prediction: Path,
    reference: Path,
    labels: LabelSet,
    *,
    protocol: Protocol = "strict",
    out: Path | None = None,
    tolerance: float | Mapping[str, float] = DEFAULT_TOLERANCE,
    order: Sequence[str] = (),
    known: Known = ALL_KNOWN,
    emit: Emit = silent,
) -> dict[str, Any]:
    """Compare every file of ``reference`` with the file of the same case name in ``prediction``.

    Args:
        tolerance: of NSD in mm, for all classes, or class name -> mm (the others take 1 mm). Protocol `strict` only.
        order: names of structures; where a file has several in one voxel, the later one wins.
        known: what is not drawn or labeled in the references, which is not counted. Protocol `strict` only.
        out: where to write ``metrics.json``; the CSV gets the same name with the ending .csv. None writes nothing.

    Returns:
        What ``metrics.json`` holds: ``protocol``, ``units``, ``classes``, ``regions`` (where the labels have such), ``mean``,
        ``cases`` (case -> class or region -> values); None stands for what does not exist, so that there is never a NaN.
        `strict` adds ``tolerance_mm``.

    Raises:
        DinomixError: a prediction is missing or lies on another grid; a file holds labels that are not in ``labels``. Where
            other cases were compared before it, the rest is compared and ``out`` written first, with the sentences of those
            that failed under ``failed``.
    """
    pairs = pair_cases(prediction, reference, emit)
    return evaluate_pairs(
        pairs, labels, protocol=protocol, out=out, tolerance=tolerance, order=order, known=known, emit=emit
    )


def evaluate_pairs(
    pairs: Mapping[str, tuple[Path, Path]],
    labels: LabelSet,
    *,
    protocol: Protocol = "strict",
    out: Path | None = None,
    tolerance: float | Mapping[str, float] = DEFAULT_TOLERANCE,
    order: Sequence[str] = (),
    compat_size: tuple[int, int, int] = dhc_compat.SIZE,
    known: Known = ALL_KNOWN,
    emit: Emit = silent,
) -> dict[str, Any]:
    """As ``evaluate_folders``, for case name -> (prediction, reference).

    Args:
        compat_size: the resized grid of `dhc-compat`, voxels along (i, j, k); a prediction may lie on it already.
    """
    tolerances = _tolerances(tolerance, labels)
    progress = Progress(emit, f"evaluate {protocol}", len(pairs))
    cases: dict[str, Any] = {}
    failed: dict[str, DinomixError] = {}
    for done, (name, (predicted_path, reference_path)) in enumerate(pairs.items(), start=1):
        try:
            predicted, reference = read_pair(name, predicted_path, reference_path, labels, known, order)
            if protocol == "strict" or predicted.geometry.size != compat_size:
                _refuse_other_grid(predicted, predicted_path, reference.volume, reference_path)
            if protocol == "strict":
                cases[name] = strict.case_metrics(predicted, reference, labels, tolerances)
            else:
                _refuse_open(reference, reference_path, protocol)
                cases[name] = dhc_compat.case_metrics(predicted, reference.volume, labels, compat_size)
        except DinomixError as error:
            if not cases:
                raise  # nothing is lost yet, and what is wrong with the first case often is with all
            failed[name] = error
        progress(done)
    metrics = summarized(cases, labels, protocol, tolerances)
    if failed:
        metrics["failed"] = {name: str(error) for name, error in failed.items()}
    if out is not None:
        write_metrics(metrics, out)
    if failed:
        raise _some_failed(list(failed.values()), len(pairs), out)
    return metrics


def summarized(
    cases: Mapping[str, Any], labels: LabelSet, protocol: Protocol, tolerances: Mapping[str, float]
) -> dict[str, Any]:
    """The whole of ``metrics.json`` from the metrics of each case."""
    if protocol == "strict":
        head: dict[str, Any] = {"protocol": protocol, "units": strict.UNITS, "tolerance_mm": dict(tolerances)}
        return {**head, **strict.summary(cases, labels), "cases": dict(cases)}
    return {
        "protocol": protocol,
        "units": dhc_compat.UNITS,
        **dhc_compat.summary(cases, labels),
        "cases": dict(cases),
    }


def pair_cases(prediction: Path, reference: Path, emit: Emit = silent) -> dict[str, tuple[Path, Path]]:
    """Case name -> (prediction, reference), sorted by name; the files' endings may differ.

    Raises DinomixError when a folder is missing or empty, a case has two files, or a reference has no prediction.
    """
    predictions, references = _files_by_case(prediction), _files_by_case(reference)
    missing = [name for name in references if name not in predictions]
    if missing:
        raise DinomixError(
            f"{prediction} has no segmentation of {listed(missing)}, which {reference} holds.",
            "Segment every case, or keep only the references to compare with in a folder of their own.",
        )
    extra = [name for name in predictions if name not in references]
    if extra:
        emit("notice", message=f"There is no reference of {listed(extra)} in {reference}; left out.")
    return {name: (predictions[name], references[name]) for name in references}


def write_metrics(metrics: dict[str, Any], out: Path) -> None:
    """Write ``metrics.json`` and the CSV beside it, one line per case and class."""
    write_text(out.with_suffix(".csv"), cases_csv(metrics))
    write_json(out, metrics)


def cases_csv(metrics: Mapping[str, Any]) -> str:
    """One line per case and class; empty where there is no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "case", "class", *METRICS, "status"])
    for case, classes in metrics["cases"].items():
        for name, values in classes.items():
            cells = ["" if values[metric] is None else f"{values[metric]:.6f}" for metric in METRICS]
            writer.writerow([metrics["protocol"], case, name, *cells, values["status"]])
    return text.getvalue()


def table(metrics: Mapping[str, Any]) -> str:
    """The means per class and over classes, and below them those of regions, for a terminal."""
    heads = _STRICT_HEADS if metrics["protocol"] == "strict" else _COMPAT_HEADS
    rows = [["", *heads.values()]]
    for name, values in [*metrics["classes"].items(), ("mean", metrics["mean"]), *metrics.get("regions", {}).items()]:
        rows.append([name, *(_cell(values[column]) for column in heads)])
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


_COUNTS = {"n": "n", "missed": "missed", "false_positive": "false pos."}
_STRICT_HEADS = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 mm", "asd": "ASD mm", **_COUNTS}
_COMPAT_HEADS = {"dice": "Dice %", "asd": "ASD voxels", **_COUNTS}


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _files_by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DinomixError(f"{folder} is not a folder.", "Give a folder with one label file per case.")
    by_case: dict[str, Path] = {}
    files = {p for p in folder.iterdir() if p.is_file() and is_image_path(p)}
    named = [(case_name(path), path) for path in sorted(files.union(drawn_in(folder)))]
    with_masks = {path.name: masks for path in sorted(folder.iterdir()) if (masks := masks_in_case(path)) is not None}
    with_masks |= {path.name: path for path in mask_folders_in(folder) if path.name not in with_masks}
    # Masks of regions lie beside the labels that they were made of.
    of_regions = {name + REGIONS for name, _path in named}
    for name, path in [*named, *((name, path) for name, path in with_masks.items() if name not in of_regions)]:
        if name in by_case:
            raise DinomixError(
                f"{folder} holds two files of case {name}: {by_case[name].name} and {path.name}.", "Keep one of them."
            )
        by_case[name] = path
    if not by_case:
        raise DinomixError(
            f"{folder} holds no label files.",
            f"Give a folder with one file per case ({', '.join(ENDINGS)}), or a folder of masks per case.",
        )
    return by_case


def _refuse_other_grid(predicted: Volume, predicted_path: Path, expected: Volume, reference_path: Path) -> None:
    difference = predicted.geometry.difference(expected.geometry)
    if difference:
        raise DinomixError(
            f"{predicted_path} and {reference_path} lie on different grids: {difference}.",
            "Segment the image that the reference was drawn on, or resample the prediction to the reference's grid.",
        )


def _refuse_open(reference: Reference, path: Path, protocol: Protocol) -> None:
    if reference.unlabeled is not None or reference.not_drawn:
        raise DinomixError(
            f"{path} leaves open what some voxels are, which the protocol {protocol} does not know.",
            "Take --protocol strict.",
        )


def _some_failed(failed: Sequence[DinomixError], cases: int, out: Path | None) -> DinomixError:
    """The first error, how many more there are, and where the results of the other cases are."""
    more = f" So it is with {len(failed) - 1} more." if len(failed) > 1 else ""
    kept = f" {cases - len(failed)} of {cases} cases were compared; they are in {out}." if out is not None else ""
    return DinomixError(f"{failed[0].problem}{more}{kept}", failed[0].remedy, failed[0].code)


def _tolerances(tolerance: float | Mapping[str, float], labels: LabelSet) -> dict[str, float]:
    names = list(strict.classes_of(labels))
    given = dict(tolerance) if isinstance(tolerance, Mapping) else dict.fromkeys(names, float(tolerance))
    unknown = [name for name in given if name not in names]
    if unknown:
        raise DinomixError(
            f"There is no structure {listed(unknown)} to set a tolerance for.",
            f"Choose among {', '.join(names)}.",
        )
    if any(not np.isfinite(mm) or mm < 0 for mm in given.values()):
        raise DinomixError("The tolerance of NSD is a distance in mm, zero or more.", "Give a number such as 1.")
    return {name: given.get(name, DEFAULT_TOLERANCE) for name in names}
