"""All texts that a person sees in Slicer can be translated: they stand in the source as they are, and go through ``_()``.

Slicer's translators work on texts that Qt's lupdate finds in the sources of extensions; the translations themselves are kept in
github.com/Slicer/SlicerLanguageTranslations, so this repository holds none.
"""

import ast
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import index_rules
import list_files

ROOT = index_rules.ROOT
FOLDERS = [*(ROOT / module for module in index_rules.modules(ROOT)), ROOT / "DINOMixEngine" / "dinomix_slicer"]
SHOWN_PROPERTIES = {
    "text", "toolTip", "title", "windowTitle", "placeholderText", "statusTip", "whatsThis", "suffix", "prefix", "plainText",
    "specialValueText", "defaultText", "label", "helpText", "acknowledgementText", "html", "noneDisplay", "dialogTitle",
}  # fmt: skip
SHOWING_CALLS = {
    "DinomixError", "addAction", "addButton", "addItem", "addTab", "appendPlainText", "confirmOkCancelDisplay",
    "confirmYesNoDisplay", "delayDisplay", "errorDisplay", "getExistingDirectory", "getOpenFileName", "infoDisplay", "insertItem",
    "messageBox", "setHorizontalHeaderLabels", "setLabelText", "setPlaceholderText", "setStatusTip", "setText", "setTitle",
    "setToolTip", "setWindowTitle", "showStatusMessage", "warningDisplay",
}  # fmt: skip
NOT_SHOWN_CALLS = {
    "get", "getattr", "join", "resourcePath", "strftime", "value", "setValue", "replace", "split", "startswith", "endswith",
    "removesuffix", "removeprefix", "child", "findChild", "escape", "rstrip", "strip",
}  # fmt: skip
"""Calls whose literal arguments are names, separators or patterns."""
SENTENCE = re.compile(r"^[A-Z][a-z]+,? [a-z].*[.!?]$|^[A-Z][a-z]+( [a-z]+)+\.\.\.$")
"""What can only be a text for people: a sentence, wherever it stands."""

NOT_FOR_PEOPLE: dict[str, set[str]] = {}
"""File -> sentences that nobody sees in the window, such as those for a log."""


def sources() -> list[Path]:
    return [folder / name for folder in FOLDERS for name in list_files.known_files(folder) if name.endswith(".py")]


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_translation(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and called(node) in ("_", "translate")


def untranslated(node: ast.AST) -> Iterator[str]:
    """Texts with a word in an expression that is shown, that do not go through ``_()``."""
    if is_translation(node) or isinstance(node, ast.Subscript | ast.Compare | ast.Lambda):
        return
    if isinstance(node, ast.Call) and called(node) in NOT_SHOWN_CALLS:
        children: list[ast.AST] = [node.func, *(a for a in node.args if not isinstance(a, ast.Constant))]
    elif isinstance(node, ast.FormattedValue):
        children = [node.value]
    else:
        children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = re.sub(r"<[^>]*>|</?\w*|\w+=\"[^\"]*\"|&\w+;|\w+://\S*|[-\w]+: ?[^;]*;", " ", node.value)
        if re.search(r"[A-Za-z]{2,}", words):
            yield node.value
    for child in children:
        yield from untranslated(child)


def shown(tree: ast.AST) -> Iterator[ast.AST]:
    """Expressions whose values a person sees."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            if any(isinstance(target, ast.Attribute) and target.attr in SHOWN_PROPERTIES for target in node.targets):
                yield node.value
        elif isinstance(node, ast.Call) and called(node) in SHOWING_CALLS:
            yield from node.args


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the constants that stand by themselves: docstrings, and strings behind an attribute."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def problems(text: str) -> list[str]:
    """What in a source cannot be translated, with its line."""
    tree = ast.parse(text)
    found = []
    for node in ast.walk(tree):
        if is_translation(node):
            plain = all(
                isinstance(argument, ast.Constant) and isinstance(argument.value, str) for argument in node.args
            )
            if not plain or node.keywords or len(node.args) != (1 if called(node) == "_" else 2):
                found.append(f"{node.lineno}: not one text as it stands: {ast.unparse(node)}")
    for expression in shown(tree):
        found += [f"{expression.lineno}: shown, but not through _(): {said!r}" for said in untranslated(expression)]
    translated = {id(part) for node in ast.walk(tree) if is_translation(node) for part in ast.walk(node)}
    not_shown = docstrings(tree) | translated
    for node in ast.walk(tree):
        isText = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if isText and id(node) not in not_shown and SENTENCE.match(node.value):
            found.append(f"{node.lineno}: a sentence that does not go through _(): {node.value!r}")
    return sorted(set(found))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_go_through_translation(path: Path) -> None:
    allowed = NOT_FOR_PEOPLE.get(path.relative_to(ROOT).as_posix(), set())
    assert [said for said in problems(path.read_text("utf-8")) if not any(text in said for text in allowed)] == []


@pytest.mark.parametrize(
    "source",
    [
        '_(f"{n} cases")',
        '_("a" + name)',
        '_("{n} cases".format(n=n))',
        "_(text)",
        'label.text = "Ready"',
        'label.text = f"{name} is ready"',
        'label.text = _("Yes") if yes else "No"',
        'label.setToolTip("Make it so")',
        'raise DinomixError(_("This failed."), "Try again.")',
        'text = "Choose a volume first."',
        'translate(context, "Segmentation")',
    ],
)
def test_what_cannot_be_translated_is_found(source: str) -> None:
    assert problems(source)


@pytest.mark.parametrize(
    "source",
    [
        '_("{n} cases").format(n=n)',
        '_("one text " "over two lines")',
        'label.text = f"<b>{name}</b><br>{html.escape(text)}"',
        'label.text = _("Yes") if value == "yes" else facts["title"]',
        'label.setText(", ".join(names))',
        '"""A docstring of a module."""',
        'label.name = "organsLabel"',
        'label.text = f"{seconds:.0f} {unit}"',
    ],
)
def test_what_can_be_translated_is_let_pass(source: str) -> None:
    assert problems(source) == []


def forms() -> list[Path]:
    return [folder / name for folder in FOLDERS for name in list_files.known_files(folder) if name.endswith(".ui")]


@pytest.mark.parametrize("path", forms(), ids=lambda path: path.name)
def test_texts_of_forms_can_be_translated_and_names_are_not(path: Path) -> None:
    wrong = []
    for item in ET.parse(path).iter("property"):
        string = item.find("string")
        if string is None or not string.text:
            continue
        isShown = item.get("name") in SHOWN_PROPERTIES
        if isShown == (string.get("notr") == "true"):
            wrong.append(f"{item.get('name')}: {string.text}")
    assert wrong == []


def test_lupdate_finds_every_text(tmp_path: Path) -> None:
    # Not imported: that would tell the processes of later tests by their environment how enums are to be.
    package = find_spec("PySide6")
    if package is None:
        pytest.skip("lupdate comes with PySide6, which is not installed")
    program = next(
        (file for place in package.submodule_search_locations or () for file in Path(place).glob("lupdate*")), None
    )
    if program is None:
        pytest.skip("this PySide6 brings no lupdate")
    command = [program, "-tr-function-alias", "tr+=_", "-extensions", "py,ui", *FOLDERS, "-ts", tmp_path / "all.ts"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {source.text for source in ET.parse(tmp_path / "all.ts").iter("source")}
    marked = {
        node.args[-1].value
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and is_translation(node) and isinstance(node.args[-1], ast.Constant)
    }
    assert len(marked) > 300
    assert marked - found == set()
