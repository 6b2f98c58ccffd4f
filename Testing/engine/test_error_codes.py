"""Errors whose remedy names an option of the command line have a code, by which a window says it in its own words."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import dinomix
from dinomix import cli

PACKAGE = Path(dinomix.__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs/python_api.md"
TELLING = ("DinomixError", "Problem", "RunPaused", "Notice")
OPTION = re.compile(r"--[a-z]|`dinomix (check|segment|train|evaluate)")
# What no window calls.
OF_THE_COMMAND_LINE = ("commands", "evaluation", "demo", "report/overlays.py", "report/run_files.py")


def told() -> Iterator[tuple[str, str, str]]:
    """Where, the words, and the code of every error, problem, pause and notice that is written in the engine."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).as_posix().startswith(OF_THE_COMMAND_LINE):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: strings(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TELLING:
                words = " ".join(
                    constants.get(part.id, "") if isinstance(part, ast.Name) else strings(part)
                    for part in node.args[:2]
                )
                codes = [*node.args[2:3], *(word.value for word in node.keywords if word.arg == "code")]
                yield f"{path.name}:{node.lineno}", words, "".join(map(strings, codes))


def strings(node: ast.AST) -> str:
    return " ".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def documented() -> set[str]:
    cells = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return set(re.findall(r"[a-z-]+", " ".join(cells)))


def test_a_remedy_that_names_an_option_has_a_code() -> None:
    lacking = [where for where, words, code in told() if OPTION.search(words) and not code]
    assert not lacking


def test_the_codes_are_those_of_the_document() -> None:
    assert {code for _where, _words, code in told() if code} | {"usage"} == documented()


def test_an_error_event_has_the_code(capsys) -> None:  # type: ignore[no-untyped-def]
    for arguments, code in ((["compare", "nowhere", "--json"], "no-run"), (["rank", "--json"], "usage")):
        try:
            cli.main(arguments)
        except SystemExit as left:
            assert left.code == 2
        event = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert event["kind"] == "error" and event["code"] == code and event["remedy"]
