"""Which volumes of the scene are the images of one case: by their names, and by the folder of the data tree they lie in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import slicer
from slicer.i18n import tr as _

from dinomix.images.channel_files import Channel, fitting_channels

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

ONE_IMAGE = (Channel(""),)
"""Of a model that sees one image of a case, which needs no name."""
_NUMBERED = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")


def channelsOf(model: dict[str, Any] | None) -> tuple[Channel, ...]:
    """The images that a listed model (MODEL; docs/worker.md) sees of a case, in its order."""
    listed = (model or {}).get("channels") or []
    return tuple(Channel(channel["name"]) for channel in listed) or ONE_IMAGE


class _Told(NamedTuple):
    """What a volume's name tells.

    Attributes:
        fitting: numbers of the channels whose image it may be.
        case: the item of the data tree it lies under, and its name without that of the channel.
    """

    volume: vtkMRMLScalarVolumeNode
    fitting: tuple[int, ...]
    case: tuple[int, str]


def isOfAnotherChannel(volume: vtkMRMLScalarVolumeNode, channels: Sequence[Channel]) -> bool:
    """Whether a volume's name says that it is a further image of a case, not the first."""
    fitting = _told(volume, channels).fitting
    return bool(fitting) and 0 not in fitting


def proposedFirst(
    channels: Sequence[Channel], volumes: list[vtkMRMLScalarVolumeNode], chosen: vtkMRMLScalarVolumeNode | None
) -> vtkMRMLScalarVolumeNode | None:
    """The volume of the first channel: the chosen one, unless its name is that of another channel and its case has a better."""
    anchor = _told(chosen, channels) if chosen is not None else None
    if anchor is not None and (not anchor.fitting or 0 in anchor.fitting):
        return chosen
    best = _nearest(0, [_told(volume, channels) for volume in volumes], anchor)
    return best if best is not None else chosen


def proposedBeside(
    channels: Sequence[Channel],
    volumes: list[vtkMRMLScalarVolumeNode],
    first: vtkMRMLScalarVolumeNode | None,
    taken: list[vtkMRMLScalarVolumeNode],
) -> list[vtkMRMLScalarVolumeNode | None]:
    """A volume for each further channel by its name, of several that of the case of ``first``.

    None that is taken already, and none that is plainly of another case, which has a first image too.
    """
    anchor = _told(first, channels) if first is not None else None
    all = [_told(volume, channels) for volume in volumes]
    others = {each.case for each in all if 0 in each.fitting and (anchor is None or each.case != anchor.case)}
    told = [each for each in all if anchor is None or each.case not in others]
    proposed: list[vtkMRMLScalarVolumeNode | None] = []
    for number in range(1, len(channels)):
        free = [each for each in told if each.volume not in (first, *taken, *proposed)]
        proposed.append(_nearest(number, free, anchor))
    return proposed


def _nearest(channel: int, told: list[_Told], anchor: _Told | None) -> vtkMRMLScalarVolumeNode | None:
    """The volume of a channel that is most surely of the case of ``anchor``; the first of equals."""
    candidates = [each for each in told if channel in each.fitting]
    if not candidates or anchor is None:
        return candidates[0].volume if candidates else None
    return max(candidates, key=lambda each: sum(a == b for a, b in zip(each.case, anchor.case, strict=True))).volume


def casesOfVolumes(
    volumes: list[vtkMRMLScalarVolumeNode], channels: Sequence[Channel]
) -> tuple[list[list[vtkMRMLScalarVolumeNode]], list[str]]:
    """The cases among some volumes, each in the channels' order, and sentences about what is left out.

    Where an item of the data tree holds one volume for each channel, they are a case; else those whose names differ only in
    that of the channel.
    """
    cases: list[list[vtkMRMLScalarVolumeNode]] = []
    leftOut: list[str] = []
    for told in _grouped([_told(volume, channels) for volume in volumes], lambda each: each.case[0]):
        clear = [each for each in told if len(each.fitting) == 1]
        leftOut += [_unclear(each, channels) for each in told if len(each.fitting) != 1]
        groups = [clear] if _isWhole(clear, channels) else _grouped(clear, lambda each: each.case)
        for group in groups:
            if _isWhole(group, channels):
                cases.append([each.volume for each in sorted(group, key=lambda each: each.fitting)])
            else:
                leftOut.append(_notWhole(group, channels))
    return cases, leftOut


def _told(volume: vtkMRMLScalarVolumeNode, channels: Sequence[Channel]) -> _Told:
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parent, name = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume)), volume.GetName()
    numbered = _NUMBERED.fullmatch(name)
    if numbered and int(numbered["number"]) < len(channels):
        return _Told(volume, (int(numbered["number"]),), (parent, numbered["case"].casefold()))
    fitting = tuple(channels.index(channel) for channel in fitting_channels(name, channels))
    rest = channels[fitting[0]].without(name) if len(fitting) == 1 else name
    return _Told(volume, fitting, (parent, rest.casefold()))


def _grouped(told: list[_Told], key: Any) -> list[list[_Told]]:
    groups: dict[Any, list[_Told]] = defaultdict(list)
    for each in told:
        groups[key(each)].append(each)
    return list(groups.values())


def _isWhole(group: list[_Told], channels: Sequence[Channel]) -> bool:
    return sorted(each.fitting[0] for each in group) == list(range(len(channels)))


def _unclear(told: _Told, channels: Sequence[Channel]) -> str:
    names = ", ".join(channel.name for channel in channels)
    text = _("{volume} fits several of {names}.") if told.fitting else _("{volume} fits none of {names}.")
    return text.format(volume=told.volume.GetName(), names=names)


def _notWhole(group: list[_Told], channels: Sequence[Channel]) -> str:
    names = ", ".join(each.volume.GetName() for each in group)
    missing = [channel.name for n, channel in enumerate(channels) if n not in {each.fitting[0] for each in group}]
    if missing:
        return _("Beside {volumes} there is no {channels}.").format(volumes=names, channels=", ".join(missing))
    return _("It is not clear which of {volumes} belong together.").format(volumes=names)
