"""What the documents refer to exists: files, headings, pictures, options of commands, and the software's own texts."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from blocks import DOCUMENTS, ROOT
from dinomix import cli

ALL = [*DOCUMENTS, ROOT / "Testing" / "README.md", ROOT / "CHANGELOG.md"]


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", ALL, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert not lost


def verbs_and_options(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """(verb, what stands behind it, options) of the commands in backticks."""
    for code in re.findall(r"`dinomix ([^`]+)`", text):
        words = code.split()
        yield words[0], (words[1:] or [""])[0], [word.split("=")[0] for word in words if word.startswith("--")]


@pytest.mark.parametrize("document", ALL, ids=name_of)
def test_verbs_and_options_in_sentences_exist(document: Path) -> None:
    unknown = []
    for verb, behind, options in verbs_and_options(prose(document)):
        if verb.startswith("--"):
            continue
        if not re.fullmatch(r"[a-z]+", verb) or verb not in cli.VERBS:
            unknown.append(verb)
            continue
        command: click.Command = importlib.import_module(f"dinomix.commands.{verb}").command
        if isinstance(command, click.Group):
            command = command.commands.get(behind, command)
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        unknown += [f"{verb} {option}" for option in options if option not in known]
    assert not unknown


def options_of_all_verbs() -> set[str]:
    commands = [importlib.import_module(f"dinomix.commands.{verb}").command for verb in cli.VERBS]
    return {option for command in commands for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs" / "troubleshooting.md"], ids=name_of)
def test_options_in_backticks_are_some_verbs(document: Path) -> None:
    named = {
        match for code in re.findall(r"`(--[^`]+)`", prose(document)) for match in re.findall(r"--[a-z][a-z-]+", code)
    }
    assert named - options_of_all_verbs() - {"--help", "--version", "--json", "--multi_gpu", "--num_processes"} == set()


def texts_of_the_software() -> str:
    """All texts in the sources, f-strings with ``...`` for what is put in, and those of the windows' forms."""
    found = []
    for folder in ("DINOMixEngine", "DINOMixSegment", "DINOMixTrain"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append(
                        "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(re.sub(r"\{\w*\}", "...", node.value))
        for path in (ROOT / folder).rglob("*.ui"):
            found += re.findall(r"<string>([^<]+)</string>", path.read_text("utf-8"))
    return "\n".join(found)


def test_troubleshooting_quotes_the_software() -> None:
    texts = texts_of_the_software()
    quoted = re.findall(r"\*\*(.+?)\*\*", prose(ROOT / "docs" / "troubleshooting.md"), re.DOTALL)
    parts = {part.strip() for text in quoted for part in " ".join(text.split()).split("...")}
    assert len(quoted) > 15
    assert [part for part in sorted(parts) if len(part) > 1 and part not in texts] == []
