"""Every ``.ui`` file names only what Slicer's loader makes and what its widgets have."""

import xml.etree.ElementTree as ElementTree

import pytest

from originals import ours, plugins, qt5, sources

pytestmark = [
    pytest.mark.skipif(bool(sources.missing()), reason=sources.missing()),
    pytest.mark.parametrize("path", ours.uiFiles(), ids=lambda path: path.stem),
]
ofObjects = pytest.mark.skipif(bool(sources.missingForObjects()), reason=sources.missingForObjects())

LINES = {"Line": "QFrame"}
ACROSS = {"horizontalSpacing", "verticalSpacing"}
OF_LOADER = {
    "QLabel": {"buddy"},
    "Line": {"orientation"},
    "QLayout": {"spacing", "leftMargin", "topMargin", "rightMargin", "bottomMargin"},
    "QFormLayout": ACROSS,
    "QGridLayout": ACROSS,
}
"""What Qt's loader itself reads of a class, beside its properties."""


def elements(path, tag):
    return list(ElementTree.parse(path).iter(tag))


def test_classes_have_a_plugin(path):
    classes = {element.get("class") for element in elements(path, "widget")}
    assert not {name for name in classes if not (isQts(name) or name in plugins.pluginClasses())}


def isQts(name: str) -> bool:
    return name in LINES or (name.startswith("Q") and qt5.exists(name))


@ofObjects
def test_properties_exist(path):
    widgets = [*elements(path, "widget"), *elements(path, "layout")]
    assert not [
        f"{element.get('name')}: {element.get('class')}.{item.get('name')}"
        for element in widgets
        for item in element.findall("property")
        if item.get("stdset") != "0" and item.get("name") not in propertiesOf(element)
    ]


def propertiesOf(element) -> set[str]:
    name = element.get("class", "")
    lineage = [name, *sources.lineage(LINES.get(name, name))]
    extra = [OF_LOADER.get(cls, set()) for cls in lineage]
    return set().union(sources.propertiesOf(LINES.get(name, name)), *extra)


@ofObjects
def test_connections_exist(path):
    classes = {element.get("name"): element.get("class", "") for element in elements(path, "widget")}
    for connection in elements(path, "connection"):
        sender, signal, receiver, slot = (connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot"))
        assert not sources.lacks(classes[sender], signal)
        assert not sources.lacks(classes[receiver], slot.partition("(")[0])
