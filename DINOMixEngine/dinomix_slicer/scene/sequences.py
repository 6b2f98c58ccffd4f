"""Volumes over time: each frame of a sequence as an image, and their segmentations as a sequence in the same browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

from . import undo
from .representations import removeAllSegments
from .segmentations import addSegmentation, placeBeside
from .volumes import NodeImage, imageOfNode, imageUnder, matrixBetween


@dataclass(frozen=True)
class Frames:
    """The sequence whose frame a volume node shows.

    Attributes:
        volumeNode: the node in the scene that shows a frame.
        browser: the sequence browser node.
        sequence: the sequence node with the frames.
    """

    volumeNode: Any
    browser: Any
    sequence: Any

    def __len__(self) -> int:
        return int(self.sequence.GetNumberOfDataNodes())


def framesOf(volumeNode: Any) -> Frames | None:
    """The sequence that a volume node belongs to; None when it belongs to none."""
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(volumeNode)
    sequence = browser.GetSequenceNode(volumeNode) if browser is not None else None
    return Frames(volumeNode, browser, sequence) if sequence is not None else None


def imageOfFrame(frames: Frames, number: int) -> NodeImage:
    """The image of one frame, counted from 0, under the parent transform of the node that shows the frames.

    Raises:
        DinomixError: as ``imageUnder``; or the frame is gone.
    """
    node = frames.sequence.GetNthDataNode(number)
    if node is None:
        raise DinomixError(
            _("Frame {number} of {name} is not there any more.").format(
                number=number + 1, name=frames.volumeNode.GetName()
            ),
            _("Segment the sequence again."),
        )
    # A frame is kept without its transform; that of the shown node is all frames'.
    return imageUnder(node, frames.volumeNode.GetParentTransformNode())


def imagesOfFrame(frames: Frames, others: list[Any], number: int) -> list[NodeImage]:
    """The images of one case at a frame, counted from 0: that of ``frames``, and those of other volume nodes.

    Another node that shows a sequence gives the frame of its own that has the same index value; one that shows none is the
    same at each frame.

    Raises:
        DinomixError: as ``imageOfFrame`` and ``imagesOfCase``; or another's sequence has no such frame.
    """
    images = [imageOfFrame(frames, number)]
    value = frames.sequence.GetNthIndexValue(number)
    for other in others:
        matrixBetween(other, frames.volumeNode)  # refuses what lies in no space that both share
        own = framesOf(other)
        if own is None:
            image = imageOfNode(other)
        elif (place := own.sequence.GetItemNumberFromIndexValue(value)) >= 0:
            image = imageOfFrame(own, place)
        else:
            raise DinomixError(
                _("{name} has no frame at {value}, as {first} has.").format(
                    name=other.GetName(), value=value, first=frames.volumeNode.GetName()
                ),
                _("Choose volumes whose sequences have the same frames, or segment one frame alone."),
            )
        images.append(NodeImage(image.array, image.affineRas))
    return images


class SegmentationSequence:
    """The segmentations of a sequence's frames, on their way into its browser. Nothing is shown before ``finish``."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        name = _("{volume} segmentation").format(volume=frames.volumeNode.GetName())
        self._sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        for what in ("IndexName", "IndexUnit", "IndexType"):
            getattr(self._sequence, f"Set{what}")(getattr(frames.sequence, f"Get{what}")())

    def add(self, number: int, labels: Any, structures: list[dict[str, Any]]) -> None:
        """Put in the labels of one frame, counted from 0.

        Args:
            labels: (k, j, i) of the frame's shape.
            structures: STRUCTURE dicts.

        Raises:
            DinomixError: the labels do not fit the frame.
        """
        frame = self._frames.sequence.GetNthDataNode(number)
        segmentation = addSegmentation(_inScene(frame, self._frames.volumeNode), labels, structures)
        undo.forget(segmentation.GetID())
        volume = segmentation.GetNodeReference("referenceImageGeometryRef")
        segmentation.SetAndObserveTransformNodeID(None)
        self._sequence.SetDataNodeAtValue(segmentation, self._frames.sequence.GetNthIndexValue(number))
        display = segmentation.GetDisplayNode()
        for node in (segmentation, display, volume):
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
        removeAllSegments(segmentation.GetSegmentation())

    def finish(self) -> Any:
        """Put the sequence into the browser; returns the segmentation node that shows the frame of the moment."""
        frames = self._frames
        frames.browser.AddSynchronizedSequenceNode(self._sequence)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(frames.browser)
        segmentation = frames.browser.GetProxyNode(self._sequence)
        segmentation.SetName(self._sequence.GetName())
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetAndObserveTransformNodeID(frames.volumeNode.GetTransformNodeID())
        placeBeside(segmentation, frames.volumeNode)
        undo.rememberNew(segmentation, self._sequence)
        return segmentation

    def discard(self) -> None:
        """Leave nothing in the scene."""
        if slicer.mrmlScene.IsNodePresent(self._sequence):
            slicer.mrmlScene.RemoveNode(self._sequence)


def _inScene(frame: Any, shown: Any) -> Any:
    """A frame as a node of the scene, which a segmentation can refer to while it is made."""
    node = slicer.mrmlScene.AddNewNodeByClass(frame.GetClassName(), shown.GetName())
    node.SetHideFromEditors(True)
    node.SetAndObserveImageData(frame.GetImageData())
    node.CopyOrientation(frame)
    return node
