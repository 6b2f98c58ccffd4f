"""Why Apply cannot work now, each a sentence that says what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix.names import normalized_name
from dinomix_slicer.paths import isFolder
from dinomix_slicer.scene.volumes import imagesOfScene, whyNoImage

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

    from dinomix.images.channel_files import Channel


def whyNotChosenVolume(volume: vtkMRMLScalarVolumeNode | None) -> str | None:
    if volume is not None:
        return whyNoImage(volume)
    if imagesOfScene():
        return _("Choose the volume to segment.")
    return _("There is no volume yet. Load a CT or an MR scan, or try an example.")


def whyNotMoreVolumes(volumes: tuple[vtkMRMLScalarVolumeNode | None, ...], channels: tuple[Channel, ...]) -> str | None:
    """Of the volumes of all channels of a model that sees several images of a case."""
    if len(volumes) != len(channels):
        names = ", ".join(channel.name for channel in channels)
        if len(channels) == 1:
            return _("The model sees one volume of a case. Give one.")
        return _("The model sees {n} volumes of a case ({names}). Give one for each.").format(
            n=len(channels), names=names
        )
    missing = [channel.name for volume, channel in zip(volumes, channels, strict=True) if volume is None]
    if missing:
        return _("Choose the volume for {channels}.").format(channels=", ".join(missing))
    for number, volume in enumerate(volumes[1:], start=1):
        if volume in volumes[:number]:
            return _("{volume} is chosen for {one} and {other}. Choose another volume for one of them.").format(
                volume=volume.GetName(),
                one=channels[volumes.index(volume)].name,
                other=channels[number].name,
            )
        if problem := whyNoImage(volume):
            return problem
    return None


def whyNotOutput(output: vtkMRMLSegmentationNode | None, isForAllFrames: bool) -> str | None:
    if output is not None and isForAllFrames:
        return _("All frames go into a new sequence of segmentations. Choose a new segmentation as the output.")
    return None


def whyNotYet(path: str, models: list[dict[str, Any]], workerState: str) -> str | None:
    """Whether the models are still being asked for, and none is chosen meanwhile."""
    if not path and not models and workerState == "starting":
        return _("The worker is starting. Wait a moment; then it lists the models.")
    return None


def whyNotModel(path: str, models: list[dict[str, Any]], isHere: bool) -> str | None:
    """``models`` are those that the worker has listed; ``isHere`` whether it reads this computer's files."""
    if not path:
        if models:
            return _("Choose a model.")
        return _("There is no model yet. Add a folder with models, or train one.")
    listed = next((model for model in models if model["path"] == path), None)
    if listed is not None and listed.get("problem"):
        return _("The model {title} cannot be used. {problem}").format(title=listed["title"], problem=listed["problem"])
    if isHere and not isFolder(Path(path)):
        return _("The model folder {path} is gone. Choose another model.").format(path=path)
    return None


def whyNotMoreModels(first: str, more: tuple[str, ...], models: list[dict[str, Any]]) -> str | None:
    """Of the models that come after the first one."""
    listed = {model["path"]: model for model in models}
    for path in more if first in listed else ():
        if path not in listed:
            return _("The further model {path} is not there. Choose the further models under Advanced again.").format(
                path=path
            )
        if problem := whyNotModel(path, models, isHere=False):
            return problem
        here, there = ([channel["name"] for channel in listed[each].get("channels") or []] for each in (first, path))
        if here != there:
            return _("{one} and {other} see other images of a case. Segment with one after the other.").format(
                one=listed[first]["title"], other=listed[path]["title"]
            )
    return None


def whyNotOrgans(
    chosen: tuple[str, ...], model: dict[str, Any] | None, structures: list[dict[str, Any]], remedy: str
) -> str | None:
    """Organs that were chosen for other models are not known to these, of which ``model`` is the first."""
    if model is None:
        return None
    known = {normalized_name(structure["name"]) for structure in structures}
    unknown = [name for name in chosen if normalized_name(name) not in known]
    if not unknown:
        return None
    return _("The model {title} does not find {organs}. {remedy}").format(
        title=model["title"], organs=", ".join(unknown), remedy=remedy
    )


def whyNotMirror(models: Sequence[dict[str, Any] | None]) -> str | None:
    """Whether one of the chosen models, None where it is not listed, has not learned what it sees in a mirror image."""
    for model in models:
        if model is None:
            return _("Choose a model to see whether it can be shown mirror images.")
        if not model.get("mirror_axes"):
            return _(
                "The model {title} cannot be shown mirror images: it was not trained with such, along an axis without sides, "
                "and would lose by them."
            ).format(title=model["title"])
    return None
