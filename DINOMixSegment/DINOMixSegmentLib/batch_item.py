"""One row of the batch's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"


@dataclass(eq=False)
class BatchItem:
    """A volume of the scene, or an image on disk, and what became of it.

    Attributes:
        title: the volume's or the file's name.
        volume: the volume node; None for an image on disk.
        image: the image file or DICOM folder; None for a volume of the scene.
        out: the file to write, for an image on disk.
        state: "waiting", "running", "done", "failed" or "skipped".
        detail: a sentence for the reader: progress, what was written, or why it failed.
        progress: part of the work that is done, 0 to 1.
        segmentation: the resulting node, for a volume of the scene.
    """

    title: str
    volume: vtkMRMLScalarVolumeNode | None = None
    image: Path | None = None
    out: Path | None = None
    state: str = WAITING
    detail: str = ""
    progress: float = 0.0
    segmentation: vtkMRMLSegmentationNode | None = None
