"""A volume for each image that the model sees of a case: a row for each beyond the first, which the window always has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.scene.channels import proposedBeside, proposedFirst
from dinomix_slicer.scene.volumes import imagesOfScene
from dinomix_slicer.window.widgets import signalsBlocked

if TYPE_CHECKING:
    from dinomix.images.channel_files import Channel

    from .parameter_node import DINOMixSegmentParameterNode


class ChannelRows:
    """Shows what the parameter node says, and writes there what is chosen or proposed."""

    def __init__(self, ui: Any, root: Any) -> None:
        """``root`` is the widget that holds all others."""
        self._ui = ui
        self._layout = root.findChild(qt.QFormLayout, "inputLayout")
        self._rows: list[
            tuple[Any, Any]
        ] = []  # a label and a selector for each further channel, as many as were needed yet
        self._proposed: list[str] = []  # IDs of what stands in the parameter node without the user's doing
        self._parameterNode: DINOMixSegmentParameterNode | None = None

    def show(self, channels: Sequence[Channel], parameterNode: DINOMixSegmentParameterNode | None) -> None:
        """Show the volumes of these channels; where there are several, those that are not chosen are proposed."""
        self._parameterNode = parameterNode
        names = [channel.name for channel in channels]
        isOne = len(channels) == 1
        self._ui.volumeLabel.text = _("Volume:") if isOne else _("Volume {name}:").format(name=names[0])
        while len(self._rows) < len(channels) - 1:
            self._addRow()
        if parameterNode is not None and not isOne:
            self._propose(channels, parameterNode)
        for number, (label, selector) in enumerate(self._rows, start=1):
            label.visible = selector.visible = number < len(channels)
            if number < len(channels):
                label.text = _("Volume {name}:").format(name=names[number])
                selector.toolTip = _("Choose the volume that is {name}, of the same patient as {first}.").format(
                    name=names[number], first=names[0]
                )
                self._showVolume(selector, number - 1)

    def _propose(self, channels: Sequence[Channel], node: DINOMixSegmentParameterNode) -> None:
        """Fill in what is missing, and what was proposed beside another first volume; what the user has chosen stays."""
        names, volumes = [channel.name for channel in channels[1:]], imagesOfScene()
        known = dict(zip(node.moreChannels, node.moreVolumes, strict=False))
        chosen = {n: v for n, v in known.items() if n in names and v is not None and v.GetID() not in self._proposed}
        isNew = names != [*node.moreChannels]
        if isNew and not chosen:
            node.inputVolume = proposedFirst(channels, volumes, node.inputVolume)
        proposed = proposedBeside(channels, volumes, node.inputVolume, [*chosen.values()])
        more = [chosen.get(name, volume) for name, volume in zip(names, proposed, strict=True)]
        self._proposed = [
            volume.GetID()
            for name, volume in zip(names, more, strict=True)
            if name not in chosen and volume is not None
        ]
        if isNew or more != [*node.moreVolumes]:
            node.moreVolumes = more
            node.moreChannels = names

    def letGo(self) -> None:
        """The scene goes, and with it the parameter node: what its volumes' going changes here is no choice."""
        self._parameterNode = None

    def _addRow(self) -> None:
        label, selector = qt.QLabel(), slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        selector.noneDisplay = _("Choose a volume")
        selector.objectName = f"volumeSelector{len(self._rows) + 2}"
        selector.setMRMLScene(slicer.mrmlScene)
        label.setBuddy(selector)
        self._layout.insertRow(len(self._rows) + 1, label, selector)
        # What the user chooses; the selector itself goes over to another node where the chosen one is removed.
        selector.connect("nodeActivated(vtkMRMLNode*)", partial(self._onChosen, len(self._rows)))
        self._rows.append((label, selector))

    def _showVolume(self, selector: Any, index: int) -> None:
        volumes = [*self._parameterNode.moreVolumes] if self._parameterNode is not None else []
        with signalsBlocked(selector):
            selector.setCurrentNode(volumes[index] if index < len(volumes) else None)

    def _onChosen(self, index: int, volume: Any) -> None:
        node = self._parameterNode
        if node is None or index >= len(node.moreVolumes):
            return
        if volume is not None and volume.GetID() in self._proposed:
            self._proposed.remove(volume.GetID())
        node.moreVolumes = [volume if number == index else other for number, other in enumerate(node.moreVolumes)]
