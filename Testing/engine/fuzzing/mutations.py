"""Ways to break bytes, lines and documents. Each takes a generator and gives something new; none changes what it was given."""

import copy
import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rng = np.random.Generator

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64,
    10**9, 10**18, -(2**31), -(2**63), 0.0, -0.0, 0.5, -1.5, 1e-7, 1e-30, 1e-300, 1e6, 1e30, 1e300,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "nan", "inf", "1e999", "99999999999", "%n", "%s%s%s", "%d", "%d 1 10 0", "%999999999d",
    "%03d 1 3 1", "LIST", "LIST 2", "LOCAL", "/etc/passwd", "../../x", "..", ".", "CON", "a/b", "a\\b", "é", "臓器",
    "\u202e", "x" * 300, "true", "false", "null", "(1,0,0)", "none", "raw", "gzip", "hex", "ascii", "bzip2", "big",
    "little", "1 1 1", "0 0 0", "1;rm -rf", "background", "ignore", "$import os", "@network",
    "monai.networks.nets.UNet", "os.system", "\x00", "\x1b[2J", "a\nb", "\t",
)  # fmt: skip


def pick(rng: Rng, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def broken_bytes(rng: Rng, data: bytes, within: int | None = None) -> bytes:
    """One change somewhere in the bytes, or among the first ``within``."""
    size = min(len(data), within or len(data))
    at = int(rng.integers(max(size, 1)))
    length = int(rng.integers(1, 1 + pick(rng, (1, 4, 16, 200))))
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :] if data else b"\1",
        lambda: data[:at] + rng.bytes(length) + data[at + length :],
        lambda: data[:at] + bytes(length) + data[at + length :],
        lambda: data[:at] + b"\xff" * length + data[at + length :],
        lambda: data[:at],
        lambda: data[:-length],
        lambda: data[:at] + data[at + length :],
        lambda: data[:at] + data[at : at + length] * 2 + data[at + length :],
        lambda: data + rng.bytes(length),
        lambda: data[:at] + rng.bytes(length) + data[at:],
        lambda: data[:at] + str(pick(rng, TEXTS)).encode() + data[at:],
    )
    return pick(rng, changes)()


def broken_field(rng: Rng, data: bytes, fields: dict[str, tuple[int, str, int]], order: str) -> bytes:
    """A number of a binary header set to another.

    Args:
        fields: name -> offset, type as ``struct`` has it, how many.
        order: "<" or ">".
    """
    offset, kind, count = fields[pick(rng, sorted(fields))]
    size = struct.calcsize(kind)
    at = offset + size * int(rng.integers(count))
    value = pick(rng, NUMBERS)
    if kind in "fd":
        with np.errstate(over="ignore"):
            packed = np.array(value, f"{order}f{size}").tobytes()
    else:
        whole = int(value) if math.isfinite(value) else 0
        packed = (whole & (256**size - 1)).to_bytes(size, "little" if order == "<" else "big")
    return data[:at] + packed + data[at + size :]


def broken_lines(rng: Rng, lines: list[str], separator: str) -> list[str]:
    """One change to the lines ``key<separator>value`` of a header in text."""
    lines = list(lines)
    at = int(rng.integers(len(lines)))
    key, found, value = lines[at].partition(separator)

    def with_value(new: object) -> list[str]:
        return [*lines[:at], f"{key}{found or separator}{new}", *lines[at + 1 :]]

    def with_word() -> list[str]:
        words = value.split() or [""]
        words[int(rng.integers(len(words)))] = str(pick(rng, (*NUMBERS, *TEXTS)))
        return with_value(" ".join(words))

    changes: tuple[Callable[[], list[str]], ...] = (
        with_word,
        with_word,
        lambda: with_value(pick(rng, TEXTS)),
        lambda: with_value(pick(rng, NUMBERS)),
        lambda: with_value(value + " " + str(pick(rng, NUMBERS))),
        lambda: with_value(" ".join(value.split()[:-1])),
        lambda: lines[:at] + lines[at + 1 :],
        lambda: [*lines[:at], lines[at], *lines[at:]],
        lambda: [*lines[:at], lines[at].upper(), *lines[at + 1 :]],
        lambda: [*lines[:at], str(pick(rng, TEXTS)), *lines[at:]],
        lambda: [*lines[:at], f"key{separator}{pick(rng, TEXTS)}", *lines[at:]],
        lambda: [
            *lines[:at],
            *[f"key{n}{separator}{n}" for n in range(int(pick(rng, (5, 1000, 50_000))))],
            *lines[at:],
        ],
        lambda: [lines[n] for n in rng.permutation(len(lines))],
    )
    return pick(rng, changes)()


def broken_document(rng: Rng, document: Any) -> Any:
    """One change somewhere in a document of JSON."""
    document = copy.deepcopy(document)
    holders = _holders(document)
    if not holders:
        return pick(rng, TEXTS)
    holder = pick(rng, holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return [document]
    key = pick(rng, keys)
    value = holder[key]
    what = int(rng.integers(10))
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[str(pick(rng, TEXTS))] = holder.pop(key)
    elif what == 2:
        holder[key] = [value]
    elif what == 3:
        holder[key] = {"x": value}
    elif what == 4 and isinstance(holder, list):
        holder.append(copy.deepcopy(value))
    elif what == 5 and isinstance(holder, list):
        holder.extend([copy.deepcopy(value) for _ in range(int(pick(rng, (2, 100, 5000))))])
    elif what == 6:
        holder[key] = pick(rng, (None, True, False, [], {}, [[]], [{}]))
    elif what == 7:
        holder[key] = nested(int(pick(rng, (3, 30, 90))))
    elif what == 8:
        holder[key] = pick(rng, TEXTS)
    else:
        holder[key] = pick(rng, NUMBERS)
    return document


def broken_text(rng: Rng, text: str) -> str:
    """A document's text, changed where a document cannot be."""
    at = int(rng.integers(len(text) + 1))
    half = "\\ud800"
    changes: tuple[Callable[[], str], ...] = (
        lambda: "[" * 100_000 + text,
        lambda: text[:at],
        lambda: text + text,
        lambda: "\ufeff" + text,
        lambda: text.replace(":", ": 1e999, \"x\":", 1),
        lambda: text.replace('"', f'"{half}', 1),
        lambda: text.replace("{", '{"a": 1, "a": 2, ', 1),
        lambda: text.replace("1", "1" * 5000, 1),
        lambda: text.replace("[", "[" * 100_000, 1).replace("]", "]" * 100_000, 1),
        lambda: text[:at] + str(pick(rng, TEXTS)) + text[at:],
        lambda: "",
    )  # fmt: skip
    return pick(rng, changes)()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def written(document: Any) -> bytes:
    """A document as JSON, with what JSON does not have where it is there."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _holders(document: Any) -> list[Any]:
    found, level = [], [document]
    while level:
        value = level.pop()
        if isinstance(value, (dict, list)):
            found.append(value)
            level.extend(value.values() if isinstance(value, dict) else value)
    return found
