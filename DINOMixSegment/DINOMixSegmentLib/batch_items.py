"""What a batch is made of: volumes of the scene, of a folder of the subject hierarchy, or images on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
import vtk
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.images.formats import ENDINGS, Format, case_name, ending_of, is_segmentation
from dinomix.images.image_headers import is_image_path
from dinomix_slicer.models.folders import printable
from dinomix_slicer.paths import isFile, isFolder
from dinomix_slicer.scene.volumes import imagesOfScene

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"


@dataclass(eq=False)
class BatchItem:
    """A volume of the scene, or an image on disk, and what became of it. It keeps no node that has left the scene.

    Attributes:
        title: the volume's or the file's name, or those of all images of a case.
        volumeId: ID of the volume node; empty for an image on disk.
        image: the image file or DICOM folder; None for a volume of the scene.
        moreVolumeIds, moreImages: the same of the further images of a case, in the order of the model's channels.
        out: the file to write, for an image on disk.
        state: "waiting", "running", "done", "failed" or "skipped".
        detail: a sentence for the reader: progress, what was written, or why it failed.
        progress: part of the work that is done, 0 to 1.
        segmentationId: ID of the resulting node, for a volume of the scene.
        isOther: whether it failed because it is plainly no image for the model.
        unsure: (name, predicted Dice) of the organs that the model was unsure of, the least sure first.
    """

    title: str
    volumeId: str = ""
    image: Path | None = None
    out: Path | None = None
    state: str = WAITING
    detail: str = ""
    progress: float = 0.0
    segmentationId: str = ""
    moreVolumeIds: tuple[str, ...] = ()
    moreImages: tuple[Path, ...] = ()
    isOther: bool = False
    unsure: Sequence[tuple[str, str]] = ()

    @property
    def volume(self) -> vtkMRMLScalarVolumeNode | None:
        return slicer.mrmlScene.GetNodeByID(self.volumeId)

    @property
    def volumes(self) -> list[vtkMRMLScalarVolumeNode | None]:
        """Those of all channels; None for one that has left the scene."""
        return [slicer.mrmlScene.GetNodeByID(volumeId) for volumeId in (self.volumeId, *self.moreVolumeIds)]

    @property
    def segmentation(self) -> vtkMRMLSegmentationNode | None:
        return slicer.mrmlScene.GetNodeByID(self.segmentationId)


def itemsOfScene() -> list[BatchItem]:
    """Every volume of the scene that can be segmented."""
    return [BatchItem(volume.GetName(), volume.GetID()) for volume in imagesOfScene()]


def itemsOfHierarchyFolder(itemId: int) -> list[BatchItem]:
    """Every such volume under an item of the subject hierarchy, in its order; the item's own volume included."""
    return [BatchItem(volume.GetName(), volume.GetID()) for volume in volumesUnder(itemId)]


def volumesUnder(itemId: int) -> list[vtkMRMLScalarVolumeNode]:
    """The volumes that can be segmented among the nodes of an item of the subject hierarchy and all below it."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(itemId, children, True)
    inside = [itemId] + [children.GetId(index) for index in range(children.GetNumberOfIds())]
    volumes = imagesOfScene()
    nodes = [hierarchy.GetItemDataNode(item) for item in inside]
    return [node for node in nodes if node is not None and node in volumes]


def itemsOfDisk(folder: str, outputFolder: str = "", format: Format = "seg.nrrd") -> list[BatchItem]:
    """Every image file and DICOM folder in ``folder``, not deeper, or ``folder`` itself if it is a DICOM folder.

    Results go beside the images, or into ``outputFolder``.

    Raises:
        DinomixError: the folder is not there, cannot be read, or holds no image.
    """
    try:
        entries = sorted(Path(folder).iterdir())
    except OSError as error:
        raise DinomixError(
            _("The folder {folder} cannot be read ({reason}).").format(folder=folder, reason=error.strerror or error),
            _("Choose another folder with images."),
        ) from error
    images = [entry for entry in entries if isImageFile(entry) or isDicomFolder(entry)]
    if not images and isDicomFolder(Path(folder)):
        images = [Path(folder)]
    if not images:
        raise DinomixError(
            _("The folder {folder} holds no images.").format(folder=folder),
            _("Choose a folder with files that end in {endings}, or with DICOM folders.").format(
                endings=", ".join(ENDINGS)
            ),
        )
    return [
        BatchItem(
            printable(image.name), image=image, out=Path(outputFolder or image.parent) / (name + ending_of(format))
        )
        for image, name in _named(images)
    ]


def isImageFile(path: Path) -> bool:
    isNamedSo = path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")
    return isNamedSo and not is_segmentation(path) and isFile(path)


def isDicomFolder(path: Path) -> bool:
    """Whether a folder holds DICOM images, as the engine tells, whatever else lies there; results of ours are none."""
    try:
        return path.is_dir() and is_image_path(path)
    except OSError:
        return False


def _named(images: list[Path]) -> list[tuple[Path, str]]:
    """Each image and the name of its result; the whole file name where ``a.nii`` and ``a.nrrd`` are both there."""
    bases = [image.name if isFolder(image) else case_name(image) for image in images]
    return [(image, base if bases.count(base) == 1 else image.name) for image, base in zip(images, bases, strict=True)]
