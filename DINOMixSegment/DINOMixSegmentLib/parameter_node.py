"""What the user has chosen; it is saved with the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class DINOMixSegmentParameterNode:
    """The choices of the module's window.

    inputVolume - the volume to segment; of a model that sees several images of a case, that of its first channel.
    moreChannels, moreVolumes - the names of its further channels, and the volume of each.
    modelPath - folder of the model; where the worker runs on another machine, a folder there.
    moreModels - folders of further models, whose organs come into the same result.
    outputSegmentation - where the result goes; None for a new segmentation.
    keep - names of the organs to keep; empty for all.
    device - "auto", "cpu", "cuda", "cuda:N" or "mps".
    maxMemoryGb - main memory in GiB that the worker may take; 0 for no limit.
    fullPrecision - whether the network computes in float32 even where fewer bits are expected to change nothing.
    allPieces - whether pieces that lie apart from the largest one of an organ are kept.
    mirror - whether mirror images are computed too and averaged, where the models can see some.
    cleanUp - which pieces of organs are kept: "" as the model does, "largest", or "size": those of at least cleanUpMl.
    cleanUpMl - milliliters.
    cleanUpOrgans - names of the organs that this is for; empty for all.
    inside - names of the organs in the box around which alone is computed; empty for the whole volume.
    replaceOthers - whether a result may erase other segments of outputSegmentation that it overlaps.
    show3D - whether surfaces are made and shown after segmenting.
    regions - whether the model's regions, such as a whole tumor, are added as segments of their own; for files, as masks.
    allFrames - whether all frames are segmented when the volume shows one frame of a sequence.
    batchSource - what the batch segments: "scene", "hierarchy" or "disk".
    batchInputFolder, batchOutputFolder - for "disk"; without an output folder, results are written beside the images.
    batchFormat - for "disk": one of dinomix.images.formats.FORMATS.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    moreChannels: list[str]
    moreVolumes: list[vtkMRMLScalarVolumeNode]
    modelPath: str
    moreModels: list[str]
    outputSegmentation: vtkMRMLSegmentationNode
    keep: list[str]
    device: str = "auto"
    maxMemoryGb: Annotated[float, WithinRange(0, 4096)] = 0
    fullPrecision: bool = False
    allPieces: bool = False
    mirror: bool = False
    cleanUp: str = ""
    cleanUpMl: Annotated[float, WithinRange(0.01, 10000)] = 0.5
    cleanUpOrgans: list[str]
    inside: list[str]
    replaceOthers: bool = False
    show3D: bool = True
    regions: bool = False
    allFrames: bool = False
    batchSource: str = "scene"
    batchInputFolder: str
    batchOutputFolder: str
    batchFormat: str = "seg.nrrd"
