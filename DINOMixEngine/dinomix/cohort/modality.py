"""CT, MR or PET: whether intensities are Hounsfield units, which decides how they are scaled."""

from collections import Counter
from typing import Literal

from dinomix.errors import DinomixError

Modality = Literal["CT", "MR", "PT"]
"""CT: intensities are HU. MR and PET: they have no unit that is the same in another scan."""

_DECLARED: dict[str, Modality] = {
    "CT": "CT", "MR": "MR", "MRI": "MR", "T1": "MR", "T1W": "MR", "T1GD": "MR", "T2": "MR", "T2W": "MR", "FLAIR": "MR",
}  # fmt: skip


_PET = ("PT", "PET", "SUV")


def looks_like_hu(intensity: tuple[float, float, float]) -> bool:
    """Whether percentiles 0.5, 50 and 99.5 are those of a CT in HU: fat or air below, nothing denser than metal above.

    Air is -1000 HU and fat -100; MR has no negative intensities, or small ones after standardization.
    """
    low, middle, high = intensity
    return low < -50 and middle < 1000 and high < 5000


def modality_of_channel(
    name: str, intensities: dict[str, tuple[float, float, float]], dicom: dict[str, str]
) -> Modality:
    """What one of several channels holds: as its name or the DICOM headers say, else by its intensities."""
    if name.upper() in _PET or (dicom and set(dicom.values()) == {"PT"}):
        return "PT"
    return choose_modality("auto", intensities, dicom, name.upper())[0]


def choose_modality(
    requested: str,
    intensities: dict[str, tuple[float, float, float]],
    dicom: dict[str, str],
    declared: str | None,
) -> tuple[Modality, str, list[str]]:
    """The cohort's modality, the reason in words, and the names of cases that look different.

    Args:
        requested: "CT", "MR" or "auto".
        intensities: case name -> percentiles 0.5, 50, 99.5.
        dicom: case name -> DICOM modality, where there is one.
        declared: what ``dataset.json`` says.

    Raises:
        DinomixError: another ``requested``.
    """
    if requested not in ("CT", "MR", "auto"):
        raise DinomixError(f"The modality {requested} is not known.", "Give CT, MR or auto.")
    looks: dict[str, Modality] = {name: "CT" if looks_like_hu(values) else "MR" for name, values in intensities.items()}
    looks |= {name: _DECLARED[tag] for name, tag in dicom.items() if tag in _DECLARED}
    by_tag = sum(tag in _DECLARED for tag in dicom.values())
    chosen: Modality
    if requested != "auto":
        chosen, reason = ("CT" if requested == "CT" else "MR"), "as given"
    elif declared in _DECLARED:
        chosen, reason = _DECLARED[declared], "as dataset.json says"
    else:
        # The most frequent; CT wins a tie by the alphabet, so that the choice does not hang on the order of files.
        count = Counter(looks.values())
        chosen = max(sorted(count), key=lambda m: count[m])
        reason = "as the DICOM headers say" if by_tag == len(looks) else (
            "the intensities look like HU" if chosen == "CT" else "the intensities do not look like HU"
        )  # fmt: skip
    return chosen, reason, sorted(name for name, look in looks.items() if look != chosen)
