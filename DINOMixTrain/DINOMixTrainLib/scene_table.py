"""The volumes of the open scene that may be cases, each with a box to tick and its segmentation to choose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.scene.channels import isOfAnotherChannel, proposedBeside
from dinomix_slicer.scene.scene_cohort import (
    Proposal,
    proposedSegmentations,
    segmentationsOfScene,
    segmentsOf,
)
from dinomix_slicer.scene.volumes import imagesOfScene
from dinomix_slicer.signal import Signal
from dinomix_slicer.window.appearance import setWrappedText
from dinomix_slicer.window.tables import fitHeight, setUpColumns
from dinomix_slicer.window.widgets import signalsBlocked

from .case_loading import IMAGE, LABEL
from .cohort_request import SceneChoice, channelsOfText

if TYPE_CHECKING:
    from dinomix.images.channel_files import Channel

    from .parameter_node import DINOMixTrainParameterNode

VOLUME, SEGMENTATION, MORE = 0, 1, 2  # columns, the last one the first of those of further images


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: what it is called.
        volume: ID of the node; empty for a case that was exported while its scene was open.
        file: the name of such a case.
        segmentation: ID of the segmentation that is chosen or, as long as nothing is, proposed; of such a case, any text if
            it has a label.
        isChosen: whether it is ticked.
        more: IDs of the volumes of the case's further images, which are chosen or proposed; empty for none.
    """

    name: str
    volume: str = ""
    file: str = ""
    segmentation: str = ""
    isChosen: bool = False
    more: tuple[str, ...] = ()

    @property
    def choice(self) -> SceneChoice:
        if self.file:
            return SceneChoice(file=self.file)
        return SceneChoice(self.volume, self.segmentation, more=self.more)


class SceneTable:
    """
    Signals:
        notice(text): a choice could not be kept, and why.
    """

    def __init__(self, ui: Any) -> None:
        self.notice = Signal()
        self._ui = ui
        self._node: DINOMixTrainParameterNode | None = None
        self._rows: list[Row] = []
        self._shown: object = None  # what the table was filled with
        self._segmentationOf: dict[str, str] = {}  # volume -> what the user has chosen for it
        self._moreOf: dict[
            tuple[str, str], str
        ] = {}  # volume and channel -> the volume that the user has chosen for these
        self._files: dict[
            str, bool
        ] = {}  # cases of other scenes -> whether they have a label; also when they are not ticked
        self._study = ""
        ui.sceneTable.connect("itemChanged(QTableWidgetItem*)", self._onItemChanged)
        ui.sceneAllButton.connect("clicked()", lambda: self._setAll(True))
        ui.sceneNoneButton.connect("clicked()", lambda: self._setAll(False))
        setUpColumns(ui.sceneTable, stretched=[VOLUME, SEGMENTATION])

    def show(self, node: DINOMixTrainParameterNode, isEnabled: bool) -> None:
        """Show the volumes of the scene as they are now, and what is chosen of them."""
        self._node = node
        if slicer.mrmlScene.IsBatchProcessing():
            return
        proposals = proposedSegmentations()
        segmentations = {segmentation.GetID(): segmentation.GetName() for segmentation in ownSegmentations()}
        self._dropWhatIsGone(node, segmentations)
        self._rememberFiles(node)
        channels = channelsOf(node)
        self._rows = rowsOf(node, proposals, self._segmentationOf, self._files, channels, self._moreOf)
        self._updateMore(node)
        volumes = {volume.GetID(): volume.GetName() for volume in ownVolumes()}
        found = {volume: len(found) for volume, found in proposals.items()}
        shown = (self._rows, segmentations, found, channels, volumes if channels else None)
        if shown != self._shown:
            self._shown = shown
            self._showColumns(channels)
            self._fill(proposals, segmentations)
            self._fillMore(channels, volumes)
        self._ui.sceneTable.enabled = isEnabled
        for button in (self._ui.sceneAllButton, self._ui.sceneNoneButton):
            button.enabled = isEnabled and bool(self._rows)
        setWrappedText(self._ui.sceneLabel, summaryOf(self._rows))

    def release(self) -> None:
        """The scene is about to be emptied: forget what was chosen in it, since the next one's nodes get its IDs."""
        self._rows, self._shown = [], None
        self._segmentationOf, self._moreOf = {}, {}

    def segmentNames(self) -> Counter[str]:
        """The structures of the segmentations that are ticked, and in how many."""
        nodes = [slicer.mrmlScene.GetNodeByID(row.segmentation) for row in self._rows if row.isChosen and row.volume]
        return Counter(segment.GetName() for node in nodes if node is not None for segment in segmentsOf(node))

    def _dropWhatIsGone(self, node: DINOMixTrainParameterNode, segmentations: dict[str, str]) -> None:
        """Untick volumes that have left the scene, and those whose segmentation has."""
        volumes = {volume.GetID(): volume.GetName() for volume in ownVolumes()}
        for field in ("sceneLabeled", "sceneUnlabeled"):
            choices = [SceneChoice.of(text) for text in getattr(node, field)]
            kept = [c for c in choices if c.file or (c.volume in volumes and c.segmentation in ("", *segmentations))]
            for choice in choices:
                if choice not in kept and choice.volume in volumes:
                    text = _("The segmentation of {name} is not in the scene any more, so that {name} is not used now.")
                    self.notice.emit(text.format(name=volumes[choice.volume]))
            if len(kept) < len(choices):
                setattr(node, field, [choice.text for choice in kept])
        self._moreOf = {key: volume for key, volume in self._moreOf.items() if volume in ("", *volumes)}
        self._segmentationOf = {
            volume: segmentation
            for volume, segmentation in self._segmentationOf.items()
            if volume in volumes and segmentation in ("", *segmentations)
        }

    def _updateMore(self, node: DINOMixTrainParameterNode) -> None:
        """Where other volumes are proposed beside those that are ticked, or other images are wanted, these are the choice."""
        for field in ("sceneLabeled", "sceneUnlabeled"):
            rows = {row.volume: row for row in self._rows if row.volume}
            choices = [SceneChoice.of(text) for text in getattr(node, field)]
            wanted = [replace(c, more=rows[c.volume].more) if c.volume in rows else c for c in choices]
            if wanted != choices:
                setattr(node, field, [choice.text for choice in wanted])

    def _rememberFiles(self, node: DINOMixTrainParameterNode) -> None:
        if node.studyFolder != self._study:
            self._study, self._files = node.studyFolder, {}
        for field, hasLabel in (("sceneLabeled", True), ("sceneUnlabeled", False)):
            choices = map(SceneChoice.of, getattr(node, field))
            self._files.update((choice.file, hasLabel) for choice in choices if choice.file)

    def _fill(self, proposals: dict[str, list[Proposal]], segmentations: dict[str, str]) -> None:
        table = self._ui.sceneTable
        with signalsBlocked(table):
            table.rowCount = 0
            table.rowCount = len(self._rows)
            fitHeight(table, 2, 8)
            for row, entry in enumerate(self._rows):
                item = qt.QTableWidgetItem(entry.name)
                item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
                item.setCheckState(qt.Qt.Checked if entry.isChosen else qt.Qt.Unchecked)
                item.setToolTip(
                    _("This case was copied to the study folder while its scene was open.")
                    if entry.file
                    else entry.name
                )
                table.setItem(row, VOLUME, item)
                if entry.file:
                    text = _("(copied, with a label)") if entry.segmentation else _("(copied, unlabeled)")
                    table.setItem(row, SEGMENTATION, qt.QTableWidgetItem(text))
                else:
                    table.setCellWidget(
                        row, SEGMENTATION, self._comboBox(entry, proposals[entry.volume], segmentations)
                    )

    def _showColumns(self, channels: tuple[Channel, ...]) -> None:
        table, names = self._ui.sceneTable, [channel.name for channel in channels]
        table.columnCount = MORE + max(0, len(channels) - 1)
        table.setHorizontalHeaderLabels([names[0] if names else _("Volume"), _("Segmentation"), *names[1:]])
        setUpColumns(table, stretched=list(range(table.columnCount)))

    def _fillMore(self, channels: tuple[Channel, ...], volumes: dict[str, str]) -> None:
        """The further images of each case: a column for each."""
        for row, entry in enumerate(self._rows):
            for number, volume in enumerate(entry.more):
                ids = ["", *(id for id in volumes if id != entry.volume)]
                box = qt.QComboBox()
                box.setFrame(False)
                box.addItems([_("choose a volume"), *(volumes[id] for id in ids[1:])])
                box.currentIndex = ids.index(volume) if volume in ids else 0
                box.toolTip = _("The volume that is {name} of this case.").format(name=channels[number + 1].name)
                box.connect("activated(int)", partial(self._onMore, entry, channels[number + 1].name, ids))
                self._ui.sceneTable.setCellWidget(row, MORE + number, box)

    def _comboBox(self, entry: Row, proposals: list[Proposal], segmentations: dict[str, str]) -> Any:
        reasons = {
            "reference": _("{name} was drawn on this volume."),
            "dicom": _("{name} refers to this volume by DICOM."),
            "place": _("{name} lies in the same folder of the data tree as this volume."),
        }
        why = {p.segmentation.GetID(): reasons[p.reason].format(name=p.segmentation.GetName()) for p in proposals}
        ids = ["", *why, *(id for id in segmentations if id not in why)]
        box = qt.QComboBox()
        box.setFrame(False)
        box.addItems([_("none: unlabeled"), *(segmentations[id] for id in ids[1:])])
        for row, id in enumerate(ids):
            box.setItemData(row, id)
            box.setItemData(row, why.get(id, ""), qt.Qt.ToolTipRole)
        box.currentIndex = ids.index(entry.segmentation) if entry.segmentation in ids else 0
        box.toolTip = why.get(entry.segmentation) or _(
            "The labels of this volume. Without one it is an unlabeled case."
        )
        box.connect("activated(int)", lambda row: self._onSegmentation(entry, ids[row]))
        return box

    # -- What the user does

    def _onItemChanged(self, item: Any) -> None:
        if item.column() == VOLUME:
            self._choose({item.row(): item.checkState() == qt.Qt.Checked})

    def _setAll(self, isChosen: bool) -> None:
        self._choose(dict.fromkeys(range(len(self._rows)), isChosen))

    def _onSegmentation(self, entry: Row, segmentation: str) -> None:
        self._segmentationOf[entry.volume] = segmentation
        rows = [
            replace(row, segmentation=segmentation) if row.volume and row.volume == entry.volume else row
            for row in self._rows
        ]
        self._write(rows)

    def _onMore(self, entry: Row, channel: str, ids: list[str], index: int) -> None:
        self._moreOf[entry.volume, channel] = ids[index]
        self.show(self._node, self._ui.sceneTable.enabled)

    def _choose(self, isChosen: dict[int, bool]) -> None:
        rows = [replace(row, isChosen=isChosen.get(number, row.isChosen)) for number, row in enumerate(self._rows)]
        self._write(rows)

    def _write(self, rows: list[Row]) -> None:
        chosen = [row for row in rows if row.isChosen]
        with slicer.util.NodeModify(self._node.parameterNode):
            self._node.sceneLabeled = [row.choice.text for row in chosen if row.segmentation]
            self._node.sceneUnlabeled = [row.choice.text for row in chosen if not row.segmentation]
        self.show(self._node, self._ui.sceneTable.enabled)


def ownVolumes() -> list[Any]:
    """The scene's volumes but those that were loaded to look at a case."""
    return [volume for volume in imagesOfScene() if not volume.GetAttribute(IMAGE)]


def ownSegmentations() -> list[Any]:
    """The scene's segmentations but those that were loaded to look at a case."""
    return [segmentation for segmentation in segmentationsOfScene() if not segmentation.GetAttribute(LABEL)]


def channelsOf(node: DINOMixTrainParameterNode) -> tuple[Channel, ...]:
    """The images of each case where they are several; none else, or where their names are still being typed."""
    try:
        channels = channelsOfText(node.channels)
    except DinomixError:
        return ()
    return channels if len(channels) > 1 else ()


def rowsOf(
    node: DINOMixTrainParameterNode,
    proposals: dict[str, list[Proposal]],
    segmentationOf: dict[str, str],
    files: dict[str, bool],
    channels: tuple[Channel, ...],
    moreOf: dict[tuple[str, str], str],
) -> list[Row]:
    """The volumes of the scene in its order, and the cases that were exported while another was open.

    Where each case has several images, only the volumes that may be the first of them.
    """
    choices = [SceneChoice.of(text) for text in (*node.sceneLabeled, *node.sceneUnlabeled)]
    chosen = {choice.volume: choice.segmentation for choice in choices if not choice.file}
    ticked = {choice.file for choice in choices}
    rows = []
    volumes = ownVolumes()
    for volume in volumes:
        id = volume.GetID()
        if channels and id not in chosen and isOfAnotherChannel(volume, channels):
            continue
        proposed = proposals[id][0].segmentation.GetID() if proposals[id] else ""
        segmentation = chosen.get(id, segmentationOf.get(id, proposed))
        proposedMore = proposedBeside(channels, volumes, volume, []) if channels else []
        more = tuple(
            moreOf.get((id, channel.name), other.GetID() if other is not None else "")
            for channel, other in zip(channels[1:], proposedMore, strict=True)
        )
        rows.append(Row(volume.GetName(), id, "", segmentation, id in chosen, more))
    return rows + [Row(f, "", f, "label" if hasLabel else "", f in ticked) for f, hasLabel in files.items()]


def summaryOf(rows: list[Row]) -> str:
    """What is chosen, in words."""
    if not rows:
        return _("The scene holds no volume.")
    chosen = [row for row in rows if row.isChosen]
    if not chosen:
        return _("No volume is used yet.")
    labeled = sum(bool(row.segmentation) for row in chosen)
    return _("{labeled} labeled, {unlabeled} unlabeled.").format(labeled=labeled, unlabeled=len(chosen) - labeled)
