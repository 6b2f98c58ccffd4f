"""``slicer.qMRMLPlotView``: the chart that a plot view node shows, drawn by VTK without a screen."""

from typing import ClassVar

import numpy as np
import qt
import shiboken6
import slicer
import vtk
from PySide6 import QtCore

from host.offscreen import offscreenWindow, pictureOf
from host.qmrml.watching import NodeWatch, inScene
from host.qmrml.widget import checkedScene
from host.qt.hosted import hosted

SERIES = slicer.vtkMRMLPlotSeriesNode
LINE_TYPES = {
    SERIES.LineStyleNone: vtk.vtkPen.NO_PEN,
    SERIES.LineStyleSolid: vtk.vtkPen.SOLID_LINE,
    SERIES.LineStyleDash: vtk.vtkPen.DASH_LINE,
    SERIES.LineStyleDot: vtk.vtkPen.DOT_LINE,
    SERIES.LineStyleDashDot: vtk.vtkPen.DASH_DOT_LINE,
    SERIES.LineStyleDashDotDot: vtk.vtkPen.DASH_DOT_DOT_LINE,
}
MARKERS = {
    SERIES.MarkerStyleNone: vtk.vtkPlotPoints.NONE,
    SERIES.MarkerStyleCross: vtk.vtkPlotPoints.CROSS,
    SERIES.MarkerStylePlus: vtk.vtkPlotPoints.PLUS,
    SERIES.MarkerStyleSquare: vtk.vtkPlotPoints.SQUARE,
    SERIES.MarkerStyleCircle: vtk.vtkPlotPoints.CIRCLE,
    SERIES.MarkerStyleDiamond: vtk.vtkPlotPoints.DIAMOND,
}


@hosted
class qMRMLPlotView(qt.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)
    cppSignals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None
        self._viewNode = None
        self._chart = vtk.vtkChartXY()
        self._window = None
        self._picture = None  # drawn anew when it is None
        self.setMinimumSize(200, 150)
        self.sizePolicy = qt.QSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Expanding)
        self._watch = NodeWatch(self._refresh)
        watch = self._watch
        self.connect("destroyed()", lambda: watch.stop())

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = checkedScene(scene)
            self.setMRMLPlotViewNode(None)
            self.mrmlSceneChanged.emit(scene)

    def mrmlPlotViewNode(self):
        return self._viewNode

    def setMRMLPlotViewNode(self, node) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLPlotViewNode):
            raise TypeError(f"setMRMLPlotViewNode() takes a plot view node or None, not {node!r}")
        self._viewNode = node
        self._refresh()

    def chart(self) -> "vtk.vtkChartXY":
        return self._chart

    def fitToContent(self) -> None:
        self._chart.RecalculateBounds()
        self._picture = None
        self.update()

    def _refresh(self) -> None:
        """Take over what the nodes say now; drawn when it is next painted."""
        if not shiboken6.isValid(self):
            self._watch.stop()
            return
        self._viewNode = inScene(self._viewNode)
        chartNode = self._viewNode.GetPlotChartNode() if self._viewNode is not None else None
        series = seriesOf(chartNode)
        self._watch.setObjects(self._viewNode, chartNode, *series, *(node.GetTableNode() for node in series))
        self._chart.ClearPlots()
        if chartNode is not None:
            showTexts(self._chart, chartNode)
            for node in series:
                addPlot(self._chart, node)
            showAxes(self._chart, chartNode)
        self._picture = None
        self.update()

    def _draw(self) -> np.ndarray:
        if self._window is None:
            self._window = offscreenWindow()
            renderer = vtk.vtkRenderer()
            renderer.SetBackground(1, 1, 1)
            self._window.AddRenderer(renderer)
            actor = vtk.vtkContextActor()
            renderer.AddActor(actor)
            actor.GetScene().SetRenderer(renderer)
            actor.GetScene().AddItem(self._chart)
        return pictureOf(self._window, max(self.width, 1), max(self.height, 1))

    def paintEvent(self, event: QtCore.QEvent) -> None:
        if self._picture is None or self._picture.shape[:2] != (self.height, self.width):
            self._picture = np.ascontiguousarray(self._draw())
        rows, columns, _ = self._picture.shape
        image = qt.QImage(self._picture.data, columns, rows, 3 * columns, qt.QImage.Format_RGB888)
        painter = qt.QPainter(self)
        painter.drawImage(0, 0, image)
        painter.end()


def seriesOf(chartNode) -> list:
    """The series of a chart that are in the scene."""
    if chartNode is None:
        return []
    series = [chartNode.GetNthPlotSeriesNode(index) for index in range(chartNode.GetNumberOfPlotSeriesNodes())]
    return [node for node in series if node is not None]


def addPlot(chart: "vtk.vtkChartXY", series: "slicer.vtkMRMLPlotSeriesNode") -> None:
    """Add one series, unless its table does not have its columns yet."""
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    x, y = series.GetXColumnName(), series.GetYColumnName()
    needsX = series.IsXColumnRequired()
    if (
        table is None
        or not y
        or table.GetColumnByName(y) is None
        or (needsX and table.GetColumnByName(x or "") is None)
    ):
        return
    isBar = series.GetPlotType() in (SERIES.PlotTypeBar, SERIES.PlotTypeScatterBar)
    plot = chart.AddPlot(vtk.vtkChart.BAR if isBar else vtk.vtkChart.LINE)
    plot.SetUseIndexForXSeries(not needsX)
    plot.SetInputData(table, x if needsX else y, y)
    plot.SetColorF(*series.GetColor())
    plot.SetWidth(series.GetLineWidth())
    plot.SetLabel(series.GetName() or y)
    plot.GetPen().SetOpacityF(series.GetOpacity())
    if not isBar:
        plot.GetPen().SetLineType(LINE_TYPES[series.GetLineStyle()])
        plot.SetMarkerStyle(MARKERS[series.GetMarkerStyle()])
        plot.SetMarkerSize(series.GetMarkerSize())


def showTexts(chart: "vtk.vtkChartXY", node: "slicer.vtkMRMLPlotChartNode") -> None:
    chart.SetTitle(node.GetTitle() or "" if node.GetTitleVisibility() else "")
    chart.SetShowLegend(bool(node.GetLegendVisibility()))
    titles = (
        (vtk.vtkAxis.BOTTOM, node.GetXAxisTitle() if node.GetXAxisTitleVisibility() else ""),
        (vtk.vtkAxis.LEFT, node.GetYAxisTitle() if node.GetYAxisTitleVisibility() else ""),
    )
    for axis, title in titles:
        chart.GetAxis(axis).SetTitle(title or "")
        chart.GetAxis(axis).SetGridVisible(bool(node.GetGridVisibility()))
        chart.GetAxis(axis).GetTitleProperties().SetFontSize(node.GetAxisTitleFontSize())
        chart.GetAxis(axis).GetLabelProperties().SetFontSize(node.GetAxisLabelFontSize())


def showAxes(chart: "vtk.vtkChartXY", node: "slicer.vtkMRMLPlotChartNode") -> None:
    """Ranges as the node fixes them, else so that everything is seen."""
    chart.GetAxis(vtk.vtkAxis.BOTTOM).SetLogScale(bool(node.GetXAxisLogScale()))
    chart.GetAxis(vtk.vtkAxis.LEFT).SetLogScale(bool(node.GetYAxisLogScale()))
    ranges = (
        (vtk.vtkAxis.BOTTOM, node.GetXAxisRangeAuto(), node.GetXAxisRange()),
        (vtk.vtkAxis.LEFT, node.GetYAxisRangeAuto(), node.GetYAxisRange()),
    )
    for axis, isAutomatic, limits in ranges:
        chart.GetAxis(axis).SetBehavior(vtk.vtkAxis.AUTO if isAutomatic else vtk.vtkAxis.FIXED)
        if not isAutomatic:
            chart.GetAxis(axis).SetRange(*limits)
    chart.RecalculateBounds()
