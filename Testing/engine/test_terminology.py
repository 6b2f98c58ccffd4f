import pytest

from dinomix.labels import Structure
from dinomix.terminology import color_for, terminology_entry, terminology_for

SYNAPSE = """
spleen, right kidney, left kidney, gallbladder, esophagus, liver, stomach, aorta, inferior vena cava,
portal vein and splenic vein, pancreas, right adrenal gland, left adrenal gland
"""
AMOS = """
spleen, right kidney, left kidney, gall bladder, esophagus, liver, stomach, arota, postcava, pancreas,
right adrenal gland, left adrenal gland, duodenum, bladder, prostate/uterus
"""


def names_in(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


@pytest.mark.parametrize("name", sorted({*names_in(SYNAPSE), *names_in(AMOS)}))
def test_benchmark_organs_have_codes(name: str) -> None:
    terminology = terminology_for(name)
    assert terminology is not None
    assert {terminology.category.scheme, terminology.type.scheme} == {"SCT"}


@pytest.mark.parametrize("names", [names_in(SYNAPSE), names_in(AMOS)], ids=["synapse", "amos"])
def test_no_two_organs_of_a_benchmark_share_a_code_or_color(names: list[str]) -> None:
    assert len({terminology_for(name) for name in names}) == len(names)
    assert len({color_for(name, 1) for name in names}) == len(names)


def test_names_are_compared_by_their_words() -> None:
    right = terminology_for("kidney_right")
    assert right == terminology_for("Right Kidney") == terminology_for("RIGHT-KIDNEY")
    assert right is not None and right.modifier is not None
    assert (right.type.value, right.modifier.value) == ("64033007", "24028007")
    left = terminology_for("kidney_left")
    assert left is not None and left.modifier is not None
    assert left.modifier.value == "7771000"
    assert terminology_for("kidney").modifier is None


def test_vertebrae_and_ribs_of_totalsegmentator() -> None:
    assert terminology_for("vertebrae_L5").type.value == "49668003"
    assert terminology_for("rib_left_7").type.value == "24915002"
    assert terminology_for("rib_left_7").modifier.value == "7771000"


def test_ends_of_the_hippocampus() -> None:
    anterior, posterior = terminology_for("hippocampus_anterior"), terminology_for("posterior hippocampus")
    assert anterior.type == posterior.type
    assert (anterior.modifier.value, posterior.modifier.value) == ("255549009", "255551008")
    # Bare directions mean other things in other cohorts.
    assert terminology_for("anterior") is None


def test_unknown_structures_get_a_color_and_the_code_of_tissue() -> None:
    assert terminology_for("class_1") is None
    colors = {color_for(f"class_{n}", n) for n in range(1, 21)}
    assert len(colors) == 20
    entry = terminology_entry(None)
    assert entry.split("~")[1:3] == ["SCT^85756007^Tissue", "SCT^85756007^Tissue"]


@pytest.mark.parametrize("name", ["liver", "inferior vena cava", "hippocampus_posterior", "kidney_left", "class_3"])
def test_entries_have_slicers_seven_parts(name: str) -> None:
    structure = Structure(id=1, name=name, color=(1, 2, 3), terminology=terminology_for(name))
    parts = terminology_entry(structure.terminology).split("~")
    assert len(parts) == 7
    assert all(part.count("^") == 2 for index, part in enumerate(parts) if index not in (0, 4))
    general = "3D Slicer General Anatomy" in parts[0]
    assert general == (name in {"liver", "kidney_left", "class_3"})
