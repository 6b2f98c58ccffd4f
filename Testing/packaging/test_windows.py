"""The ``.ui`` files of the modules: mistakes that Qt shows as widgets on top of each other, or not at all."""

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("DINOMix*/Resources/UI/*.ui"))


def test_there_are_windows() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_two_items_of_a_layout_share_a_cell(file: Path) -> None:
    for layout in ET.parse(file).iter("layout"):
        cells = Counter((item.get("row"), item.get("column")) for item in layout.findall("item") if item.get("row"))
        shared = [cell for cell, count in cells.items() if count > 1]
        assert not shared, f"{layout.get('name')}: row and column {shared}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_buddy_is_a_widget_of_the_window(file: Path) -> None:
    tree = ET.parse(file)
    names = {widget.get("name") for widget in tree.iter("widget")}
    buddies = {p.findtext("cstring") for p in tree.iter("property") if p.get("name") == "buddy"}
    assert buddies <= names
