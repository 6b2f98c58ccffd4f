"""Which volume and which model are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix.names import normalized_name
from dinomix_slicer.paths import isFolder
from dinomix_slicer.scene.views import shownVolumes
from dinomix_slicer.scene.volumes import imagesOfScene

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

    from dinomix.images.channel_files import Channel


def obviousVolume() -> vtkMRMLScalarVolumeNode | None:
    """The volume shown in the slice views' background, else the only one, else the newest; None without any."""
    volumes = imagesOfScene()
    shown = shownVolumes()
    return next((volume for volume in shown if volume in volumes), volumes[-1] if volumes else None)


def inOrder(
    volumes: Mapping[str, vtkMRMLScalarVolumeNode], channels: tuple[Channel, ...]
) -> list[vtkMRMLScalarVolumeNode]:
    """Volumes that are given by the names of channels, in the order of a model's.

    Raises:
        DinomixError: the model has other channels.
    """
    names = [channel.name for channel in channels]
    if sorted(names) != sorted(volumes):
        if names == [""]:
            raise DinomixError(_("The model sees one volume of a case."), _("Give the volume alone."))
        raise DinomixError(
            _("The model sees the channels {names}; {given} were given.").format(
                names=", ".join(names), given=", ".join(volumes) or _("none")
            ),
            _("Give a volume for each channel by its name."),
        )
    return [volumes[name] for name in names]


def modelFolder(model: str | None) -> str | None:
    """The folder that a script names a model by; None where it names none that is here."""
    path = Path(model).expanduser() if model is not None else None
    return str(path.resolve()) if path is not None and isFolder(path) else None


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


def joinedStructures(ofModels: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The structures of several models, in their order; what an earlier one knows by name or terminology is its own."""
    joined: list[dict[str, Any]] = []
    for structures in ofModels:
        names = {normalized_name(each["name"]) for each in joined}
        codes = [each["terminology"] for each in joined if each.get("terminology")]
        joined += [
            each
            for each in structures
            if normalized_name(each["name"]) not in names and each.get("terminology") not in codes
        ]
    return joined
