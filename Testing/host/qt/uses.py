"""Notes which attributes of Qt's objects this project's code uses, so that they can be looked up in the originals.

``watch`` turns it on; it costs time. What is noted is (class in C++, attribute), and for signals connected by text
(class in C++, ``clicked(bool)``).
"""

import types
from pathlib import Path

noted: set[tuple[str, str]] = set()
isWatching = False
_folders: tuple[str, ...] = ()


def watch(*folders: Path) -> None:
    """Note from now on what files below these folders use."""
    global _folders, isWatching
    isWatching = True
    _folders = tuple(f"{folder}/" for folder in folders)


def note(instance: object, name: str, frame: types.FrameType) -> None:
    """Note an attribute that was used in ``frame``, unless the object's own Python class declares it, or no class does."""
    code = frame.f_code
    # Qt, too, looks for attributes while such code runs: for Python's own versions of virtual functions.
    if not code.co_filename.startswith(_folders) or not (name in code.co_names or "(" in name):
        return
    for cls in type(instance).__mro__:
        isOriginal = cls.__module__.startswith(("PySide6", "host."))
        if isOriginal and ("(" in name or hasattr(cls, name)):
            noted.add((cls.__name__, name))
        if isOriginal or name in vars(cls):
            return
