"""Taking back what was written into segmentations."""

from __future__ import annotations

from typing import Any

import slicer

from .representations import removeAllSegments

STATES = 5
"""How many states of a segmentation are kept; each holds its voxels."""

_histories: dict[str, Any] = {}
_new: dict[str, tuple[str, ...]] = {}
_watchedScenes: list[Any] = []


def saveState(segmentationNode: Any) -> None:
    """Keep the segments as they are now; ``undo`` brings them back. Called before a segmentation is written into."""
    _watchScene()
    history = _histories.get(segmentationNode.GetID())
    if history is None:
        history = _histories[segmentationNode.GetID()] = slicer.vtkSegmentationHistory()
        history.SetMaximumNumberOfStates(STATES)
        history.SetSegmentation(segmentationNode.GetSegmentation())
    history.SaveState()


def rememberNew(segmentationNode: Any, *companions: Any) -> None:
    """Note that a node was made anew, so that ``undo`` removes it and the nodes that came with it."""
    _watchScene()
    _new[segmentationNode.GetID()] = tuple(node.GetID() for node in companions)


def undo(segmentationNode: Any) -> bool:
    """Take back the last thing written: the segments as they were before, or no node where it was new.

    Returns:
        Whether there was something to take back.
    """
    identifier = segmentationNode.GetID()
    history = _histories.get(identifier)
    if history is not None and history.IsRestorePreviousStateAvailable():
        # At once, since 3D views would convert segments that are only half restored.
        with slicer.util.NodeModify(segmentationNode):
            return bool(history.RestorePreviousState())
    if identifier in _new:
        # The node before its display nodes: views hold on to display nodes of a node that is still there, and would crash Slicer.
        for each in (*_new[identifier], identifier, *_helpersOf(segmentationNode)):
            node = slicer.mrmlScene.GetNodeByID(each)
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
        removeAllSegments(segmentationNode.GetSegmentation())
        forget(identifier)
        return True
    return False


def forget(identifier: str) -> None:
    """Keep nothing of a node any more."""
    _histories.pop(identifier, None)
    _new.pop(identifier, None)


def _helpersOf(node: Any) -> list[str]:
    """Display and storage nodes of a node, which would stay behind without it."""
    displays = [node.GetNthDisplayNodeID(n) for n in range(node.GetNumberOfDisplayNodes())]
    storages = [node.GetNthStorageNodeID(n) for n in range(node.GetNumberOfStorageNodes())]
    return [each for each in (*displays, *storages) if each]


def _watchScene() -> None:
    """Forget nodes that are gone: their voxels take memory, and another scene uses their IDs anew."""
    scene = slicer.mrmlScene
    if scene not in _watchedScenes:
        _watchedScenes.append(scene)
        for event in (scene.NodeRemovedEvent, scene.EndCloseEvent):
            scene.AddObserver(event, _forgetRemoved)


def _forgetRemoved(scene: Any, event: str) -> None:
    for identifier in [*_histories, *_new]:
        if scene.GetNodeByID(identifier) is None:
            forget(identifier)
