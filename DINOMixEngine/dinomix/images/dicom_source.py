"""The DICOM series that a result in DICOM refers to: whose it is, and where each of its slices lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dinomix.errors import DinomixError
from dinomix.images.dicom import series_in_place
from dinomix.images.dicom_header import first_dicom_header
from dinomix.images.image_headers import is_dicom
from dinomix.images.shear import labels_at
from dinomix.images.volume import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

_REFERRED = {
    "0008|0016": "SOPClassUID", "0008|0018": "SOPInstanceUID", "0020|000d": "StudyInstanceUID",
    "0020|000e": "SeriesInstanceUID",
}  # fmt: skip
"""UIDs by which a result says what it was made of."""
_OF_A_SLICE = (
    *_REFERRED.values(), "FrameOfReferenceUID", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "Modality", "PositionReferenceIndicator", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
NEVER_MISSING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
"""Of patient and study, what a file must have; empty where nothing is known."""
_IDENTITY = (
    *NEVER_MISSING,
    # the patient
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "PatientBirthTime", "EthnicGroup",
    "PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    # the study, and the patient at its time
    "IssuerOfAccessionNumberSequence", "StudyDescription", "PhysiciansOfRecord", "ProcedureCodeSequence", "PatientAge",
    "PatientSize", "PatientWeight", "AdditionalPatientHistory", "TimezoneOffsetFromUTC",
    # a clinical trial
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)  # fmt: skip


@dataclass(frozen=True)
class SourceSeries:
    """A series, as results refer to it.

    Attributes:
        header: of the first slice, without pixels.
        slices: of each slice what names and places it, in the order of k; directions and pixel sizes are those of the first.
            Where the series has no frame of reference, which some programs take away with the patient's name, they have one that
            is the same for each result of the series.
        geometry: the grid of its own voxels, sheared where the gantry was tilted.
    """

    header: "Dataset"
    slices: "list[Dataset]"
    geometry: Geometry

    def on_slices(self, labels: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
        """Labels (k, j, i) on the series' own voxels.

        Args:
            geometry: the grid of ``labels``: the series' own, or the rectangular one that a tilted series is resampled onto.
        """
        if not geometry.difference(self.geometry):
            return labels
        return labels_at(labels, geometry.affine_ras, self.geometry.affine_ras, self.geometry.size[::-1])

    def give_identity(self, result: "Dataset") -> None:
        """Patient and study word for word as the series has them, also where that is not as the standard wants it."""
        for keyword in _IDENTITY:
            if keyword in self.header:
                result[keyword] = self.header[keyword]
            elif keyword in NEVER_MISSING:
                setattr(result, keyword, "")

    @property
    def number(self) -> int:
        """The series' number; 0 where it has none that can be counted on."""
        try:
            number = int(self.header.get("SeriesNumber") or 0)
        except (TypeError, ValueError):
            return 0
        return number if 0 <= number < 2**30 else 0


def check_dicom_source(image: Path) -> None:
    """Raises DinomixError where an image is no DICOM series that a result in DICOM can refer to; damage is told by reading it."""
    if not is_dicom(image):
        raise DinomixError(
            f"{image} is not DICOM, so there is no series that a result in DICOM can refer to.",
            "Give the DICOM series that it was made from, or another --format, such as seg.nrrd.",
            "dicom-source",
        )
    header = first_dicom_header(image)
    missing = [name for tag, name in _REFERRED.items() if header is not None and not header.tags.get(tag)]
    if missing:
        raise _cannot_be_referred_to(image, f"it has no {missing[0]}")


def read_source_series(image: Path) -> SourceSeries:
    """The series in a folder, or the one that a file belongs to.

    Raises:
        DinomixError: as ``check_dicom_source``; as ``read_series`` for what headers show; its slices are of several studies or
            frames of reference.
    """
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    check_dicom_source(image)
    files, geometry = series_in_place(image)
    header = dcmread(files[0], stop_before_pixels=True)
    header.decode()
    slices = [dcmread(file, stop_before_pixels=True, specific_tags=list(_OF_A_SLICE)) for file in files]
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if len({slice_.get(name) for slice_ in slices}) > 1:
            raise _cannot_be_referred_to(image, f"its slices differ in the {name}")
    frame = slices[0].get("FrameOfReferenceUID") or generate_uid(entropy_srcs=[slices[0].SeriesInstanceUID])
    for slice_ in slices:
        slice_.FrameOfReferenceUID = frame
        slice_.ImageOrientationPatient, slice_.PixelSpacing = slices[0].ImageOrientationPatient, slices[0].PixelSpacing
        slice_.SliceThickness = slice_.get("SliceThickness") or f"{geometry.spacing[2]:.6g}"
    return SourceSeries(header, slices, geometry)


def _cannot_be_referred_to(image: Path, why: str) -> DinomixError:
    return DinomixError(
        f"No result in DICOM can refer to {image}: {why}.",
        "Export the series again from the archive, or give another --format, such as seg.nrrd.",
        "dicom-source",
    )
