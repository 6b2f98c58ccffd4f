"""A batch for a model that sees several images of a case: volumes and files that belong together by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.channel_files import CaseFiles, Channel, in_folder
from dinomix.images.formats import Format, ending_of, is_segmentation
from dinomix_slicer.models.folders import printable
from dinomix_slicer.scene.channels import casesOfVolumes
from dinomix_slicer.scene.volumes import imagesOfScene

from .batch_items import BatchItem, itemsOfDisk, itemsOfHierarchyFolder, itemsOfScene, volumesUnder

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


class Cases(NamedTuple):
    """What a batch segments, and sentences about what it leaves out."""

    items: list[BatchItem]
    leftOut: list[str]


def casesOfScene(channels: tuple[Channel, ...]) -> Cases:
    """The cases among the volumes of the scene that can be segmented."""
    return _casesOf(imagesOfScene(), channels) if len(channels) > 1 else Cases(itemsOfScene(), [])


def casesOfHierarchyFolder(itemId: int, channels: tuple[Channel, ...]) -> Cases:
    """Those among the volumes under an item of the subject hierarchy."""
    if len(channels) > 1:
        return _casesOf(volumesUnder(itemId), channels)
    return Cases(itemsOfHierarchyFolder(itemId), [])


def casesOfDisk(folder: str, outputFolder: str, format: Format, channels: tuple[Channel, ...]) -> Cases:
    """The cases of a folder, as ``dinomix segment`` finds them; results go beside the images, or into ``outputFolder``.

    Raises:
        DinomixError: the folder is not there, cannot be read, or holds no image.
    """
    if len(channels) == 1:
        return Cases(itemsOfDisk(folder, outputFolder, format), [])
    problems: list[DinomixError] = []
    try:
        cases = in_folder(Path(folder), channels, problems, withoutResults)
    except OSError as error:
        raise DinomixError(
            _("The folder {folder} cannot be read ({reason}).").format(folder=folder, reason=error.strerror or error),
            _("Choose another folder with images."),
        ) from error
    if not cases and not problems:
        raise DinomixError(
            _("The folder {folder} holds no images.").format(folder=folder),
            _("Choose a folder whose files name the channels {names}, or with a folder for each case.").format(
                names=", ".join(channel.name for channel in channels)
            ),
        )
    items = [_itemOfFiles(case, Path(outputFolder or folder), format) for case in cases]
    return Cases(items, [printable(problem.problem) for problem in problems])


def withoutResults(images: list[Path]) -> list[Path]:
    """Images without the segmentations that lie beside them."""
    return [image for image in images if not is_segmentation(image)]


def _itemOfFiles(case: CaseFiles, out: Path, format: Format) -> BatchItem:
    first, *more = dict.fromkeys(case.images)  # one file may hold all
    title = " + ".join(printable(image.name) for image in (first, *more))
    return BatchItem(title, image=first, moreImages=tuple(more), out=out / (case.name + ending_of(format)))


def _casesOf(volumes: list[vtkMRMLScalarVolumeNode], channels: tuple[Channel, ...]) -> Cases:
    cases, leftOut = casesOfVolumes(volumes, channels)
    return Cases([_itemOf(case) for case in cases], leftOut)


def _itemOf(case: list[vtkMRMLScalarVolumeNode]) -> BatchItem:
    title = " + ".join(volume.GetName() for volume in case)
    return BatchItem(title, case[0].GetID(), moreVolumeIds=tuple(volume.GetID() for volume in case[1:]))
