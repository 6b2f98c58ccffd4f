"""References and predictions drawn on the image in three planes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dinomix.cohort.case_images import read_first_image
from dinomix.cohort.cohort import Cohort
from dinomix.errors import DinomixError
from dinomix.evaluation.label_ids import read_ids
from dinomix.evaluation.references import Known, read_reference, reference_of
from dinomix.files import written_aside
from dinomix.images.formats import case_name
from dinomix.images.image_headers import is_image_path
from dinomix.images.volume import Volume
from dinomix.labels import LabelSet
from dinomix.planning.preprocessing import nearest_to_ras
from dinomix.report.figures import colors_of, new_figure, readable, small_png
from dinomix.report.run_files import RunFiles

PLANES = ("axial", "coronal", "sagittal")
SOFT_TISSUE = (-160.0, 240.0)
"""HU that are shown from black to white."""
LEGEND, LEGEND_LINES = 2.6, 16
"""Inches of a column of the legend, and names in it for each row of pictures."""


@dataclass(frozen=True)
class Overlay:
    """A held-out case: its image, and what is shown on it, in RAS axes.

    Attributes:
        image: (x, y, z) in [0, 1], as it is shown.
        rows: titles and (x, y, z) ids, the reference first where there is one.
        spacing: mm along (x, y, z).
    """

    name: str
    image: NDArray[np.float32]
    rows: tuple[tuple[str, NDArray[Any]], ...]
    spacing: tuple[float, ...]


def read_overlays(run: RunFiles, prediction: Path, reference: Path | None, most: int = 3) -> list[Overlay]:
    """The cases of a run's cohort that have a segmentation in ``prediction``, test cases first.

    Args:
        prediction: folder of segmentations named like the cases' images.
        reference: folder of labels of the same names; None for the cohort's own labels.

    Raises:
        DinomixError: no cohort, no folder, no segmentation of one of its cases, or a file that cannot be read.
    """
    cohort = run.cohort
    if cohort is None:
        raise DinomixError(f"{run.path} has no cohort that can be read.", "Leave out --prediction.")
    predictions, references = _by_case(prediction), _by_case(reference) if reference else {}
    known = Known.of_cohort(cohort, ())
    overlays: list[Overlay] = []
    for case in (*cohort.with_role("test"), *cohort.with_role("validation"), *cohort.with_role("unlabeled")):
        # Of several channels, results are named after the case rather than after one of its files.
        name = next((name for name in (case_name(case.image), case.name) if name in predictions), None)
        if name is None or len(overlays) == most:
            continue
        image = read_first_image(case.images)
        expected = None
        if name in references:
            expected = read_reference(name, references[name], cohort.labels, known, image.geometry).volume
        if expected is None and reference is None and case.label is not None:
            expected = reference_of(case, image.geometry)
        predicted = read_ids(predictions[name], cohort.labels, image.geometry)
        rows = {"Reference": expected, "Prediction": predicted}
        overlays.append(make_overlay(name + shown_on(cohort), image, rows, cohort.modality))
    if not overlays:
        raise DinomixError(
            f"{prediction} holds no segmentation of a test, validation or unlabeled case of {run.path}.",
            "Segment the images that its cohort.json names; the segmentations keep their names.",
        )
    return overlays


def shown_on(cohort: Cohort) -> str:
    """What a title adds where a case has several images: the one that is shown, the first."""
    return f", shown on {cohort.channels[0]}" if len(cohort.channels) > 1 else ""


def make_overlay(name: str, image: Volume, rows: Mapping[str, Volume | None], modality: str) -> Overlay:
    """Bring a case into RAS axes and its intensities into [0, 1]: soft tissue of CT, percentiles of MR.

    Args:
        rows: title -> label volume; a row without one is left out.
    """
    to_ras = nearest_to_ras(image.geometry)
    shown = image.array.astype(np.float32)
    low, high = SOFT_TISSUE if modality == "CT" else np.percentile(shown, (0.5, 99.5))
    spacing = tuple(image.geometry.spacing[axis] for axis in to_ras.axes)

    scaled = np.clip((shown - low) / max(high - low, 1e-6), 0, 1).transpose(2, 1, 0)
    # Where nobody labeled, nothing is drawn.
    turned = tuple(
        (title, to_ras.forward(v.array.clip(0).transpose(2, 1, 0))) for title, v in rows.items() if v is not None
    )
    return Overlay(name, to_ras.forward(scaled), turned, spacing)


def overlay_figure(
    overlay: Overlay,
    labels: LabelSet,
    dice: Mapping[str, float | None] | None = None,
    title: str = "",
    dice_before: Mapping[str, float | None] | None = None,
    front: NDArray[np.float64] | None = None,
) -> Figure:
    """The overlay's rows, columns axial, coronal, sagittal, and a legend.

    The planes go through the place where the most structures meet. The patient's right is on the left.

    Args:
        dice: name -> Dice of this case, shown in the legend.
        dice_before: the same of an earlier model, shown before it.
        front: a picture (row, column, RGBA) to show beside the planes, such as ``front_view``'s.
    """
    rows = list(overlay.rows)
    extents = [size * mm for size, mm in zip(overlay.image.shape, overlay.spacing, strict=True)]
    widths = [extents[0], extents[0], extents[1]]
    height = max(extents[1], extents[2])
    scale = 3.0 / height
    legend = LEGEND * _legend_columns(rows)
    if front is not None:
        widths.append(height * front.shape[1] / front.shape[0])
    figure = new_figure(scale * sum(widths) + legend, len(rows) * 3.0 + 0.35)
    figure.set_facecolor("#101418")
    grid = figure.add_gridspec(len(rows), len(widths) + 1, width_ratios=[*widths, legend / scale])
    at = _planes(rows[0][1]) if rows else [size // 2 for size in overlay.image.shape]
    for row, (row_name, ids) in enumerate(rows):
        for column, plane in enumerate(PLANES):
            axes = figure.add_subplot(grid[row, column])
            _draw_plane(axes, overlay, ids, labels, plane, at)
            if row == 0:
                axes.set_title(plane, color="#c9d1d9", fontsize=10)
            if column == 0:
                axes.set_ylabel(row_name, color="white", fontsize=12)
    if front is not None:
        front_axes = figure.add_subplot(grid[:, 3])
        front_axes.imshow(front)
        front_axes.axis("off")
    legend_axes = figure.add_subplot(grid[:, -1])
    legend_axes.axis("off")
    _draw_legend(legend_axes, rows, labels, dice, dice_before)
    if title:
        figure.suptitle(title, color="white", fontsize=12)
    return figure


def write_overlay_picture(
    overlay: Overlay,
    labels: LabelSet,
    out: Path,
    dice: Mapping[str, float | None] | None = None,
    title: str = "",
    dice_before: Mapping[str, float | None] | None = None,
    front: NDArray[np.float64] | None = None,
) -> None:
    """Write one overlay as a PNG, such as the picture of the README."""
    with written_aside(out) as aside:
        aside.write_bytes(small_png(overlay_figure(overlay, labels, dice, title, dice_before, front)))


def _draw_plane(axes: Axes, overlay: Overlay, ids: NDArray[Any], labels: LabelSet, plane: str, at: list[int]) -> None:
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    across, up = [a for a in (0, 1, 2) if a != axis]
    picture = np.take(overlay.image, at[axis], axis=axis).T
    structures = np.take(ids, at[axis], axis=axis).T
    width, height = picture.shape[1] * overlay.spacing[across], picture.shape[0] * overlay.spacing[up]
    # Rows go up: to the front, or to the head. Columns go to the patient's left, or from front to back.
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, origin="lower", extent=(0, width, 0, height),
                interpolation="bilinear")  # fmt: skip
    colors = colors_of(labels)
    tint = np.zeros((*structures.shape, 4))
    for structure in labels.structures:
        tint[structures == structure.id] = (*colors[structure.name], 0.32)
    axes.imshow(tint, origin="lower", extent=(0, width, 0, height), interpolation="nearest")
    x = (np.arange(structures.shape[1] + 2) - 0.5) * overlay.spacing[across]
    y = (np.arange(structures.shape[0] + 2) - 0.5) * overlay.spacing[up]
    for structure in labels.structures:
        mask = np.pad(structures == structure.id, 1).astype(float)
        if mask.any():
            axes.contour(x, y, mask, levels=[0.5], colors=[colors[structure.name]], linewidths=1.3)
    axes.set_xlim(width, 0)
    axes.set_ylim(0, height)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_legend(axes: Axes, rows: list[tuple[str, NDArray[Any]]], labels: LabelSet,
                 dice: Mapping[str, float | None] | None,
                 before: Mapping[str, float | None] | None) -> None:  # fmt: skip
    present = _present(rows)
    handles, texts = [], []
    for structure in labels.structures:
        if structure.id not in present:
            continue
        values = [table.get(structure.name) for table in (before, dice) if table]
        shown = " → ".join("-" if value is None else f"{value:.2f}" for value in values)
        color = colors_of(labels)[structure.name]
        handles.append(Line2D([], [], marker="s", linestyle="", markersize=9, color=color))
        texts.append(readable(structure.name) + (f"  {shown}" if any(value is not None for value in values) else ""))
    title = "structure and Dice of this case" + (", before → after" if before else "")
    axes.legend(handles, texts, loc="center left", frameon=False, fontsize=9, labelcolor="#e6edf3", borderaxespad=0,
                ncols=_legend_columns(rows), title=title if dice else None,
                title_fontproperties={"size": 8}, handletextpad=0.3).get_title().set_color("#9aa4af")  # fmt: skip


def _present(rows: list[tuple[str, NDArray[Any]]]) -> set[int]:
    return {int(id) for _, ids in rows for id in np.unique(ids) if id}


def _legend_columns(rows: list[tuple[str, NDArray[Any]]]) -> int:
    return max(1, math.ceil(len(_present(rows)) / (LEGEND_LINES * len(rows)))) if rows else 1


def _planes(ids: NDArray[Any]) -> list[int]:
    """Per axis the index where the most structures are cut; of those, where the smaller ones are cut widest."""
    counts = np.bincount(ids.ravel())
    present = [i for i in range(1, len(counts)) if counts[i]]
    if not present:
        return [size // 2 for size in ids.shape]
    best = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        profiles = np.stack([(ids == i).sum(axis=others) / counts[i] for i in present])
        score = (profiles > 0).sum(axis=0) + np.minimum(profiles, 0.2).sum(axis=0) / len(present)
        best.append(int(score.argmax()))
    return best


def _by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DinomixError(f"{folder} is not a folder.", "Give a folder of segmentations named like the images.")
    return {case_name(path): path for path in sorted(folder.iterdir()) if path.is_file() and is_image_path(path)}
