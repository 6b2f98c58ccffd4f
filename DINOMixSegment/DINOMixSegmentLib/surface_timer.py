"""Making surfaces beside the window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import qt
import slicer

from dinomix_slicer.scene.surfaces import surfaceSteps
from dinomix_slicer.signal import Signal

if TYPE_CHECKING:
    from slicer import vtkMRMLSegmentationNode


class SurfaceTimer:
    """Shows a segmentation in 3D as soon as its surfaces are made.

    Signals:
        changed(done, total): surfaces made, of how many; done == total at the end, also when it is cancelled.
    """

    def __init__(self) -> None:
        self.changed = Signal()
        self._timer = qt.QTimer()
        self._timer.setInterval(1)
        self._timer.connect("timeout()", self._onTick)
        self._steps: Iterator[str] = iter(())
        self._nodeId = ""
        self._done = self._total = 0

    def start(self, segmentation: vtkMRMLSegmentationNode) -> None:
        """Begin with this segmentation; surfaces of an earlier one that are not made yet are given up."""
        self._nodeId = segmentation.GetID()
        self._done, self._total = 0, segmentation.GetSegmentation().GetNumberOfSegments()
        self._steps = surfaceSteps(segmentation)
        self.changed.emit(0, self._total)
        self._timer.start()

    def cancel(self) -> None:
        """Make no more, and show none."""
        if self.isRunning():
            self._timer.stop()
            self._steps = iter(())
            self.changed.emit(self._total, self._total)

    def isRunning(self) -> bool:
        return self._timer.isActive()

    def _onTick(self) -> None:
        if slicer.mrmlScene.GetNodeByID(self._nodeId) is None:
            self.cancel()
            return
        try:
            segmentName = next(self._steps)
        except StopIteration:
            self.cancel()
            return
        if segmentName and self._done + 1 < self._total:
            self._done += 1
            self.changed.emit(self._done, self._total)
