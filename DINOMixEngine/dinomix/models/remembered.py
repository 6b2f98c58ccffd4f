"""What is found out about a network by a run without values, remembered on this computer.

Such a run makes PyTorch load its compiler: more than a second of each start, for what stays the same.
"""

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import torch

from dinomix import __version__
from dinomix.files import json_text, read_table, write_json
from dinomix.user_cache import cache_folder

KEPT = 256
"""Facts that stay on the disk, those found last; a few bytes each."""


def remembered(what: str, network: torch.nn.Module, decides: list[Any], find: Callable[[], Any]) -> Any:
    """A fact about a network: plain JSON data that ``find`` gives, asked only where no earlier process has.

    Args:
        what: the kind of fact, for the name of its file.
        decides: plain JSON data that the fact depends on, beside the network's layers and the shapes of its weights.

    Raises what ``find`` raises, which is not remembered.
    """
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    versions = [torch.__version__, version("monai"), __version__]
    name = sha256(json_text([what, repr(network), shapes, decides, versions]).encode()).hexdigest()[:32]
    file = cache_folder() / "networks" / f"{what}-{name}.json"
    with suppress(OSError, ValueError, KeyError):
        return read_table(file)["found"]
    found = find()
    with suppress(OSError):  # found again by the next process
        write_json(file, {"found": found})
        facts = sorted(file.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in facts[:-KEPT]:
            old.unlink(missing_ok=True)
    return found
