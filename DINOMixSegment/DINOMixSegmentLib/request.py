"""What one segmentation is to do, held apart from the parameter node, which the user may change meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dinomix_slicer.scene.channels import ONE_IMAGE
from dinomix_slicer.worker.computing import AUTOMATIC, Computing

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

    from dinomix.images.channel_files import Channel
    from dinomix_slicer.worker.job import Result

    from .parameter_node import DINOMixSegmentParameterNode

GIB = 2**30
LARGEST_PIECE, PIECES_OF_SIZE = "largest", "size"
"""What the parameter ``cleanUp`` may be, beside empty."""


def cleanUpOf(node: DINOMixSegmentParameterNode) -> dict[str, str]:
    """Organ -> which of its pieces are kept, as ``Computing`` has it; an empty name stands for all."""
    rules = {LARGEST_PIECE: "largest", PIECES_OF_SIZE: f"{node.cleanUpMl:g}ml"}
    rule = rules.get(node.cleanUp)
    return dict.fromkeys(list(node.cleanUpOrgans) or [""], rule) if rule is not None else {}


@dataclass(frozen=True)
class SegmentRequest:
    """One volume, one model or several, and where the result goes.

    Attributes:
        volume: the volume, on whose grid the result lies; None in a request that is a batch's template.
        model: the model's folder, as the worker sees it.
        output: the segmentation to write into; None for a new one.
        keep: names of the organs to keep; empty for all.
        computing: device, memory, precision, mirror images, where is computed and which pieces are kept.
        replaceOthers: whether overlapped segments of ``output`` may be erased.
        show3D: whether surfaces are made afterwards.
        allFrames: whether all frames of the volume's sequence are segmented.
        regions: whether the model's regions, such as a whole tumor, are added as segments of their own; for a file, as masks.
        moreModels: folders of the models that come after ``model``: what that knows or has found is its own.
        more: of a model that sees several images of a case, the volumes of its further channels in its order; None where none
            is chosen.
    """

    volume: vtkMRMLScalarVolumeNode | None
    model: str
    output: vtkMRMLSegmentationNode | None = None
    keep: tuple[str, ...] = ()
    computing: Computing = AUTOMATIC
    replaceOthers: bool = False
    show3D: bool = True
    allFrames: bool = False
    regions: bool = False
    more: tuple[vtkMRMLScalarVolumeNode | None, ...] = ()
    moreModels: tuple[str, ...] = ()

    @classmethod
    def fromParameterNode(
        cls, node: DINOMixSegmentParameterNode, channels: tuple[Channel, ...] = ONE_IMAGE, canMirror: bool = True
    ) -> SegmentRequest:
        """``channels`` are those of the model; ``canMirror`` is whether the models can see mirror images."""
        chosen = dict(zip(node.moreChannels, node.moreVolumes, strict=False))
        return cls(
            volume=node.inputVolume,
            model=node.modelPath,
            output=node.outputSegmentation,
            keep=tuple(node.keep),
            computing=Computing(
                device=node.device,
                maxMemory=int(node.maxMemoryGb * GIB) or None,
                precision="float32" if node.fullPrecision else "auto",
                allPieces=node.allPieces,
                mirror=node.mirror and canMirror,
                cleanUp=cleanUpOf(node),
                inside=tuple(node.inside),
            ),
            replaceOthers=node.replaceOthers,
            show3D=node.show3D,
            allFrames=node.allFrames,
            regions=node.regions,
            more=tuple(chosen.get(channel.name) for channel in channels[1:]),
            moreModels=tuple(path for path in node.moreModels if path != node.modelPath),
        )

    def segmentsOf(self, result: Result) -> list[dict[str, Any]]:
        """What of a result becomes a segment: STRUCTURE dicts, and REGION dicts where they are wanted."""
        return [*result.structures, *(result.regions if self.regions else ())]

    @property
    def volumes(self) -> tuple[vtkMRMLScalarVolumeNode | None, ...]:
        """Those of all channels."""
        return (self.volume, *self.more)

    def forVolumes(self, volumes: Sequence[vtkMRMLScalarVolumeNode]) -> SegmentRequest:
        """The same for the images of another case, into a new segmentation."""
        return replace(self, volume=volumes[0], more=tuple(volumes[1:]), output=None, allFrames=False)
