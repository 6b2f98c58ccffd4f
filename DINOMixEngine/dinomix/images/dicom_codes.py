"""The codes of structures in DICOM segmentations and structure sets, as Slicer's terminology entries."""

from pathlib import Path
from typing import TYPE_CHECKING

from dinomix.images.dicom_drawn import is_structure_set, opened
from dinomix.terminology import ANATOMY, Code, Terminology, terminology_entry

if TYPE_CHECKING:
    from pydicom import Dataset


def codes_of_dicom(path: Path) -> dict[str, str]:
    """Name of a structure -> terminology entry, of those that have codes.

    Args:
        path: the file of a segmentation or structure set.

    Raises DinomixError when it is damaged.
    """
    with opened(path) as dataset:
        items = _of_rois(dataset) if is_structure_set(dataset) else _of_segments(dataset)
        found = {name: _terminology(item, kind) for name, item, kind in items}
    return {name: terminology_entry(codes) for name, codes in found.items() if codes is not None}


def _of_segments(dataset: "Dataset") -> list[tuple[str, "Dataset", str]]:
    """(name, item with codes, which of its sequences has the type)."""
    return [
        (str(item.get("SegmentLabel") or "").strip(), item, "SegmentedPropertyTypeCodeSequence")
        for item in dataset.SegmentSequence
    ]


def _of_rois(dataset: "Dataset") -> list[tuple[str, "Dataset", str]]:
    names = {roi.ROINumber: str(roi.get("ROIName") or "").strip() for roi in dataset.StructureSetROISequence}
    return [
        (names[item.ReferencedROINumber], item, "RTROIIdentificationCodeSequence")
        for item in dataset.get("RTROIObservationsSequence", [])
        if item.get("ReferencedROINumber") in names
    ]


def _terminology(item: "Dataset", kind: str) -> Terminology | None:
    types = item.get(kind)
    if not types or (code := _code(types[0])) is None:
        return None
    categories = item.get("SegmentedPropertyCategoryCodeSequence")
    modifiers = types[0].get("SegmentedPropertyTypeModifierCodeSequence")
    return Terminology(
        category=(_code(categories[0]) if categories else None) or ANATOMY,
        type=code,
        modifier=_code(modifiers[0]) if modifiers else None,
    )


def _code(item: "Dataset") -> Code | None:
    value = item.get("CodeValue") or item.get("LongCodeValue")
    if not value or not item.get("CodingSchemeDesignator"):
        return None
    # Slicer's entry is one line, cut at these marks.
    meaning = str(item.get("CodeMeaning", "")).replace("~", " ").replace("^", " ")
    return Code(scheme=str(item.CodingSchemeDesignator), value=str(value), meaning=meaning)
