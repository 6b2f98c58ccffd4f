"""Which volume and which model are meant, and why a volume cannot be segmented."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.scene.views import shownVolumes

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


def segmentableVolumes() -> list[vtkMRMLScalarVolumeNode]:
    """The volumes of the scene that can be segmented, the oldest first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if not node.GetHideFromEditors() and whyNotVolume(node) is None]


def obviousVolume() -> vtkMRMLScalarVolumeNode | None:
    """The volume shown in the slice views' background, else the only one, else the newest; None without any."""
    volumes = segmentableVolumes()
    shown = shownVolumes()
    return next((volume for volume in shown if volume in volumes), volumes[-1] if volumes else None)


def whyNotVolume(volume: vtkMRMLScalarVolumeNode) -> str | None:
    """The sentence that says why this volume cannot be segmented and what to do; None when it can."""
    name = volume.GetName()
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("{name} is a label map, not an image. Choose the image that it was made from.").format(name=name)
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        return _("The volume {name} has no voxels. Load it again, or choose another.").format(name=name)
    components = image.GetNumberOfScalarComponents()
    if components != 1 or volume.IsA("vtkMRMLVectorVolumeNode"):
        return _(
            "The volume {name} has {n} values in each voxel. Choose a volume with one value, such as a CT or an MR scan."
        ).format(name=name, n=components)
    return None


def modelFolder(model: str | None) -> str | None:
    """The folder that a script names a model by; None where it names none that is here."""
    path = Path(model).expanduser() if model is not None else None
    return str(path.resolve()) if path is not None and path.is_dir() else None


def namedModel(model: str | None, models: list[dict[str, Any]]) -> str:
    """The path of a listed model that is named by its path or its title; None means the only one.

    Raises:
        DinomixError: there is no such model, or not exactly one where None was given.
    """
    found = [each["path"] for each in models if model in (None, each["path"], each["title"])]
    if len(found) == 1:
        return str(found[0])
    names = ", ".join(each["title"] for each in models) or _("none")
    if model is None:
        problem = _("There is not exactly one model, so it must be named.")
    else:
        problem = _("There is no single model {model}.").format(model=model)
    raise DinomixError(problem, _("Give a model's folder, or one of these titles: {names}.").format(names=names))
