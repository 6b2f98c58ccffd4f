"""Values of a MONAI bundle's configuration, read as data: references and plain expressions, never Python that runs."""

import ast
import re
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_table

LARGEST_CONFIGURATION = 10**6
"""Bytes; the largest of the published ones has 20 KB."""
MOST_VALUES, LONGEST_TEXT = 10_000, 10_000
"""What all references of a configuration may stand for together, and the characters of an expression: far more than any has."""
_REFERENCE = re.compile(r"@([A-Za-z_][\w#]*)")
_STANDS_FOR = "reference_%d_"
_DOES_MORE = {
    "__import__", "eval", "exec", "compile", "open", "system", "popen", "spawn", "Popen", "check_output", "check_call",
    "subprocess", "socket", "shutil", "urllib", "requests", "http", "ctypes", "importlib", "builtins", "__builtins__",
    "pickle", "marshal", "pty", "rmtree", "unlink", "remove", "rmdir", "rename", "write_text", "write_bytes", "getattr",
    "globals", "locals", "__globals__", "__subclasses__", "__class__", "environ", "putenv", "kill", "fork", "execv", "execve",
}  # fmt: skip
"""Names that no configuration needs in order to segment."""


class BundleConfig:
    """``configs/inference.json`` of a MONAI bundle.

    Args:
        path: the file.
        changes: values that take the place of the file's, by id such as "displayable_configs#highres".

    Raises:
        DinomixError: the file cannot be read, or holds code that does more than describe a model.
    """

    def __init__(self, path: Path, changes: dict[str, Any] | None = None) -> None:
        self.path = path
        try:
            self.data = read_table(path, LARGEST_CONFIGURATION)
        except (OSError, ValueError) as error:
            raise DinomixError(f"{path} cannot be read ({reason_of(error)}).", "Get the bundle again.") from error
        _refuse_foul_code(self.data, path)
        self._resolved = 0
        for place, value in (changes or {}).items():
            *parents, leaf = place.split("#")
            target = self.data
            for parent in parents:
                target = target.setdefault(parent, {})
            target[leaf] = value

    def get(self, place: str, default: Any = None) -> Any:
        """The value at an id such as "inferer#overlap", with its references and plain expressions resolved.

        Raises:
            DinomixError: the value is code that is more than a constant, a choice, or a sum of texts.
        """
        found, value = self._raw(place)
        return self.resolve(value, place) if found else default

    def resolve(self, value: Any, place: str, depth: int = 0) -> Any:
        """``value`` with references and plain expressions resolved, in lists and tables too."""
        if depth > 20:
            raise self._refusal(place, "it refers to itself")
        self._resolved += 1
        if self._resolved > MOST_VALUES:
            raise self._refusal(place, f"its references stand for more than {MOST_VALUES:,} values")
        if isinstance(value, dict):
            return {key: self.resolve(inner, f"{place}#{key}", depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolve(inner, place, depth + 1) for inner in value]
        if not isinstance(value, str) or not value.lstrip().startswith(("$", "@", "%")):
            return value
        if value.lstrip().startswith("%"):
            raise self._refusal(place, "it points into another file")
        references: list[Any] = []

        def stand_in(match: re.Match[str]) -> str:
            found, target = self._raw(match[1])
            if not found:
                raise self._refusal(place, f"it refers to {match[0]}, which is not there")
            references.append(self.resolve(target, match[1], depth + 1))
            return _STANDS_FOR % (len(references) - 1)

        text = _REFERENCE.sub(stand_in, value.strip().removeprefix("$"))
        if len(text) > LONGEST_TEXT:
            raise self._refusal(place, f"it is an expression of {len(text):,} characters")
        try:
            return _plain(ast.parse(text.strip(), mode="eval").body, references)
        except (ValueError, SyntaxError, TypeError, IndexError, RecursionError, MemoryError):
            raise self._refusal(place, "it is code, and nothing of it was run") from None

    def _raw(self, place: str) -> tuple[bool, Any]:
        value: Any = self.data
        for part in place.split("#"):
            if isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
            else:
                return False, None
        return True, value

    def _refusal(self, place: str, why: str) -> DinomixError:
        return DinomixError(
            f"{self.path}: {place} cannot be read as a plain value: {why}.",
            "Write it as a plain value, or use another model.",
        )


def _plain(node: ast.AST, references: list[Any]) -> Any:
    """The value of an expression of constants, lists, references, ``a if b else c``, ``not``, ``-`` and sums of texts."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple():
            return [_plain(item, references) for item in node.elts]
        case ast.Name(id=name) if match := re.fullmatch(r"reference_(\d+)_", name):
            return references[int(match[1])]
        case ast.IfExp():
            test = _plain(node.test, references)
            return _plain(node.body if test else node.orelse, references)
        case ast.UnaryOp(op=ast.USub()):
            return -_plain(node.operand, references)
        case ast.UnaryOp(op=ast.Not()):
            return not _plain(node.operand, references)
        case ast.BinOp(op=ast.Add()):
            left, right = _plain(node.left, references), _plain(node.right, references)
            if isinstance(left, str) and isinstance(right, str) and len(left) + len(right) <= LONGEST_TEXT:
                return left + right
    raise ValueError("not a plain expression")


def _refuse_foul_code(value: Any, path: Path) -> None:
    """Nothing of a configuration is run here; but one that would harm elsewhere is no model that anyone should have."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_foul_code(inner, path)
            if key == "_target_" and isinstance(inner, str) and not _is_known_target(inner):
                raise _foul(path, inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_foul_code(inner, path)
    elif isinstance(value, str) and "$" in value[:2]:
        if len(value) > LONGEST_TEXT:
            raise _foul(path, value)
        try:
            tree = ast.parse(_REFERENCE.sub("reference", value.strip().lstrip("$")).strip())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return  # not Python: it cannot run anywhere either
        for node in ast.walk(tree):
            names = [getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "module", None)]
            names += [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            if any(part in _DOES_MORE for name in names if isinstance(name, str) for part in name.split(".")):
                raise _foul(path, value)


def _is_known_target(target: str) -> bool:
    """MONAI's own short names, and what lies in the packages that bundles are made of."""
    package = target.split(".")[0]
    return "." not in target or package in ("monai", "torch", "ignite", "torchvision", "scripts", "numpy")


def _foul(path: Path, text: str) -> DinomixError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return DinomixError(
        f"{path} is refused: it holds code that does more than describe a model ({shown}); nothing of it was run.",
        "Do not use this bundle.",
    )
