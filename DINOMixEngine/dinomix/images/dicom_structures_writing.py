"""RT structure sets (RTSTRUCT): contours around structures, in the slices of the source.

Read by the centers of voxels, a contour gives the labels that it was made of; its line is never farther than half a pixel from
their border. What is written is in DICOM PS3.3, A.19 (RT Structure Set IOD) and C.8.8.5, C.8.8.6, C.8.8.8 (its modules).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dinomix.images.bounding_boxes import bounding_boxes
from dinomix.images.dicom_header import STRUCTURE_SET
from dinomix.images.dicom_results import PRODUCT, Drawn, Maker, code_item, describe, drawn_of
from dinomix.images.dicom_source import SourceSeries
from dinomix.images.outlines import outlines
from dinomix.labels import LabelSet
from dinomix.terminology import Code

if TYPE_CHECKING:
    from pydicom import Dataset

_AFTER_SOURCE = 2000
"""What is added to the source's series number."""
_LONGEST_LABEL = 16
_CONTOUR_DATA = 0x30060050
_STUDY = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, by which structure sets name a study."""
_BY_A_NETWORK = Code(scheme="DCM", value="123110", meaning="Artificial Intelligence")


def write_structures(array: NDArray[Any], labels: LabelSet, source: SourceSeries, maker: Maker, path: Path) -> None:
    """Write labels (k, j, i) of the source's slices; each structure is an ROI, and so is each region.

    A structure that was not found is an ROI without contours.

    Raises:
        DinomixError: a name cannot stand in DICOM.
        OSError: the file cannot be written.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    drawn = drawn_of(labels)
    result = Dataset()
    result.file_meta = FileMetaDataset()
    # With explicit kinds of values, none may have more than 64 KB, which are some two thousand points.
    result.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    result.SpecificCharacterSet = "ISO_IR 192"
    result.SOPClassUID, result.SOPInstanceUID = STRUCTURE_SET, generate_uid(None)
    result.Modality, result.SeriesInstanceUID = "RTSTRUCT", generate_uid(None)
    result.OperatorsName = ""
    describe(result, source, maker, "Structures", _AFTER_SOURCE)
    result.StructureSetLabel, result.StructureSetName = maker.name()[:_LONGEST_LABEL], maker.name()
    result.StructureSetDate, result.StructureSetTime = result.SeriesDate, result.SeriesTime
    result.FrameOfReferenceUID = source.slices[0].FrameOfReferenceUID
    result.PositionReferenceIndicator = source.slices[0].get("PositionReferenceIndicator", "")
    result.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    result.StructureSetROISequence = [_roi(one, source, maker) for one in drawn]
    result.ROIContourSequence = _contours(array, drawn, source)
    result.RTROIObservationsSequence = [_observation(one) for one in drawn]
    result.ApprovalStatus = "UNAPPROVED"
    result.save_as(path, enforce_file_format=True)


def _frame_of_reference(source: SourceSeries) -> "Dataset":
    from pydicom import Dataset

    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.slices[0].SeriesInstanceUID
    series.ContourImageSequence = [_image(slice_) for slice_ in source.slices]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY, source.slices[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.slices[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(slice_: "Dataset") -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = slice_.SOPClassUID, slice_.SOPInstanceUID
    return item


def _roi(one: Drawn, source: SourceSeries, maker: Maker) -> "Dataset":
    from pydicom import Dataset

    algorithm, item = Dataset(), Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [code_item(_BY_A_NETWORK)]
    algorithm.AlgorithmName, algorithm.AlgorithmVersion = maker.name(one.name), maker.version
    algorithm.AlgorithmSource = PRODUCT
    item.ROINumber, item.ROIName, item.ROIGenerationAlgorithm = one.number, one.name, "AUTOMATIC"
    item.ReferencedFrameOfReferenceUID = source.slices[0].FrameOfReferenceUID
    item.ROIDerivationAlgorithmIdentificationSequence = [algorithm]
    return item


def _observation(one: Drawn) -> "Dataset":
    from pydicom import Dataset

    kind, item = code_item(one.terminology.type), Dataset()
    if one.terminology.modifier is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [code_item(one.terminology.modifier)]
    item.ObservationNumber = item.ReferencedROINumber = one.number
    item.SegmentedPropertyCategoryCodeSequence = [code_item(one.terminology.category)]
    item.RTROIIdentificationCodeSequence = [kind]
    item.RTROIInterpretedType = item.ROIInterpreter = ""
    return item


def _contours(array: NDArray[Any], drawn: list[Drawn], source: SourceSeries) -> "list[Dataset]":
    from pydicom import Dataset

    boxes, items = bounding_boxes(array), []
    for one in drawn:
        item = Dataset()
        item.ReferencedROINumber, item.ROIDisplayColor = one.number, list(one.color)
        found = [boxes[id] for id in one.ids if id in boxes]
        if found:
            box = tuple(
                slice(min(part[axis].start for part in found), max(part[axis].stop for part in found))
                for axis in range(3)
            )
            inside = np.isin(array[box], one.ids)
            item.ContourSequence = list(_contours_of(inside, box, source))
        items.append(item)
    return items


def _contours_of(inside: NDArray[np.bool_], box: tuple[slice, ...], source: SourceSeries) -> "Iterator[Dataset]":
    """The contours of a mask (k, j, i) that lies in a box of the source's voxels, slice by slice."""
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    for k, mask in enumerate(inside, box[0].start):
        for points in outlines(mask):
            text = _in_patient(points + np.array([box[2].start, box[1].start]), source.slices[k])
            item = Dataset()
            item.ContourImageSequence = [_image(source.slices[k])]
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            # As it is in the file: pydicom would make an object of each number.
            item[_CONTOUR_DATA] = RawDataElement(Tag(_CONTOUR_DATA), "DS", len(text), text, 0, True, True)
            yield item


def _in_patient(points: NDArray[np.float64], slice_: "Dataset") -> bytes:
    """Points (x, y) in pixels of a slice as the text of mm, LPS, by that slice's own header (PS3.3, C.7.6.2.1.1)."""
    corner = np.array(slice_.ImagePositionPatient, float)
    along_row, along_column = np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
    row_distance, column_distance = map(float, slice_.PixelSpacing)
    places = corner + points[:, :1] * column_distance * along_row + points[:, 1:] * row_distance * along_column
    text = "\\".join(f"{mm:.5f}" for mm in places.ravel().tolist())
    return (text + " " * (len(text) % 2)).encode("ascii")
