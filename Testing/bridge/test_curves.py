"""Curves of a run: bounded, and shown in a chart of Slicer's own."""

import math
import unittest

import qt
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinomix_slicer.run.curves import MOST_POINTS, Curve, CurvePlot, RunCurves, groups


def loss(step, total):
    return {"kind": "loss", "step": step, "total": total, "supervised": total / 2, "unsupervised": None, "fkd": None}


class CurveTest(unittest.TestCase):
    def test_short_ones_are_kept_as_they_are(self):
        curve = Curve()
        for step in range(MOST_POINTS - 1):
            curve.add(step, {"total": float(step)})
        self.assertEqual(curve.steps, list(range(MOST_POINTS - 1)))
        self.assertEqual(curve.lines["total"], [float(step) for step in range(MOST_POINTS - 1)])

    def test_long_ones_are_averaged_and_stay_short(self):
        curve = Curve()
        for step in range(1, 100_001):
            curve.add(step, {"total": float(step)})
        self.assertLess(len(curve.steps), MOST_POINTS)
        self.assertGreater(len(curve.steps), MOST_POINTS / 4)
        stride = curve.steps[1] - curve.steps[0]
        for step, value in zip(curve.steps, curve.lines["total"], strict=True):
            self.assertAlmostEqual(value, step - (stride - 1) / 2)

    def test_a_line_that_comes_later(self):
        curve = Curve()
        curve.add(1, {"total": 1.0})
        curve.add(2, {"total": 1.0, "unsupervised": 0.5})
        self.assertTrue(math.isnan(curve.lines["unsupervised"][0]))
        self.assertEqual(curve.lines["unsupervised"][1], 0.5)

    def test_a_value_that_is_missing_now_and_then(self):
        curve = Curve()
        for step in range(2 * MOST_POINTS + 2):
            curve.add(step, {"dice": None if step % 2 else 0.5})
        self.assertEqual(set(curve.lines["dice"]), {0.5})


class RunCurvesTest(unittest.TestCase):
    def test_events_go_to_their_groups(self):
        curves = RunCurves()
        self.assertEqual(curves.take(loss(2, 1.5)), {"losses"})
        validation = {"kind": "validation", "step": 4, "dice": {"liver": 0.5, "bile": None}, "mean": 0.5}
        self.assertEqual(curves.take(validation), {"dice"})
        pic = {"kind": "pic", "step": 4, "subset": "unlabeled", "probabilities": {"liver": 0.2}, "draws": []}
        self.assertEqual(curves.take(pic), {"pic_unlabeled"})
        self.assertEqual(curves.take({**pic, "random": 0.25, "rare": 0.5}), {"pic_unlabeled", "pic_boxes"})
        self.assertEqual(curves.take({**pic, "subset": "labeled", "random": 0.0, "rare": 0.5}), {"pic_labeled"})
        self.assertEqual(list(curves.curves["pic_boxes"].lines.values()), [[0.25], [0.5]])
        agreed = {"kind": "pseudo_label", "step": 4, "voxels": {}, "confidence": {}, "agreement": {"liver": 0.9}}
        self.assertEqual(curves.take(agreed), {"agreement"})
        self.assertEqual(curves.take({"kind": "pseudo_label", "step": 6, "voxels": {}, "confidence": {}}), set())
        self.assertEqual(curves.take({"kind": "notice", "message": "Slow."}), set())
        self.assertEqual(curves.curves["dice"].lines["liver"], [0.5])


class PlotTest(unittest.TestCase):
    def setUp(self):
        slicer.mrmlScene.Clear(False)
        self.panel = qt.QWidget()
        self.addCleanup(self.panel.deleteLater)
        self.plot = CurvePlot(self.panel)
        self.view = self.panel.findChild(slicer.qMRMLPlotView)
        self.addCleanup(self.plot.release)
        self.curves = RunCurves()
        self.group = groups()[0]

    def show(self):
        self.plot.show(self.group, self.curves.curves[self.group.name], {"supervised": (1.0, 0.0, 0.0)})

    def column(self, name):
        return list(vtk_to_numpy(self.view.chart().GetPlot(0).GetInput().GetColumnByName(name)))

    def test_points_appear_in_slicers_chart(self):
        self.show()
        self.curves.take(loss(2, 1.5))
        self.show()
        self.curves.take(loss(4, 1.0))
        self.show()
        self.assertEqual(self.column("step"), [2, 4])
        self.assertEqual(self.column("total"), [1.5, 1.0])
        self.assertEqual(self.view.chart().GetNumberOfPlots(), 2)
        series = {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")}
        self.assertEqual(tuple(series["supervised"].GetColor()), (1.0, 0.0, 0.0))

    def test_nothing_is_saved_with_the_scene_or_left_in_it(self):
        before = set(slicer.util.getNodesByClass("vtkMRMLNode"))
        self.curves.take(loss(2, 1.5))
        self.show()
        added = set(slicer.util.getNodesByClass("vtkMRMLNode")) - before
        self.assertEqual([node.GetSaveWithScene() for node in added], [0] * 4)
        self.assertTrue(all(node.GetHideFromEditors() for node in added))
        self.plot.release()
        self.assertEqual(set(slicer.util.getNodesByClass("vtkMRMLNode")), before)

    def test_the_view_is_nobody_elses(self):
        """Slicer's main window makes a view for each view node in the scene: where it is added, and when changes end."""
        scene, found = slicer.mrmlScene, []
        before = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
        for event in (scene.NodeAddedEvent, scene.StartBatchProcessEvent, scene.EndBatchProcessEvent):
            look = lambda *told: found.extend(slicer.util.getNodesByClass("vtkMRMLPlotViewNode"))  # noqa: E731
            self.addCleanup(scene.RemoveObserver, scene.AddObserver(event, look))
        self.curves.take(loss(2, 1.5))
        self.show()
        for state in (scene.BatchProcessState, scene.ImportState, scene.RestoreState):
            scene.StartState(state)
            scene.EndState(state)
        self.assertLessEqual(set(found), set(before))
        other = scene.AddNewNodeByClass("vtkMRMLPlotChartNode")
        slicer.app.applicationLogic().GetSelectionNode().SetActivePlotChartID(other.GetID())
        slicer.app.applicationLogic().PropagatePlotChartSelection()
        self.curves.take(loss(4, 1.0))
        self.show()
        self.assertEqual((self.view.chart().GetNumberOfPlots(), self.column("total")), (2, [1.5, 1.0]))

    def test_what_is_released_is_no_longer_drawn(self):
        self.curves.take(loss(2, 1.5))
        self.show()
        self.plot.release()
        self.assertEqual(self.view.chart().GetNumberOfPlots(), 0)

    def test_the_axes_follow_the_points(self):
        self.curves.take(loss(2, 1.5))
        self.show()
        self.panel.resize(300, 200)
        self.panel.grab()
        self.curves.take(loss(2000, 15.0))
        self.show()
        self.panel.grab()
        across, up = (self.view.chart().GetAxis(axis) for axis in (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.LEFT))
        self.assertGreaterEqual(across.GetUnscaledMaximum(), 2000)
        self.assertGreaterEqual(up.GetUnscaledMaximum(), 15)

    def test_one_point_can_be_drawn(self):
        """VTK reports an error for a line of one point."""
        self.curves.take(loss(2, 1.5))
        self.show()
        self.panel.resize(300, 200)
        self.assertFalse(self.panel.grab().isNull())

    def test_another_group_takes_its_place(self):
        self.show()
        count = slicer.mrmlScene.GetNumberOfNodes()
        self.curves.take({"kind": "validation", "step": 4, "dice": {"liver": 0.5}, "mean": 0.5})
        self.group = groups()[1]
        self.show()
        self.assertEqual(self.column("liver"), [0.5, 0.5])
        self.assertLess(slicer.mrmlScene.GetNumberOfNodes(), count + 4)

    def test_another_run_takes_its_place(self):
        self.curves.take(loss(2, 1.5))
        self.show()
        self.curves.clear()
        self.show()
        self.curves.take({"kind": "loss", "step": 2, "total": 3.0})
        self.curves.take({"kind": "loss", "step": 4, "total": 2.0})
        self.show()
        self.assertEqual(self.column("total"), [3.0, 2.0])
        self.panel.resize(300, 200)
        self.assertFalse(self.panel.grab().isNull())

    def test_the_scene_is_closed_meanwhile(self):
        self.curves.take(loss(2, 1.5))
        self.show()
        slicer.mrmlScene.Clear(False)
        self.show()
        self.assertEqual(self.column("total"), [1.5, 1.5])


if __name__ == "__main__":
    unittest.main()
