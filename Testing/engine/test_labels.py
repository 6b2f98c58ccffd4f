import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from dinomix.errors import DinomixError
from dinomix.labels import LabelSet, Structure, names_by_id
from dinomix.names import LONGEST, file_name, normalized_name


def test_a_label_set_is_sorted_and_survives_its_file(tmp_path: Path) -> None:
    labels = LabelSet.from_names({6: "liver", 2: "kidney_right", 300: "Größe 肝"})
    assert labels.ids == (2, 6, 300)
    assert labels.channels == 4
    labels.write(tmp_path / "labels.json")
    assert LabelSet.read(tmp_path / "labels.json") == labels
    assert labels.structures[1].terminology is not None
    assert labels.structures[1].terminology.type.meaning == "Liver"


@pytest.mark.parametrize(
    "data",
    [
        {"1": "liver", "2": "spleen"},
        {"labels": {"0": "background", "1": "liver", "2": "spleen"}, "name": "Decathlon"},
        {"labels": {"background": 0, "liver": 1, "spleen": 2}, "file_ending": ".nii.gz"},
    ],
)
def test_label_sets_of_other_programs(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert dict(zip(*(lambda s: (s.ids, s.names))(LabelSet.read(path)), strict=True)) == {1: "liver", 2: "spleen"}


@pytest.mark.parametrize(
    "text", ["", "hello", "[1, 2]", '{"labels": {}}', '{"labels": {"a": "b"}}', '{"1": "a", "2": "a"}']
)
def test_what_is_no_label_set_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DinomixError, match=r"labels\.json is not a label set"):
        LabelSet.read(path)


def test_channels_count_from_1_in_the_order_of_ids() -> None:
    assert LabelSet.from_names({300: "liver", 2: "spleen", 5: "aorta"}).channel_of == {2: 1, 5: 2, 300: 3}


def test_ids_and_names_are_unique() -> None:
    liver = Structure(id=1, name="liver", color=(1, 2, 3))
    with pytest.raises(ValidationError, match="same id"):
        LabelSet(structures=(liver, liver.model_copy(update={"name": "spleen"})))
    with pytest.raises(ValidationError, match="same name"):
        LabelSet(structures=(liver, liver.model_copy(update={"id": 2})))
    with pytest.raises(ValidationError):
        Structure(id=0, name="background", color=(0, 0, 0))


def test_names_are_compared_without_case_separators_and_order() -> None:
    same = ["Right Kidney", "kidney_right", "RIGHT-KIDNEY", "kidney/right", "the right kidney"]
    assert len({normalized_name(name) for name in same}) == 1
    assert normalized_name("kidney_left") != normalized_name("kidney_right")


def test_names_by_id_drops_the_background() -> None:
    assert names_by_id({"background": 0, "liver": 3}) == {3: "liver"}
    assert names_by_id({"0": "background", "3": "liver"}) == {3: "liver"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Größe 例", "Größe 例"),
        ("5: Thorax/Abdomen <1.5>", "5_ Thorax_Abdomen _1.5"),
        ("", "volume"),
        (" .. ", "volume"),
        ("\ud800", "volume"),
        ("aux", "volume_aux"),
        ("COM1", "volume_COM1"),
        ("a\tb\nc", "a_b_c"),
    ],
)
def test_names_that_every_system_takes_for_a_file(name: str, expected: str) -> None:
    assert file_name(name, "volume") == expected


def test_a_long_name_is_cut_between_two_characters() -> None:
    assert file_name("肝" * 100, "volume") == "肝" * (LONGEST // 3)
