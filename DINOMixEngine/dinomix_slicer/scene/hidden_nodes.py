"""Nodes that a window needs for itself: seen in no list of nodes, and not saved with the scene."""

from __future__ import annotations

from typing import Any

import slicer


def addHiddenNode(className: str, name: str) -> Any:
    """Add a node to the scene that is hidden and never saved; returns it."""
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    slicer.mrmlScene.AddNode(node)
    return node
