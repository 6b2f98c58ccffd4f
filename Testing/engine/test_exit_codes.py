"""The exit codes of docs/automation.md: those of the table are left with, and no others."""

import ast
import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dinomix import cli
from dinomix.errors import DinomixError

TABLE = Path(__file__).parents[2] / "docs/automation.md"


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(**ignored: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("called", "code"),
    [
        (lambda **ignored: None, 0),
        (raising(DinomixError("It is damaged.", "Get it again.")), 2),
        (raising(OSError(errno.ENOSPC, "No space left on device", "out.nii.gz")), 2),
        (raising(MemoryError()), 2),
        (raising(KeyboardInterrupt()), 130),
    ],
    ids=["done", "refused", "full disk", "no memory", "interrupted"],
)
def test_what_a_call_leaves_with(
    called: Callable[..., Any], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.group, "main", called)
    with pytest.raises(SystemExit) as left:
        cli.main(["models", "list"])
    assert left.value.code == code
    told = capsys.readouterr().err
    assert told.startswith("Error: ") == (code == 2) and len(told.splitlines()) == (code != 0)


def test_a_wrong_option_is_something_to_mend() -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["models", "list", "--nonsense"])
    assert left.value.code == 2


def test_the_table_has_every_code() -> None:
    rows = re.findall(r"^\| (\d+) \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    tree = ast.parse(Path(cli.__file__).read_text(encoding="utf-8"))
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Return) or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code")
    ]
    left_with = {
        part.value
        for value in filter(None, values)
        for part in ast.walk(value)
        if isinstance(part, ast.Constant) and type(part.value) is int
    }
    assert {int(row) for row in rows} == left_with == {0, 2, 130}
