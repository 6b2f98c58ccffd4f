"""Networks as OpenVINO reads them: from the model folder, else converted once and kept in the user's cache folder.

A graph holds no image and nothing executable: layers, and the weights that the model folder has too.
"""

import os
import shutil
import weakref
from contextlib import suppress
from hashlib import sha256 as new_sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomix.files import folder_written_aside, json_text, read_table, sha256, write_json
from dinomix.inference.options import Numbers
from dinomix.models.averaged import Averaged
from dinomix.models.graph import carried_graph, read_eight_bits, read_graph, weights_beside_graph
from dinomix.models.manifest import eight_bit_files
from dinomix.models.networks import Network, each_of
from dinomix.models.silence import core, openvino
from dinomix.planning.plan import Plan
from dinomix.user_cache import cache_folder

if TYPE_CHECKING:
    import torch

KEPT = 8
"""Networks whose graphs stay on the disk, those used last; each takes as much as the weights in its model folder."""
GRAPH, HASHES = "graph.xml", "hashes.json"
FILES = (GRAPH, "graph.bin")

_FINGERPRINTS = weakref.WeakKeyDictionary[Any, str]()
_CHECKED = weakref.WeakKeyDictionary[Any, Path]()
"""Graphs that were found whole in this process, so that their weights are hashed once."""


def folder_of(network: Network, plan: Plan) -> Path:
    """Where what is known of a network of PyTorch's on this computer is kept; named by all that its logits depend on."""
    return cache_folder() / "runtimes" / _fingerprint(network, plan)


def _fingerprint(network: Any, plan: Plan) -> str:
    if network not in _FINGERPRINTS:
        if isinstance(network, Averaged):
            parts = [_fingerprint(each, plan) for each in network.networks]
            digest = new_sha256(json_text([parts, network.flips]).encode())
        else:
            digest = _digest(network, plan)
        _FINGERPRINTS[network] = digest.hexdigest()[:32]
    return _FINGERPRINTS[network]


def _digest(network: "torch.nn.Module", plan: Plan) -> Any:
    import torch

    built = [repr(network), *map(_settings, network.modules()), plan.network, list(plan.patch), len(plan.channels)]
    digest = new_sha256(json_text(built).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest


def _settings(module: "torch.nn.Module") -> str:
    """What a module is told beside its weights."""
    return repr({name: value for name, value in vars(module).items() if _is_plain(value)})


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def carries_eight_bits(network: Network) -> bool:
    """Whether a graph of 8 bits lies in the folder that a network was made of, of averaged networks for each."""
    networks = each_of(network)
    files = map(weights_beside_graph, networks)
    # Weights are read and compared only where there is such a graph.
    are_there = all(weights is not None and eight_bit_files(weights)[0].is_file() for weights in files)
    return are_there and all(carried_graph(each) is not None for each in networks)


def graph_of(network: Any, plan: Plan, numbers: Numbers) -> Any:
    """OpenVINO's model of one network, for windows of all sizes that it takes.

    Raises:
        OSError: it cannot be read, or kept on the disk.
        Exception: OpenVINO cannot take the network; of many kinds.
    """
    carried = carried_graph(network)
    if carried is not None:
        return read_eight_bits(carried) if numbers == "int8" else read_graph(carried)
    from dinomix.models.graph_writing import converted

    folder = folder_of(network, plan) / f"openvino-{version('openvino')}"
    if _CHECKED.get(network) != folder:
        if not _is_whole(folder):
            with folder_written_aside(folder) as aside:
                openvino().save_model(converted(network, plan), aside / GRAPH, compress_to_fp16=False)
                write_json(aside / HASHES, {name: sha256(aside / name) for name in FILES})
            _forget_oldest(folder.parent.parent)
        with suppress(OSError):  # in a folder that others write
            os.utime(folder.parent)
        _CHECKED[network] = folder
    return core().read_model(folder / GRAPH)


def _is_whole(folder: Path) -> bool:
    """OpenVINO itself would compute with damaged weights."""
    try:
        return read_table(folder / HASHES) == {name: sha256(folder / name) for name in FILES}
    except (OSError, ValueError):
        return False


def _forget_oldest(folder: Path) -> None:
    networks = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in networks[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
