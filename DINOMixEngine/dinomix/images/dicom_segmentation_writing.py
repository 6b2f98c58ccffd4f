"""DICOM segmentations (SEG) written by highdicom: a frame of bits for each structure and slice, on the slices of the source."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dinomix import __version__
from dinomix.images.dicom_results import PRODUCT, Drawn, Maker, code_item, describe, drawn_of
from dinomix.images.dicom_source import NEVER_MISSING, SourceSeries
from dinomix.images.stored import check_memory
from dinomix.labels import LabelSet

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

_AFTER_SOURCE = 1000
"""What is added to the source's series number."""
_COPIES = 3
"""Of overlapping masks, highdicom's own included."""


def write_segmentation(array: NDArray[Any], labels: LabelSet, source: SourceSeries, maker: Maker, path: Path) -> None:
    """Write labels (k, j, i) of the source's slices; each structure is a segment, and so is each region.

    Frames are sorted by segment and then by slice; empty ones are left out. Where nothing was found, there is an empty frame of
    each structure in the first slice, since a segmentation without a frame is none.

    Raises:
        DinomixError: a name cannot stand in DICOM.
        OSError: the file cannot be written.
    """
    from highdicom import UID, CoordinateSystemNames, PlanePositionSequence
    from highdicom.seg import Segmentation

    drawn = drawn_of(labels)
    first = source.slices[0]
    # highdicom wants all of these; afterwards the source's own take their place.
    for keyword in NEVER_MISSING:
        if keyword not in first:
            setattr(first, keyword, "")
    found, where = bool(array.any()), {}
    if not found:
        where["plane_positions"] = [PlanePositionSequence(CoordinateSystemNames.PATIENT, first.ImagePositionPatient)]
    with warnings.catch_warnings(action="ignore"):
        segmentation = Segmentation(
            source.slices,
            _pixels(array if found else array[:1], drawn, path),
            "BINARY",
            [_description(one, maker) for one in drawn],
            series_instance_uid=UID(), series_number=1, sop_instance_uid=UID(), instance_number=1,
            manufacturer=PRODUCT, manufacturer_model_name=PRODUCT, software_versions=__version__, device_serial_number="0",
            content_label="SEGMENTATION", content_creator_name="", specific_character_set="ISO_IR 192", omit_empty_frames=found,
            **where,
        )  # fmt: skip
        describe(segmentation, source, maker, "Segmentation", _AFTER_SOURCE)
        segmentation.save_as(path)


def _pixels(array: NDArray[Any], drawn: list[Drawn], path: Path) -> NDArray[Any]:
    """(k, j, i), numbers of segments; or (k, j, i, segment), 0 or 1, where regions lie over their structures."""
    highest = max(max(one.ids) for one in drawn)
    if all(len(one.ids) == 1 for one in drawn):
        numbers = np.zeros(highest + 1, array.dtype)
        for one in drawn:
            numbers[one.ids[0]] = one.number
        return numbers[array]
    check_memory(_COPIES * array.size * len(drawn), path)
    masks = np.zeros((*array.shape, len(drawn)), np.uint8)
    for one in drawn:
        inside = np.zeros(highest + 1, np.uint8)
        inside[list(one.ids)] = 1
        masks[..., one.number - 1] = inside[array]
    return masks


def _description(one: Drawn, maker: Maker) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    described = SegmentDescription(
        one.number,
        one.name,
        codes.SCT.Tissue,
        codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=maker.name(one.name),
            family=codes.DCM.ArtificialIntelligence,
            version=maker.version,
            source=PRODUCT,
        ),
        display_color=CIELabColor.from_rgb(*one.color),
    )
    described.SegmentedPropertyCategoryCodeSequence = [code_item(one.terminology.category)]
    described.SegmentedPropertyTypeCodeSequence = [type_ := code_item(one.terminology.type)]
    if one.terminology.modifier is not None:
        type_.SegmentedPropertyTypeModifierCodeSequence = [code_item(one.terminology.modifier)]
    return described
