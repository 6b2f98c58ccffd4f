"""What a model folder holds, and the manifest that tells whether it is whole. Neither torch nor weights are needed for this."""

import os
from pathlib import Path
from typing import Any

from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_table, sha256, write_json
from dinomix.planning.plan import MOST_NETWORKS

FORMAT = "dinomix-model"
ONE_STAGE, TWO_STAGES, CHANNELS_OR_REGIONS, ENSEMBLE_OR_CLEAN_UP, WHEREABOUTS = 1, 2, 3, 4, 5
"""Versions of the format: readers that do not know second stages, several images of a case or regions, several networks or
rules of clean-up, or where structures lie, refuse a folder that has such, and say to update."""
MANIFEST = "manifest.json"
WEIGHTS = "models/model.safetensors"
SECOND_WEIGHTS = "models/second.safetensors"
"""Of the second stage's network; in folders whose plan has one."""
FILES = (
    "configs/inference.json",
    "configs/metadata.json",
    WEIGHTS,
    "labels.json",
    "plan.json",
    "record.json",
    "README.md",
)
PREVIEW = "preview.png"
"""A small picture of the structures; a folder may do without."""
MORE_WEIGHTS = tuple(f"models/network_{number}.safetensors" for number in range(2, MOST_NETWORKS + 1))
"""Of the further networks of an ensemble, in the plan's order."""
ALL_WEIGHTS = (WEIGHTS, SECOND_WEIGHTS, *MORE_WEIGHTS)


def graph_files(weights: Path) -> tuple[Path, Path]:
    """Where the graph lies that belongs to a file of weights, and its constants: see ``graph``. A folder may do without."""
    return weights.with_suffix(".graph.xml"), weights.with_suffix(".graph.bin")


def eight_bit_files(weights: Path) -> tuple[Path, Path]:
    """Where the graph lies that computes with 8 bits, and its weights. A folder may do without."""
    return weights.with_suffix(".int8.xml"), weights.with_suffix(".int8.bin")


GRAPHS = tuple(file.as_posix() for weights in ALL_WEIGHTS for file in graph_files(Path(weights)))
EIGHT_BITS = tuple(file.as_posix() for weights in ALL_WEIGHTS for file in eight_bit_files(Path(weights)))
OPTIONAL = (SECOND_WEIGHTS, PREVIEW, *MORE_WEIGHTS, *GRAPHS, *EIGHT_BITS)
LARGEST_RECORD = 4 * 10**6
"""Bytes, also of the card: both go over a pipe and into a window."""
COPY_AGAIN = "Copy the model folder again from where it came from, or train it again."


def write_manifest(
    path: Path, *, channels_or_regions: bool = False, ensemble_or_clean_up: bool = False, whereabouts: bool = False
) -> None:
    """Write the hashes of a folder's files into it, and what a reader must know."""
    version = TWO_STAGES if (path / SECOND_WEIGHTS).exists() else ONE_STAGE
    if channels_or_regions:
        version = CHANNELS_OR_REGIONS
    if ensemble_or_clean_up:
        version = ENSEMBLE_OR_CLEAN_UP
    if whereabouts:
        version = WHEREABOUTS
    _write_hashes(path, version)


def renew_manifest(path: Path) -> None:
    """Write the hashes of a folder's files anew; what its manifest says that a reader must know stays."""
    _write_hashes(path, read_table(path / MANIFEST)["version"])


def _write_hashes(path: Path, version: int) -> None:
    names = [*FILES, *(name for name in OPTIONAL if (path / name).exists())]
    hashes = {name: sha256(path / name) for name in names}
    write_json(path / MANIFEST, {"format": FORMAT, "version": version, "files": hashes})


def read_manifest(path: Path) -> dict[str, str]:
    """The hashes of a model folder's files, by name: ``FILES``, and of ``OPTIONAL`` those that there are.

    Raises:
        DinomixError: the folder is missing, is not a model folder, is of a later version, or its manifest is damaged.
    """
    if not path.is_dir():
        raise DinomixError(
            f"There is no model folder {path}.", "Give the folder that holds manifest.json, such as RUN/model."
        )
    try:
        manifest = read_table(path / MANIFEST)
        hashes, kind, version = manifest["files"], manifest["format"], manifest["version"]
        if not isinstance(hashes, dict) or not isinstance(version, int) or version < 1:
            raise ValueError("it does not say the version and the files")
    except FileNotFoundError:
        raise DinomixError(
            f"{path} is not a model folder of DINOMix: it has no {MANIFEST}.",
            "Give the folder that `dinomix train` wrote, RUN/model.",
            "model",
        ) from None
    except KeyError as error:
        raise DinomixError(f"{path / MANIFEST} is damaged: it has no {error}.", COPY_AGAIN) from error
    except (OSError, ValueError) as error:
        raise DinomixError(f"{path / MANIFEST} is damaged ({reason_of(error)}).", COPY_AGAIN) from error
    if kind != FORMAT:
        raise DinomixError(f"{path} is not a model folder of DINOMix but {kind!r}.", "Give a folder RUN/model.")
    if version > WHEREABOUTS:
        raise DinomixError(f"{path} was written by a later DINOMix (format {version}).", "Update dinomix.")
    names = [*FILES, *(name for name in OPTIONAL if name in hashes)]
    return {name: str(hashes.get(name, "")) for name in names}


def read_record(path: Path) -> dict[str, Any]:
    """How a model was made. Raises DinomixError where its record.json is no such record."""
    try:
        return read_table(path / "record.json", LARGEST_RECORD)
    except (OSError, ValueError) as error:
        raise DinomixError(f"{path / 'record.json'} is damaged ({reason_of(error)}).", COPY_AGAIN) from error


def title_of_folder(path: Path) -> str:
    """A run's model lies in RUN/model; the run's name says more."""
    path = Path(os.path.realpath(path))
    return path.parent.name if path.name == "model" else path.name


def check_present(path: Path, names: list[str]) -> None:
    """Raises DinomixError where one of the files is missing."""
    for name in names:
        if not (path / name).is_file():
            raise DinomixError(f"The model folder {path} is incomplete: {name} is missing.", COPY_AGAIN)


def check_hash(path: Path, name: str, expected: str) -> None:
    """Raises DinomixError where a file is not what the manifest says."""
    if sha256(path / name) != expected:
        raise DinomixError(f"{path / name} is not what the manifest says: it was changed or cut short.", COPY_AGAIN)
