"""Scans to try the module with, of those that Slicer's Sample Data module offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


@dataclass(frozen=True)
class Sample:
    """A scan that Slicer's Sample Data module can download.

    Attributes:
        name: its name in the Sample Data module, also that of the volume node.
        organs: words in the names of the structures that it is a good example of.
    """

    name: str
    organs: tuple[str, ...]

    def description(self) -> str:
        """What it is, where it comes from, and its license; a sentence or two."""
        return _descriptions()[self.name]


LIVER = Sample(
    "CTLiver",
    ("liver", "spleen", "kidney", "pancreas", "stomach", "gallbladder", "colon", "bladder"),
)
CARDIO = Sample(
    "CTACardio",
    ("heart", "atrium", "ventricle", "aorta", "myocardium", "pulmonary", "lung"),
)
SAMPLES = (LIVER, CARDIO)


def _descriptions() -> dict[str, str]:
    return {
        LIVER.name: _(
            "CTLiver is a CT scan of the abdomen from the Medical Segmentation Decathlon (Task03_Liver, license CC BY-SA 4.0)."
        ),
        CARDIO.name: _("CTACardio is a CT angiography scan of the chest from Slicer's own collection of test data."),
    }


def sampleFor(structures: list[str]) -> Sample:
    """The scan that shows most of these structures; the abdomen when none is known."""

    def found(sample: Sample) -> int:
        return sum(any(organ in name.lower() for organ in sample.organs) for name in structures)

    return max(SAMPLES, key=found)


def downloadSample(sample: Sample) -> vtkMRMLScalarVolumeNode:
    """Download and load a scan; one of that name that is in the scene already is taken instead.

    The caller has asked the user before. Slicer's Sample Data module keeps the file in its cache.

    Raises:
        DinomixError: there is no Sample Data module, or the download failed.
    """
    loaded = slicer.mrmlScene.GetFirstNodeByName(sample.name)
    if loaded is not None and loaded.IsA("vtkMRMLScalarVolumeNode"):
        return loaded
    try:
        import SampleData
    except ImportError as error:
        raise DinomixError(
            _("The example scan is loaded by Slicer's Sample Data module, which is not here."),
            _("Load a scan of your own instead."),
        ) from error
    remedy = _("Check the network connection and try again, or load a scan of your own.")
    try:
        node = SampleData.downloadSample(sample.name)
    except Exception as error:  # the module raises whatever the network library does
        raise DinomixError(
            _("{name} could not be downloaded ({reason}).").format(name=sample.name, reason=error), remedy
        ) from error
    if node is None:
        raise DinomixError(_("{name} could not be downloaded.").format(name=sample.name), remedy)
    return node
