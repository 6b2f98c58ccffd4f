"""The fenced blocks of the documents, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("", "bash")
"""Languages of blocks that hold commands; so does a block without one, unless it begins with a brace."""
DATA = ("text", "json", "dockerfile")
"""Languages of blocks that hold nothing to run."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: relative to the repository, with slashes.
        line: of its fence, from 1.
        language: what stands behind the fence.
    """

    document: str
    line: int
    language: str
    text: str

    @property
    def is_data(self) -> bool:
        return self.language in DATA or (not self.language and self.text.startswith("{"))

    @property
    def holds_commands(self) -> bool:
        return self.language in COMMANDS and not self.is_data

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(document: Path, root: Path = ROOT) -> list[Block]:
    """All fenced blocks of a document, in order; ValueError for a fence that is not closed."""
    found, language, start, lines = [], "", 0, []
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        fence = re.match(r"\s*```(\S*)\s*$", line)
        if fence and not start:
            language, start, lines = fence.group(1), number, []
        elif fence:
            name = document.relative_to(root).as_posix()
            found.append(Block(name, start, language, "\n".join(lines)))
            start = 0
        else:
            lines.append(line)
    if start:
        raise ValueError(f"{document}:{start}: the block is not closed")
    return found


def commands_of(text: str) -> list[list[str]]:
    """The commands of a block, one list of words each; comments and line continuations are resolved.

    Raises:
        ValueError: a pipe, a redirection or several commands on one line, which are not understood here.
    """
    commands = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        if any(set(word) <= set("|&;<>") for word in words):
            raise ValueError(f"not one simple command: {line}")
        if words:
            commands.append(words)
    return commands
