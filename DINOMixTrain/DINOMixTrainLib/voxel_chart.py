"""A bar chart of how many voxels of each structure there are, in Slicer's plot view."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from dinomix_slicer.window.plot import PrivatePlot

from .study import Color

MOST_IN_LEGEND = 14
LETTER, SYMBOL, AXIS = 6, 45, 60
"""Pixels: of a letter in the legend, of a color in it with its margins, and of the vertical axis."""
LEAST_WIDTH = 400
"""Pixels that the chart has at least."""
LEAST_BARS = 0.3
"""Of the chart's width."""


class VoxelChart:
    """The chart's nodes: a table of one row, and a series for each structure."""

    def __init__(self, placeholder: Any) -> None:
        self._plot = PrivatePlot(placeholder)
        self._shown: object = None

    def show(self, voxels: Mapping[str, int], colors: Mapping[str, Color]) -> None:
        """Show the voxels of structures, in this order; ``colors`` are 0 to 255."""
        shown = (dict(voxels), dict(colors))
        if shown == self._shown and (self._plot.isWhole or not voxels):
            return
        self.clear()
        self._shown = shown
        if voxels:
            self._make(voxels, colors)

    def clear(self) -> None:
        """Remove the nodes."""
        self._plot.clear()
        self._shown = None

    def _make(self, voxels: Mapping[str, int], colors: Mapping[str, Color]) -> None:
        table = self._plot.addNode("vtkMRMLTableNode", _("Voxels of structures"))
        chart = self._plot.addNode("vtkMRMLPlotChartNode", _("Voxels of structures"))
        highest = max(map(height, voxels.values()))
        with slicer.util.NodeModify(chart):
            for number, (name, count) in enumerate(voxels.items()):
                table.AddColumn(columnOf(name, count))
                color = colors.get(name) or [
                    255 * part for part in colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.6, 0.85)
                ]
                chart.AddAndObservePlotSeriesNodeID(self._addSeries(name, count, table, color).GetID())
            describe(chart, highest, self._shareOfBars([titleOf(name, count) for name, count in voxels.items()]))
        self._plot.show(chart)

    def _addSeries(self, name: str, count: int, table: Any, color: Sequence[float]) -> Any:
        series = self._plot.addNode("vtkMRMLPlotSeriesNode", titleOf(name, count))
        with slicer.util.NodeModify(series):
            series.SetAndObserveTableNodeID(table.GetID())
            series.SetPlotType(series.PlotTypeBar)
            series.SetYColumnName(name)
            series.SetColor(*(part / 255 for part in color))
        return series

    def _shareOfBars(self, titles: list[str]) -> float:
        """Of the chart's width, what the legend beside them leaves to the bars; 1 without a legend."""
        if len(titles) > MOST_IN_LEGEND:
            return 1.0
        view = self._plot.view
        # Before it is shown, it has not got its width yet.
        width = (max(view.width, LEAST_WIDTH) if view.isVisible() else LEAST_WIDTH) - AXIS
        return max(LEAST_BARS, 1 - (max(map(len, titles)) * LETTER + SYMBOL) / width)


def titleOf(name: str, count: int) -> str:
    """A structure in the legend."""
    return _("{name}: {voxels}").format(name=name, voxels=f"{count:,}")


def height(count: int) -> float:
    """Of a bar: VTK draws bars on linear axes only, so the logarithm is taken here."""
    return math.log10(count) if count > 1 else 0.0


def columnOf(name: str, count: int) -> Any:
    """A column with one value."""
    column = vtk.vtkFloatArray()
    column.SetName(name)
    column.InsertNextValue(height(count))
    return column


def describe(chart: Any, highest: float, shareOfBars: float) -> None:
    """Axes and legend. Bars of one row stand side by side around 0 on the horizontal axis, whose numbers mean nothing."""
    chart.SetTitleVisibility(False)
    chart.SetXAxisTitleVisibility(False)
    chart.SetYAxisTitle(_("Voxels (logarithmic)"))
    chart.SetLegendVisibility(shareOfBars < 1)
    chart.SetGridVisibility(False)
    # The legend says the numbers.
    chart.SetAxisLabelFontSize(1)
    chart.SetAxisTitleFontSize(12)
    chart.SetXAxisRangeAuto(False)
    chart.SetXAxisRange(-0.43, -0.43 + 0.86 / shareOfBars)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0, max(1.0, highest * 1.08))
