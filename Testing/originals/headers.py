"""Reads what a C++ header declares: of Qt's objects what Python can reach, of VTK's classes the names of the methods."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

CLASS = re.compile(r"\bclass\s+(?:\w+_EXPORT\s+)?(\w+)(?:\s+final)?\s*(?::\s*([^{};]+))?\{")
ACCESS = re.compile(r"\b(public|protected|private|signals|Q_SIGNALS)\s*(slots|Q_SLOTS)?\s*:(?!:)")
MACRO = re.compile(r"\b(Q_[A-Z_]+|QVTK_OBJECT|QT_[A-Z_]+)\b")
VTK_MACRO = re.compile(r"\bvtk(\w*)Macro\s*\(\s*(\w+)")


@dataclass
class CppClass:
    """What a class declares itself, its bases not included.

    Attributes:
        properties: name -> C++ type.
        writable: the properties that can be set.
        signals: normalized signatures.
        callable: names that Python can call: public slots and what is marked ``Q_INVOKABLE``.
        returns: name of a method -> C++ type without ``*``, ``&`` and ``const``.
        values: names of enums that Qt knows, and of their values.
        methods: all public methods.
        constructors: the types of their arguments.
    """

    name: str
    bases: tuple[str, ...]
    properties: dict[str, str] = field(default_factory=dict)
    writable: set[str] = field(default_factory=set)
    signals: set[str] = field(default_factory=set)
    callable: set[str] = field(default_factory=set)
    returns: dict[str, str] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    constructors: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def reachable(self) -> set[str]:
        """What Python finds as an attribute of an object of the class, if it is a QObject."""
        return {*self.properties, *self.callable, *self.values, *(text.partition("(")[0] for text in self.signals)}


@cache
def classesIn(path: Path) -> tuple[CppClass, ...]:
    """The classes that a header defines."""
    return tuple(readClasses(path.read_text(encoding="utf-8", errors="replace")))


def readClasses(text: str) -> Iterator[CppClass]:
    text = withoutComments(text)
    for match in CLASS.finditer(text):
        bases = [re.sub(r"\b(public|protected|private|virtual)\b", "", base) for base in split(match[2] or "")]
        read = CppClass(match[1], tuple(base.strip() for base in bases))
        readBody(read, textWithin(text, match.end() - 1))
        yield read


def withoutComments(text: str) -> str:
    """Without comments, texts and lines of the preprocessor."""
    text = re.sub(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', lambda m: '""' if m[0][0] == '"' else " ", text, flags=re.S
    )
    return re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", "", text, flags=re.M)


def textWithin(text: str, start: int) -> str:
    """What is between the bracket at ``start`` and the one that closes it."""
    closing = {"{": "}", "(": ")"}[text[start]]
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == text[start]) - (text[position] == closing)
        if depth == 0:
            return text[start + 1 : position]
    return text[start + 1 :]


def split(text: str, separator: str = ",") -> list[str]:
    """Parts of a text at separators outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<([{") - (character in ">)]}")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def readBody(cls: CppClass, body: str) -> None:
    body, macros = takeMacros(body)
    for name, arguments in macros:
        if name == "Q_PROPERTY":
            words = re.match(r"\s*([\w:<>,\s]*?[\w>&*]\s*[*&]?)\s*(\w+)\s+(?=READ|MEMBER|WRITE)", arguments)
            if words:
                cls.properties[words[2]] = words[1].replace(" ", "")
                cls.writable |= {words[2]} if re.search(r"\b(WRITE|MEMBER)\b", arguments) else set()
        elif name in ("Q_ENUM", "Q_ENUMS", "Q_FLAG", "Q_FLAGS"):
            cls.values |= set(arguments.replace(",", " ").split())
    for section, text in sections(body):
        for statement in statements(text):
            readStatement(cls, section, statement)
    for macro, name in VTK_MACRO.findall(body):
        for start in ("Set", "Get"):
            cls.methods |= {f"{start}{name}"} if start in macro else set()
        if "Boolean" in macro:
            cls.methods |= {f"{name}On", f"{name}Off"}
    flags = [split(arguments) for name, arguments in macros if name == "Q_DECLARE_FLAGS"]
    cls.values |= {enum.strip() for name, enum in flags if name.strip() in cls.values}
    for name, values in re.findall(r"\benum\s+(?:class\s+)?(\w*)\s*(?::\s*\w+\s*)?\{([^}]*)\}", body):
        names = {value.partition("=")[0].strip() for value in split(values)}
        cls.methods |= names  # VTK shows every public enum
        if name in cls.values:
            cls.values |= names


def takeMacros(body: str) -> tuple[str, list[tuple[str, str]]]:
    """The body without Qt's macros but ``Q_INVOKABLE``, and those macros with their arguments."""
    taken, kept, position = [], "", 0
    for match in MACRO.finditer(body):
        if match.start() < position or match[1] in ("Q_INVOKABLE", "Q_SIGNALS", "Q_SLOTS"):
            continue
        kept += body[position : match.start()]
        position = match.end()
        opening = re.match(r"\s*\(", body[position:])
        arguments = ""
        if opening:
            arguments = textWithin(body, position + opening.end() - 1)
            position += opening.end() + len(arguments) + 1
        taken.append((match[1], arguments))
    return kept + body[position:], taken


def sections(body: str) -> Iterator[tuple[str, str]]:
    """("public", "public slots", "signals" or "other", the declarations in it) each; a class begins as private."""
    section, position = "other", 0
    for match in ACCESS.finditer(body):
        yield section, body[position : match.start()]
        position = match.end()
        if match[1] in ("signals", "Q_SIGNALS"):
            section = "signals"
        elif match[1] == "public":
            section = "public slots" if match[2] else "public"
        else:
            section = "other"
    yield section, body[position:]


def statements(text: str) -> Iterator[str]:
    """Declarations, those with a body without it."""
    current, depth = "", 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth == 0 and character in ";}":
            yield " ".join(current.split())
            current = ""
        elif depth == 0:
            current += character


def readStatement(cls: CppClass, section: str, statement: str) -> None:
    match = re.search(r"(~?\b\w+)\s*\(", statement)
    if (
        section == "other"
        or not match
        or re.search(r"\b(typedef|using|friend|operator|enum)\b", statement[: match.end()])
    ):
        return
    name, before = match[1], statement[: match.start()]
    arguments = split(textWithin(statement, match.end() - 1))
    if name == cls.name:
        cls.constructors.append(tuple(argumentType(argument) for argument in arguments))
        return
    if not before.strip() or name.startswith("~"):
        return
    if section == "signals":
        cls.signals |= set(signatures(name, arguments))
        return
    cls.methods.add(name)
    returned = re.sub(
        r"\b(const|static|virtual|inline|explicit|Q_INVOKABLE|[A-Z_]+_EXPORT)\b|[*&]", " ", before
    ).split()
    cls.returns.setdefault(name, returned[-1] if returned else "")
    if section == "public slots" or "Q_INVOKABLE" in before:
        cls.callable.add(name)


def signatures(name: str, arguments: list[str]) -> Iterator[str]:
    """The signature as Qt normalizes it, and the shorter ones where last arguments have default values."""
    needed = next((index for index, argument in enumerate(arguments) if "=" in argument), len(arguments))
    types = [argumentType(argument) for argument in arguments if argument.strip() != "void"]
    for count in range(needed, len(types) + 1):
        yield f"{name}({','.join(types[:count])})"


def argumentType(argument: str) -> str:
    """``const QString& text = ""`` -> ``QString``, ``vtkMRMLNode* node`` -> ``vtkMRMLNode*``."""
    text = argument.partition("=")[0].strip()
    words = re.match(r"^(.*[\w>\]*&])(?:\s+|(?<=[*&]))(\w+)$", text)
    if words and words[1].strip() not in ("const", "unsigned", "long", "signed", "struct", "enum"):
        text = words[1]
    text = re.sub(r"^const\s+(.*?)\s*&$", r"\1", text.strip())
    text = re.sub(r"^(\w+)\s+const\s*&$", r"\1", text)
    text = re.sub(r"\s*([*&<>,:])\s*", r"\1", text)
    return re.sub(r"^const (?!.*[*&])", "", text)
