"""Which widget classes a ``.ui`` file can name in Slicer: those that a Designer plugin makes, and Qt's own."""

import re
from functools import cache

from originals import sources


@cache
def pluginClasses() -> frozenset[str]:
    """Each plugin's own words: what its method ``name()`` returns. A plugin counts if a collection makes it."""
    places = (sources.folder("CTK_SOURCE"), sources.folder("SLICER_SOURCE"))
    paths = [
        path for place in places for folder in ("*Plugins", "*DesignerPlugins") for path in place.rglob(f"{folder}/*.*")
    ]
    texts = {
        path.stem + path.suffix: path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.suffix in (".h", ".cxx", ".cpp")
    }
    made = set(re.findall(r"new\s+(\w+Plugin)\b", "\n".join(texts.values())))
    names = {}
    for text in texts.values():
        for plugin, name in re.findall(r'QString\s+(\w+Plugin)::name\(\)\s*const\s*\{\s*return\s+"(\w+)"', text):
            names[plugin] = name
    return frozenset(name for plugin, name in names.items() if plugin in made)
