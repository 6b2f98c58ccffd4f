"""A model folder as one zip file, to be passed on."""

import zipfile
from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.events import Emit, Progress, silent
from dinomix.files import written_aside
from dinomix.models.installed import describe_model
from dinomix.models.manifest import ALL_WEIGHTS, MANIFEST, check_hash, check_present, read_manifest
from dinomix.names import file_name

_CHUNK = 2**20


def export_model(model_folder: Path, zip_path: Path, *, overwrite: bool = False, emit: Emit = silent) -> None:
    """Write the files that a model's manifest names, and the manifest, into a zip; nothing else of the folder goes along.

    In the zip they lie in one folder, named after the model. Equal models give equal files, byte for byte.

    Args:
        zip_path: ends in .zip. The new file takes its place once it is whole.

    Raises:
        DinomixError: no model folder, an incomplete or changed one, another ending, or a file is there already.
        OSError: the file cannot be written; nothing is left behind.
    """
    hashes = read_manifest(model_folder)
    check_present(model_folder, list(hashes))
    for name, expected in hashes.items():
        check_hash(model_folder, name, expected)
    if zip_path.suffix.lower() != ".zip":
        raise DinomixError(f"{zip_path} does not end in .zip.", "Give a name such as model.zip.")
    if zip_path.exists() and not overwrite:
        raise DinomixError(
            f"{zip_path} exists.", "Add --overwrite to replace it, or choose another name.", code="exists"
        )
    top = file_name(describe_model(model_folder)["title"], "model")
    total = sum((model_folder / name).stat().st_size for name in (*hashes, MANIFEST))
    progress, done = Progress(emit, "export", total), 0
    with written_aside(zip_path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name in (*hashes, MANIFEST):
            entry = zipfile.ZipInfo(f"{top}/{name}")  # with the date that a zip begins to count from
            entry.external_attr = 0o644 << 16
            # Weights hardly compress, and take long to.
            entry.compress_type = zipfile.ZIP_STORED if name in ALL_WEIGHTS else zipfile.ZIP_DEFLATED
            size = (model_folder / name).stat().st_size
            entry.file_size = size
            with open(model_folder / name, "rb") as source, archive.open(entry, "w") as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    done += len(chunk)
                    progress(done)
