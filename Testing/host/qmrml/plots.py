"""``slicer.qMRMLPlotView``: the chart that a plot view node shows, drawn by VTK without a screen."""

import weakref
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import qt
import shiboken6
import slicer
import vtk
from PySide6 import QtCore

from host.offscreen import offscreenWindow, pictureOf
from host.qmrml.widget import checkedScene
from host.qt.hosted import hosted, qtProperty

SCENE = slicer.vtkMRMLScene
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
class ctkVTKChartView(qt.QWidget):
    """A widget that VTK draws a chart in."""

    title = qtProperty(
        "QString", lambda self: self._chart.GetTitle() or "", lambda self, value: self._chart.SetTitle(value)
    )

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._chart = vtk.vtkChartXY()
        self._actor = vtk.vtkContextActor()
        self._actor.GetScene().AddItem(self._chart)
        self._window = None
        self._picture = None  # drawn anew when it is None

    def chart(self) -> "vtk.vtkChartXY":
        return self._chart

    def scene(self) -> "vtk.vtkContextScene":
        return self._actor.GetScene()

    def renderWindow(self) -> "vtk.vtkRenderWindow":
        if self._window is None:
            self._window = offscreenWindow()
            renderer = vtk.vtkRenderer()
            renderer.SetBackground(1, 1, 1)
            self._window.AddRenderer(renderer)
            renderer.AddActor(self._actor)
            self._actor.GetScene().SetRenderer(renderer)
        return self._window

    def addPlot(self, plot: "vtk.vtkPlot") -> None:
        self._chart.AddPlot(plot)

    def removePlot(self, plot: "vtk.vtkPlot") -> None:
        if self.plotIndex(plot) >= 0:
            self._chart.RemovePlot(self.plotIndex(plot))

    def plotIndex(self, plot: "vtk.vtkPlot") -> int:
        plots = [self._chart.GetPlot(index) for index in range(self._chart.GetNumberOfPlots())]
        return plots.index(plot) if plot in plots else -1

    def removeAllPlots(self) -> None:
        while self._chart.GetNumberOfPlots():
            self.removePlot(self._chart.GetPlot(0))

    def _drawAgain(self) -> None:
        self.scene().SetDirty(True)
        self._picture = None
        self.update()

    def paintEvent(self, event: QtCore.QEvent) -> None:
        if self._picture is None or self._picture.shape[:2] != (self.height, self.width):
            picture = pictureOf(self.renderWindow(), max(self.width, 1), max(self.height, 1))
            self._picture = np.ascontiguousarray(picture)
        rows, columns, _ = self._picture.shape
        image = qt.QImage(self._picture.data, columns, rows, 3 * columns, qt.QImage.Format_RGB888)
        painter = qt.QPainter(self)
        painter.drawImage(0, 0, image)
        painter.end()


@hosted
class qMRMLPlotView(ctkVTKChartView):
    """Follows the same events as Slicer's, and like it knows no more of a scene or a node that it was given.

    Without a view node it draws nothing anew: what it showed stays. Automatic ranges of the axes are those that the chart had
    when its plots were added, until ``fitToContent``.
    """

    mrmlSceneChanged = QtCore.Signal(object)
    cppSignals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._chart.GetBackgroundBrush().SetColor(255, 253, 246, 255)
        for number in range(4):
            self._chart.GetAxis(number).GetTitleProperties().SetBold(False)
        self._scene = None
        self._viewNode = vtk.vtkWeakReference()
        self._chartNode = vtk.vtkWeakReference()
        self._seriesOfPlots: dict[vtk.vtkPlot, str] = {}
        self._observed: list[tuple] = []
        observed = self._observed
        self.connect("destroyed()", lambda: stopObserving(observed))

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize()

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        self._scene = checkedScene(scene)
        self._followChart()
        node = self._viewNode.Get()
        if node is not None and node.GetScene() is not scene:
            self.setMRMLPlotViewNode(None)
        self.mrmlSceneChanged.emit(scene)

    def setMRMLPlotViewNode(self, node) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLPlotViewNode):
            raise TypeError(f"setMRMLPlotViewNode() takes a plot view node or None, not {node!r}")
        if node is not self._viewNode.Get():
            self._viewNode.Set(node)
            self._followChart()

    def fitToContent(self) -> None:
        """Fit all axes to the plots, the fixed ones too, and tell the chart node their ranges."""
        behaviors = [self._chart.GetAxis(number).GetBehavior() for number in range(4)]
        for number in range(4):
            self._chart.GetAxis(number).SetBehavior(vtk.vtkAxis.AUTO)
        self._chart.RecalculateBounds()
        for number, behavior in enumerate(behaviors):
            self._chart.GetAxis(number).SetBehavior(behavior)
        node = self._chartNode.Get()
        if node is not None:
            with slicer.util.NodeModify(node):
                node.SetXAxisRange(unscaledRange(self._chart.GetAxis(vtk.vtkAxis.BOTTOM)))
                node.SetYAxisRange(unscaledRange(self._chart.GetAxis(vtk.vtkAxis.LEFT)))
        self._drawAgain()

    def _followChart(self, *ignored: object) -> None:
        """Take the chart of the view node, follow both, and show it."""
        if not shiboken6.isValid(self):
            stopObserving(self._observed)
            return
        node = self._viewNode.Get()
        chart = self._scene.GetNodeByID(node.GetPlotChartNodeID() or "") if node is not None and self._scene else None
        self._chartNode.Set(chart)
        stopObserving(self._observed)
        self._observe(self._scene, SCENE.EndBatchProcessEvent, self._refresh)
        self._observe(node, slicer.vtkMRMLPlotViewNode.PlotChartNodeChangedEvent, self._followChart)
        self._observe(node, vtk.vtkCommand.ModifiedEvent, self._refresh)
        self._observe(chart, vtk.vtkCommand.ModifiedEvent, self._refresh)
        self._refresh()

    def _observe(self, subject, event: int, method: Callable) -> None:
        """Call the method as long as the widget lives; neither keeps the other."""
        if subject is not None:
            kept, observed = weakref.WeakMethod(method), vtk.vtkWeakReference()
            observed.Set(subject)
            call = lambda *arguments: kept() and kept()(*arguments)  # noqa: E731
            self._observed.append((observed, subject.AddObserver(event, call)))

    def _refresh(self, *ignored: object) -> None:
        """Take over what the nodes say now; drawn when it is next painted."""
        if not shiboken6.isValid(self) or self._scene is None or self._viewNode.Get() is None:
            return
        chartNode = self._scene.GetNodeByID(self._viewNode.Get().GetPlotChartNodeID() or "")
        if chartNode is None:
            self.removeAllPlots()
            self._seriesOfPlots.clear()
            self._drawAgain()
            return
        self._takePlots(chartNode)
        showTexts(self._chart, chartNode)
        showAxes(self._chart, chartNode)
        self._drawAgain()

    def _takePlots(self, chartNode) -> None:
        wanted = seriesOf(chartNode)
        for plot, identifier in list(self._seriesOfPlots.items()):
            node = self._scene.GetNodeByID(identifier)
            if node not in wanted or not canBeDrawn(node) or not plot.IsA(classOfPlot(node)):
                self.removePlot(plot)
                del self._seriesOfPlots[plot]
            else:
                describePlot(plot, node)
        shown = self._seriesOfPlots.values()
        for node in [node for node in wanted if node.GetID() not in shown and canBeDrawn(node)]:
            plot = getattr(vtk, classOfPlot(node))()
            describePlot(plot, node)
            self._seriesOfPlots[plot] = node.GetID()
            self.addPlot(plot)


def stopObserving(observed: list[tuple]) -> None:
    for reference, tag in observed:
        if reference.Get() is not None:
            reference.Get().RemoveObserver(tag)
    observed.clear()


def unscaledRange(axis: "vtk.vtkAxis") -> tuple[float, float]:
    return axis.GetUnscaledMinimum(), axis.GetUnscaledMaximum()


def seriesOf(chartNode) -> list:
    """The series of a chart that are in the scene."""
    if chartNode is None:
        return []
    series = [chartNode.GetNthPlotSeriesNode(index) for index in range(chartNode.GetNumberOfPlotSeriesNodes())]
    return [node for node in series if node is not None]


def canBeDrawn(series: "slicer.vtkMRMLPlotSeriesNode") -> bool:
    """Whether its table has its columns."""
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    columns = (
        (series.GetXColumnName(), series.GetYColumnName()) if series.IsXColumnRequired() else (series.GetYColumnName(),)
    )
    return table is not None and all(name and table.GetColumnByName(name) is not None for name in columns)


def classOfPlot(series: "slicer.vtkMRMLPlotSeriesNode") -> str:
    isBar = series.GetPlotType() in (SERIES.PlotTypeBar, SERIES.PlotTypeScatterBar)
    return "vtkPlotBar" if isBar else "vtkPlotLine"


def describePlot(plot: "vtk.vtkPlot", series: "slicer.vtkMRMLPlotSeriesNode") -> None:
    table, y = series.GetTableNode().GetTable(), series.GetYColumnName()
    plot.SetWidth(series.GetLineWidth())
    plot.SetColorF(*series.GetColor())
    plot.GetPen().SetOpacityF(series.GetOpacity())
    if plot.IsA("vtkPlotLine"):
        plot.GetPen().SetLineType(LINE_TYPES[series.GetLineStyle()])
        plot.SetMarkerStyle(MARKERS[series.GetMarkerStyle()])
        plot.SetMarkerSize(series.GetMarkerSize())
    plot.SetUseIndexForXSeries(not series.IsXColumnRequired())
    plot.SetInputData(table, series.GetXColumnName() if series.IsXColumnRequired() else y, y)
    plot.SetLabel(series.GetName() or y)


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
    """Ranges as the node fixes them; automatic ones stay as VTK has them."""
    x = (node.GetXAxisLogScale(), node.GetXAxisRangeAuto(), node.GetXAxisRange())
    y = (node.GetYAxisLogScale(), node.GetYAxisRangeAuto(), node.GetYAxisRange())
    for number, (isLog, isAutomatic, limits) in ((vtk.vtkAxis.BOTTOM, x), (vtk.vtkAxis.LEFT, y)):
        axis = chart.GetAxis(number)
        axis.SetBehavior(vtk.vtkAxis.AUTO if isAutomatic else vtk.vtkAxis.FIXED)
        axis.SetLogScale(bool(isLog))
        if not isAutomatic:
            axis.SetUnscaledRange(*limits)
        axis.Update()
