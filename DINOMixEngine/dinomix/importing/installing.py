"""Models on this computer: installed from the catalog, imported, removed, verified.

PyTorch takes long to load, so it is loaded only once a file is there and its hash is right.
"""

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit, silent
from dinomix.files import LEFT_BEHIND, clear_leftovers, folder_written_aside, read_json, sha256, write_json
from dinomix.importing.catalog import CatalogModel, find_entry
from dinomix.importing.download import download
from dinomix.importing.hints import Hints
from dinomix.importing.opened import opened
from dinomix.importing.places import own_model
from dinomix.models.installed import find_models, model_folders
from dinomix.models.manifest import MANIFEST, read_manifest

MIRROR = "DINOMIX_MODELS_MIRROR"
"""Environment variable: an address or a folder that holds the catalog's files by their names."""
DOWNLOADS = ".downloads"
HASHES = "hashes.json"
AGREE = "Read its license, then agree with --yes (agreed=True in Python)."


def address_of(entry: CatalogModel, origin: str | None) -> str | Path:
    """Where a model's file comes from: a file on this computer, or an address that is fetched.

    Args:
        origin: a file, a folder or an address that holds the catalog's files; None for the mirror that the environment
            names, else the publisher.

    Raises:
        DinomixError: there is no such file.
    """
    base = origin if origin is not None else _mirror()
    if not base:
        return entry.download.url
    if urlsplit(base).scheme in ("http", "https"):
        return f"{base.rstrip('/')}/{entry.download.file_name}"
    path = Path(base.removeprefix("file://")).expanduser()
    if path.is_dir():
        path = path / entry.download.file_name
    if not path.is_file():
        raise DinomixError(
            f"There is no file {path}.",
            f"Give the file {entry.download.file_name}, a folder or an address that holds it; its publisher has it at "
            f"{entry.download.url}.",
        )
    return path


def install(
    name: str,
    *,
    origin: str | None = None,
    agreed: bool = False,
    folder: Path | None = None,
    emit: Emit = silent,
) -> Path:
    """Install a model of the catalog; one that is there already is left alone.

    Args:
        origin: see ``address_of``.
        agreed: the user has read the license and wants the file to be fetched; files on this computer need no agreement.
        folder: where models lie; None for the first of ``model_folders``.
        emit: gets ``progress``; whatever it raises cancels, and a download goes on next time where it stopped.

    Returns:
        The model folder.

    Raises:
        DinomixError: not agreed; not to be fetched; another hash than the catalog's or than that of the first download;
            an archive or a model that is refused.
        OSError: the disk is full.
    """
    entry = find_entry(name)
    folder = folder or model_folders()[0]
    target = folder / entry.name
    if (target / MANIFEST).is_file():
        return target
    address = address_of(entry, origin)
    if isinstance(address, str) and not agreed:
        raise DinomixError(f"{entry.name} would be fetched from {address}; nothing was fetched.", AGREE, "license")
    with locked(folder):
        if isinstance(address, str):
            file = folder / DOWNLOADS / entry.download.file_name
            if not file.is_file():
                download(address, file, emit=emit)
        else:
            file = address
        digest = _checked_hash(entry, file, folder, fetched=isinstance(address, str))
        from dinomix.importing.converted import write_converted
        from dinomix.importing.source import read_source

        try:
            with opened(file, folder, emit) as source:
                model = read_source(source, entry.hints, file)
            model.record = {**model.record, **_facts(entry, address, digest)}
            write_converted(model, target, file, emit)
        except DinomixError:
            if isinstance(address, str) and not entry.download.sha256:
                # It may have been cut short, and nobody knows its hash: next time it is fetched anew.
                file.unlink()
            raise
        _record_hash(entry, digest, folder)
        if isinstance(address, str):
            file.unlink()
    return target


def import_model(
    source: Path,
    *,
    name: str | None = None,
    hints: Hints | None = None,
    folder: Path | None = None,
    emit: Emit = silent,
) -> Path:
    """Import a model of one's own: see ``source.read_source`` for what it may be.

    Args:
        name: of the model folder; None for the source's own.

    Returns:
        The model folder.

    Raises:
        DinomixError: the name is taken or impossible, or the source is refused.
    """
    folder = folder or model_folders()[0]
    target = folder / valid_name(name or _stem(source))
    if target.exists():
        raise DinomixError(
            f"There is a model {target} already.", "Give another --name, or remove that model first.", code="exists"
        )
    with locked(folder), opened(source, folder, emit) as opened_source:
        copy_or_convert(opened_source, target, source, hints or Hints(), {"imported_from": source.name}, emit)
    return target


def copy_or_convert(
    opened_source: Path, target: Path, named: Path, hints: Hints, record: dict[str, Any], emit: Emit = silent
) -> None:
    """Make a model folder of a source: a copy of one that DINOMix wrote, else what the importer that fits makes of it.

    Args:
        named: how messages call the source.
        record: what a converted model's record says beside what the importer found.

    Raises:
        DinomixError: the source is refused.
    """
    own = own_model(opened_source) if opened_source.is_dir() else None
    if own is not None:
        _copy_model(own, target)
        return
    from dinomix.importing.converted import write_converted
    from dinomix.importing.source import read_source

    model = read_source(opened_source, hints, named)
    model.record = {"title": target.name, **model.record, **record}
    write_converted(model, target, named, emit)


def remove(name: str, folders: list[Path] | None = None) -> Path:
    """Remove an installed model from the disk.

    Returns:
        Where it was.

    Raises:
        DinomixError: there is no such model, or it is the result of a run.
    """
    path = installed_model(name, folders)
    if (path.parent / "cohort.json").exists():
        raise DinomixError(f"{path} is the result of a run.", f"Remove the folder of the run, {path.parent}, yourself.")
    aside = Path(tempfile.mkdtemp(prefix=".partial-", suffix="-removed", dir=path.parent))
    path.rename(aside / path.name)
    shutil.rmtree(aside)
    return path


def verify(path: Path) -> str:
    """What is wrong with a model folder, in a sentence; empty where every file is as it was written and fits its network."""
    from dinomix.models.folder import load_model

    try:
        load_model(path).check_networks()
    except DinomixError as error:
        return str(error)
    return ""


def installed_model(name: str, folders: list[Path] | None = None) -> Path:
    """The model folder of that name.

    Raises:
        DinomixError: there is none.
    """
    found = find_models(folders or model_folders())
    for path in found:
        if name in (path.name, str(path)) or (path.name == "model" and path.parent.name == name):
            return path
    known = ", ".join(path.parent.name if path.name == "model" else path.name for path in found) or "none"
    raise DinomixError(f"There is no model {name}.", f"Installed: {known}.")


def folder_or_installed(model: str) -> Path:
    """The folder that is named, or the model that is installed under that name. Raises DinomixError as ``installed_model``."""
    return Path(model) if Path(model).is_dir() else installed_model(model)


def _mirror() -> str:
    import os

    return os.environ.get(MIRROR, "").strip()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """For one process that writes models into a folder. Raises DinomixError where another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".installing.lock", timeout=0):
            # Not what is young: who joins, calibrates or quantizes models here takes no lock.
            clear_leftovers(folder, LEFT_BEHIND)
            yield
    except Timeout as error:
        raise DinomixError(f"Another process is installing a model in {folder}.", "Wait until it is done.") from error


def _checked_hash(entry: CatalogModel, file: Path, folder: Path, *, fetched: bool) -> str:
    """The file's SHA-256, after comparing it with what is known.

    Raises:
        DinomixError: it is another file. One that was fetched is removed, so that it is fetched again next time.
    """
    digest = sha256(file)
    recorded = _recorded_hashes(folder).get(entry.download.url, {})
    known = entry.download.sha256 or recorded.get("sha256")
    wrong = known is not None and digest != known
    if entry.download.sha1 is not None:
        with open(file, "rb") as stream:
            wrong |= hashlib.file_digest(stream, "sha1").hexdigest() != entry.download.sha1
    if wrong:
        if fetched:
            file.unlink()
        whose = "the catalog's" if entry.download.sha256 or entry.download.sha1 else "that of the first download"
        raise DinomixError(
            f"{file.name} is refused: its hash is not {whose}, so it was changed or cut short.",
            "Get the file from its publisher again; if the publisher has changed it, wait for a new catalog.",
        )
    return digest


def _record_hash(entry: CatalogModel, digest: str, folder: Path) -> None:
    """Keep the hash of a file that gave a whole model, so that every later one must be the same."""
    recorded = _recorded_hashes(folder)
    if entry.download.sha256 is None and entry.download.url not in recorded:
        recorded[entry.download.url] = {"sha256": digest, "first_seen": time.strftime("%Y-%m-%d")}
        write_json(folder / DOWNLOADS / HASHES, recorded)


def _recorded_hashes(folder: Path) -> dict[str, Any]:
    path = folder / DOWNLOADS / HASHES
    try:
        data = read_json(path)
        return data if isinstance(data, dict) else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DinomixError(
            f"{path}, the record of what was downloaded before, is damaged ({reason_of(error)}).",
            "Remove it if you trust the source.",
        ) from error


def _facts(entry: CatalogModel, address: str | Path, digest: str) -> dict[str, Any]:
    """What the model folder says of where it is from; nothing of this computer's folders."""
    return {
        "title": entry.title,
        "license": entry.license,
        "license_url": entry.license_url,
        "author": entry.publisher,
        "citation": entry.citation,
        "homepage": entry.homepage,
        "catalog_name": entry.name,
        "source": address if isinstance(address, str) else address.name,
        "source_sha256": digest,
    }


def _copy_model(own: Path, target: Path) -> None:
    """Copy a model folder's own files, and no others, after comparing their hashes."""
    from dinomix.models.folder import load_model

    load_model(own).check_networks()
    with folder_written_aside(target) as aside:
        for file in [MANIFEST, *read_manifest(own)]:
            (aside / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(own / file, aside / file)
        load_model(aside)


def _stem(source: Path) -> str:
    name = source.resolve().name
    return name if source.is_dir() else name.removesuffix(source.suffix)


def valid_name(name: str) -> str:
    """The name itself. Raises DinomixError where it cannot be a model folder's."""
    if not re.fullmatch(r"[\w][\w .+-]{0,99}", name) or name.endswith((".", " ")):
        raise DinomixError(
            f"{name!r} cannot be a model's name.", "Give --name with letters, digits, - and _.", code="name"
        )
    return name
