"""Scans to try the module with, from Slicer's own collection of test data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

CATEGORY = "DINOMix"
STORE = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"


@dataclass(frozen=True)
class Sample:
    """A scan that Slicer's Sample Data module can download.

    Attributes:
        name: its name in the Sample Data module, also that of its picture there and of the volume node.
        file: the file's name.
        sha256: hash of the file, which is also its address.
        organs: words in the names of the structures that it is a good example of.
    """

    name: str
    file: str
    sha256: str
    organs: tuple[str, ...]

    def description(self) -> str:
        """What it is, where it comes from, and its license; a sentence or two."""
        return _descriptions()[self.name]


LIVER = Sample(
    "CTLiver",
    "CTLiver.nrrd",
    "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e",
    ("liver", "spleen", "kidney", "pancreas", "stomach", "gallbladder", "colon", "bladder"),
)
CARDIO = Sample(
    "CTACardio",
    "CTA-cardio.nrrd",
    "3b0d4eb1a7d8ebb0c5a89cc0504640f76a030b4e869e33ff34c564c3d3b88ad2",
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


def registerSampleData() -> None:
    """Offer the scans in Slicer's Sample Data module; connected to the end of Slicer's start."""
    try:
        from SampleData import SampleDataLogic
    except ImportError:
        return  # a Slicer without that module has no window to offer them in
    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # not in Slicer 5.10
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("DINOMix"))
    for sample in SAMPLES:
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.name,
            uris=STORE + sample.sha256,
            fileNames=sample.file,
            nodeNames=sample.name,
            checksums=f"SHA256:{sample.sha256}",
        )


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
    registerSampleData()
    try:
        node = SampleData.downloadSample(sample.name)
    except Exception as error:  # the module raises whatever the network library does
        raise DinomixError(
            _("{name} could not be downloaded ({reason}).").format(name=sample.name, reason=error), remedy
        ) from error
    if node is None:
        raise DinomixError(_("{name} could not be downloaded.").format(name=sample.name), remedy)
    return node
