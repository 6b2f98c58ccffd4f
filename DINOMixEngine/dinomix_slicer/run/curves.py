"""The curves of a training run: few numbers, however long it trains, and a chart of them for Slicer's plot view."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from ..window.plot import PrivatePlot

MOST_POINTS = 400
"""Points of a curve, an even number; a plot view in a module's panel is about as many pixels wide."""
LOSS_COLORS = {
    "total": (0.25, 0.25, 0.25),
    "supervised": (0.16, 0.47, 0.71),
    "unsupervised": (0.90, 0.49, 0.13),
    "kept": (0.56, 0.36, 0.71),
    "fkd": (0.20, 0.63, 0.17),
}
SPARE_COLORS = (
    (0.12, 0.47, 0.71), (1.0, 0.50, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.40, 0.74),
    (0.55, 0.34, 0.29), (0.89, 0.47, 0.76), (0.50, 0.50, 0.50), (0.74, 0.74, 0.13), (0.09, 0.75, 0.81),
)  # fmt: skip


class Curve:
    """Values by step of several lines. When there are too many points, neighbors are averaged.

    Attributes:
        steps: of the points.
        lines: name -> values at these steps; NaN where there is none.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.lines: dict[str, list[float]] = {}
        self._stride = 1
        self._waiting: list[tuple[float, dict[str, float | None]]] = []

    def add(self, step: float, values: dict[str, float | None]) -> None:
        """Add a point; None for a line that has no value there."""
        self._waiting.append((step, values))
        if len(self._waiting) < self._stride:
            return
        names = list(dict.fromkeys(name for _step, each in self._waiting for name in each))
        self.steps.append(self._waiting[-1][0])
        for name in names:
            if name not in self.lines:
                self.lines[name] = [math.nan] * (len(self.steps) - 1)
        for name, line in self.lines.items():
            line.append(mean([each.get(name) for _step, each in self._waiting]))
        self._waiting.clear()
        if len(self.steps) == MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        self.steps = self.steps[1::2]
        self.lines = {
            name: [mean([one, other]) for one, other in zip(line[::2], line[1::2], strict=True)]
            for name, line in self.lines.items()
        }
        self._stride *= 2


def mean(values: list[float | None]) -> float:
    """The mean of those that are numbers; NaN without any."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


@dataclass(frozen=True)
class Group:
    """Lines that are shown in one chart.

    Attributes:
        title: what the user chooses it by.
        axis: what its values are.
        isFraction: whether they lie between 0 and 1.
        kind: of the events that it is made of.
        values: the lines' values in such an event; None where it has nothing to say.
    """

    name: str
    title: str
    axis: str
    isFraction: bool
    kind: str
    values: Callable[[dict[str, Any]], dict[str, float | None] | None]


def groups() -> tuple[Group, ...]:
    """What can be shown of a run, in the order in which it is offered."""
    return (
        Group("losses", _("Losses"), _("Loss"), False, "loss", _losses),
        Group("dice", _("Validation Dice"), _("Dice"), True, "validation", _validation),
        Group("pic_labeled", _("PIC: class probabilities, labeled"), _("Probability"), True, "pic", _pic("labeled")),
        Group(
            "pic_unlabeled", _("PIC: class probabilities, unlabeled"), _("Probability"), True, "pic", _pic("unlabeled")
        ),
        Group("agreement", _("Pseudo-label agreement"), _("Dice"), True, "pseudo_label", _agreement),
        Group("reliability", _("Teacher on labeled patches"), _("Dice"), True, "reliability", _reliability),
        Group("pic_boxes", _("PIC: boxes among unlabeled patches"), _("Share"), True, "pic", _boxes),
    )


class RunCurves:
    """The curves of all groups of one run.

    Attributes:
        curves: name of the group -> Curve.
    """

    def __init__(self) -> None:
        self._groups = groups()
        self.curves: dict[str, Curve] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all points."""
        self.curves = {group.name: Curve() for group in self._groups}

    def take(self, event: dict[str, Any]) -> set[str]:
        """Take an event; returns the names of the groups that have changed."""
        changed = set()
        for group in self._groups:
            if group.kind == event["kind"]:
                values = group.values(event)
                if values:
                    self.curves[group.name].add(float(event.get("step", 0)), values)
                    changed.add(group.name)
        return changed


class CurvePlot:
    """A chart of one group in a plot view: a table, a series for each line that has a value, and the chart."""

    def __init__(self, placeholder: Any) -> None:
        self._plot = PrivatePlot(placeholder)
        self._table: Any = None
        self._chart: Any = None
        self._series: dict[str, Any] = {}
        self._shown = ""

    def show(self, group: Group, curve: Curve, colors: dict[str, tuple[float, float, float]]) -> None:
        """Show a curve as it is now.

        Args:
            colors: of lines, 0 to 1; others get colors of their own.
        """
        isOther = self._shown != group.name or any(name not in curve.lines for name in self._series)
        if isOther or not self._plot.isWhole:
            self.release()
            self._begin(group)
        self._fillTable(curve)
        for name, values in curve.lines.items():
            if name not in self._series and not all(map(math.isnan, values)):
                self._addSeries(name, colors)
        isSparse = len(curve.steps) <= 30
        for series in self._series.values():
            style = series.MarkerStyleCircle if isSparse else series.MarkerStyleNone
            if series.GetMarkerStyle() != style:
                series.SetMarkerStyle(style)
        self._table.GetTable().Modified()  # the node and the plot view hear of it
        self._fitAxes(group, curve)

    @property
    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """(name, color) of each line that is shown; red, green, blue of 0 to 255."""
        return [
            (name, tuple(round(255 * value) for value in series.GetColor())) for name, series in self._series.items()
        ]

    def release(self) -> None:
        """Take the nodes out of the scene."""
        self._plot.clear()
        self._series, self._table, self._chart, self._shown = {}, None, None, ""

    # -- Inside

    def _begin(self, group: Group) -> None:
        self._shown = group.name
        self._table = self._plot.addNode("vtkMRMLTableNode", group.title)
        self._chart = self._plot.addNode("vtkMRMLPlotChartNode", group.title)
        with slicer.util.NodeModify(self._chart):
            self._chart.SetTitleVisibility(False)
            self._chart.SetXAxisTitle(_("Step"))
            self._chart.SetYAxisTitle(group.axis)
            # In the chart, it would cover the ends of the lines: see ``legend``.
            self._chart.SetLegendVisibility(False)
            self._chart.SetXAxisRangeAuto(False)
            self._chart.SetYAxisRangeAuto(False)
        self._plot.show(self._chart)

    def _fitAxes(self, group: Group, curve: Curve) -> None:
        """Slicer's automatic ranges are those of the first points: they do not follow a table that grows."""
        values = [value for name in self._series for value in curve.lines[name] if math.isfinite(value)]
        low, high = (0.0, 1.0) if group.isFraction or not values else (min(values), max(values))
        margin = 0.0 if group.isFraction else 0.05 * ((high - low) or abs(high) or 1.0)
        with slicer.util.NodeModify(self._chart):
            self._chart.SetXAxisRange(0.0, curve.steps[-1] if curve.steps else 1.0)
            self._chart.SetYAxisRange(low - margin, high + margin)

    def _addSeries(self, name: str, colors: dict[str, tuple[float, float, float]]) -> None:
        series = self._plot.addNode("vtkMRMLPlotSeriesNode", name)
        with slicer.util.NodeModify(series):
            series.SetAndObserveTableNodeID(self._table.GetID())
            series.SetPlotType(series.PlotTypeScatter)
            series.SetXColumnName("step")
            series.SetYColumnName(name)
            series.SetColor(*colors.get(name, SPARE_COLORS[len(self._series) % len(SPARE_COLORS)]))
            series.SetLineStyle(series.LineStyleSolid)
            series.SetLineWidth(2)
            series.SetMarkerSize(6)
        self._series[name] = series
        self._chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def _fillTable(self, curve: Curve) -> None:
        table = self._table.GetTable()
        # VTK cannot draw a line of one point: it is there twice.
        copies = 2 if len(curve.steps) == 1 else 1
        for name, line in (("step", curve.steps), *curve.lines.items()):
            values = line * copies
            column = table.GetColumnByName(name)
            if column is None:
                column = vtk.vtkFloatArray()
                column.SetName(name)
                column.SetNumberOfTuples(len(values))
                table.AddColumn(column)
            column.SetNumberOfTuples(len(values))
            if values:
                vtk_to_numpy(column)[:] = np.asarray(values, np.float32)
            column.Modified()


# -- What the events say


def _losses(event: dict[str, Any]) -> dict[str, float | None] | None:
    return {name: event.get(name) for name in LOSS_COLORS}


def _validation(event: dict[str, Any]) -> dict[str, float | None] | None:
    return {_("mean"): event.get("mean"), **event.get("dice", {})}


def _pic(subset: str) -> Callable[[dict[str, Any]], dict[str, float | None] | None]:
    return lambda event: event.get("probabilities") if event.get("subset") == subset else None


def _boxes(event: dict[str, Any]) -> dict[str, float | None] | None:
    if event.get("subset") != "unlabeled" or "random" not in event:
        return None
    return {_("random boxes"): event["random"], _("rare structures"): event.get("rare")}


def _agreement(event: dict[str, Any]) -> dict[str, float | None] | None:
    return event.get("agreement")


def _reliability(event: dict[str, Any]) -> dict[str, float | None] | None:
    return event.get("dice")
