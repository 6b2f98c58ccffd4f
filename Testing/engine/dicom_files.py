"""DICOM series, and segmentations (by highdicom) and structure sets that were drawn on them, for tests."""

import warnings
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from dinomix.images.volume import Geometry

ORGANS = {"Leber": codes.SCT.Liver, "spleen": codes.SCT.Spleen, "kidney": codes.SCT.Kidney}
GRID = Geometry((9, 7, 6), (0.75, 0.5, 3.0), (10.0, 20.0, -15.0), np.eye(3))


def write_ct(
    folder: Path,
    array: np.ndarray,
    grid: Geometry = GRID,
    *,
    uid: str = "",
    frame: str = "1.2.9",
    description: str = "",
) -> list[Dataset]:
    """A CT series of an array (k, j, i); its slices by k."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or str(generate_uid())[:48]
    slices = []
    for k, pixels in enumerate(array):
        data = _dataset(CTImageStorage, "CT", f"{uid}.{k + 1}", uid)
        data.FrameOfReferenceUID, data.SeriesDescription, data.InstanceNumber = frame, description, k + 1
        data.ImagePositionPatient = [*map(float, grid.origin + k * grid.spacing[2] * grid.direction[:, 2])]
        data.ImageOrientationPatient = [*map(float, grid.direction[:, :2].T.ravel())]
        data.PixelSpacing, data.SliceThickness = [grid.spacing[1], grid.spacing[0]], grid.spacing[2]
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = 0, 1, "HU"
        data.PixelData = pixels.astype("<i2").tobytes()
        data.save_as(folder / f"{uid}-{k:03}.dcm", enforce_file_format=True)
        slices.append(data)
    return slices


def write_seg(
    path: Path,
    slices: list[Dataset],
    array: np.ndarray,
    *,
    kind: str = "BINARY",
    names: list[str] | None = None,
    **more: Any,
) -> Path:
    """A segmentation of slices of a series by highdicom.

    Args:
        array: (slice, row, column), numbers of segments; or (slice, row, column, segment).
        names: of the segments; those of ``ORGANS`` when None.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = int(array.max()) if array.ndim == 3 else array.shape[3]
    described = [
        highdicom.seg.SegmentDescription(
            number, name, codes.SCT.Organ, ORGANS.get(name, codes.SCT.Tissue), algorithm_type="MANUAL"
        )
        for number, name in enumerate((names or list(ORGANS))[:count], 1)
    ]
    with warnings.catch_warnings(action="ignore"):
        segmentation = highdicom.seg.Segmentation(
            slices, array, kind, described, series_instance_uid=generate_uid(), series_number=9,
            sop_instance_uid=generate_uid(), instance_number=1, manufacturer="test", manufacturer_model_name="test",
            software_versions="1", device_serial_number="1", **more,
        )  # fmt: skip
    segmentation.save_as(path)
    return path


def write_structures(
    path: Path,
    slices: list[Dataset],
    drawn: dict[str, list[np.ndarray]],
    *,
    kind: str = "CLOSED_PLANAR",
    first: int = 1,
) -> Path:
    """A structure set; ``drawn`` has (n, 3) points in mm, LPS, for each contour of each name; ``first`` is the first number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _dataset(RTStructureSetStorage, "RTSTRUCT", str(generate_uid()), str(generate_uid()))
    data.StructureSetLabel = "test"
    series = Dataset()
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = Sequence([_reference(slice_) for slice_ in slices])
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", slices[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = Sequence([study])
    data.ReferencedFrameOfReferenceSequence = Sequence([frame])
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, (name, contours) in enumerate(drawn.items(), first):
        roi, shape = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = frame.FrameOfReferenceUID
        shape.ReferencedROINumber, shape.ContourSequence = number, Sequence()
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{value:.8g}" for value in np.ravel(points)]
            shape.ContourSequence.append(contour)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(shape)
    data.save_as(path, enforce_file_format=True)
    return path


def in_patient(points: list[tuple[float, float, float]], grid: Geometry = GRID) -> np.ndarray:
    """(n, 3) places in voxels (i, j, k) -> mm, LPS."""
    return np.array(points) * grid.spacing @ grid.direction.T + grid.origin


def _dataset(kind: str, modality: str, uid: str, series: str) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = kind, uid, modality
    data.SpecificCharacterSet = "ISO_IR 192"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SeriesNumber = "1.2.7", series, 1
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Test^A", "A", "", ""
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "", "", "", ""
    data.ReferringPhysicianName, data.Manufacturer = "", "test"
    return data


def _reference(slice_: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = slice_.SOPClassUID, slice_.SOPInstanceUID
    return item
