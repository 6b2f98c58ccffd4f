"""Models of the Hugging Face Hub: a model folder of DINOMix, a MONAI bundle or an nnU-Net folder in a repository.

The Hub says which files a repository has, how large each is and its hash; of these only what the model needs is fetched.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from dinomix.errors import DinomixError, reason_of
from dinomix.events import Emit, silent
from dinomix.files import sha256
from dinomix.importing.download import TIMEOUT, download
from dinomix.importing.hints import Hints
from dinomix.importing.installing import AGREE, DOWNLOADS, copy_or_convert, locked, valid_name
from dinomix.models.installed import model_folders
from dinomix.models.manifest import FILES, MANIFEST, OPTIONAL, read_record

PREFIX = "hf:"
ENDPOINT = "HF_ENDPOINT"
"""Environment variable of the Hub's own tools: the address of a mirror of it."""
_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_BUNDLE = ("configs/inference.json", "configs/metadata.json")
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")
_NNUNET = ("plans.json", "dataset.json")
_CONFIGURATIONS = ("3d_fullres", "3d_lowres")
"""Those of nnU-Net that can be read, the best first."""
_FOLD = re.compile(r"fold_\w+/checkpoint_(final|best)\.pth")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. ``sha256`` of what the Hub keeps apart as large, else ``git``, the name that git gives it."""

    name: str
    bytes: int
    sha256: str | None
    git: str | None


@dataclass(frozen=True)
class HubModel:
    """What would be fetched.

    Attributes:
        text: as the user named it, "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION".
        commit: the revision that is meant, so that what is fetched is what was looked at.
        license: as the repository's card has it; empty where it says nothing.
        files: those that the model needs.
    """

    text: str
    repository: str
    commit: str
    license: str
    files: tuple[HubFile, ...]

    @property
    def name(self) -> str:
        return self.repository.partition("/")[2]

    @property
    def source(self) -> str:
        return f"{PREFIX}{self.repository}@{self.commit}"

    @property
    def homepage(self) -> str:
        return f"{endpoint()}/{self.repository}"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def address(self, file: HubFile) -> str:
        return f"{endpoint()}/{self.repository}/resolve/{self.commit}/{quote(file.name)}"


def endpoint() -> str:
    return (os.environ.get(ENDPOINT) or "https://huggingface.co").rstrip("/")


def look_up(text: str) -> HubModel:
    """Ask the Hub what a repository holds; nothing of it is fetched.

    Args:
        text: "hf:OWNER/NAME", with "@REVISION" for a branch, tag or commit.

    Raises:
        DinomixError: it is named otherwise, is not there or not open to everyone, the Hub cannot be reached, or it holds
            none of the kinds of models that can be read.
    """
    repository, revision = _parts(text)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi(endpoint=endpoint(), token=False).model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise DinomixError(
            f"{endpoint()} has no model {text.removeprefix(PREFIX)} that is open to everyone.",
            "Check its name on the Hub; one that must be asked for is fetched with `hf download` and then imported "
            "with `dinomix models import FOLDER`.",
            code="download",
        ) from error
    except Exception as error:  # its own errors are those of the HTTP library that it happens to use
        raise DinomixError(
            f"{endpoint()} could not be asked for {text.removeprefix(PREFIX)} ({reason_of(error)[:160]}).",
            "Check the network and HF_HUB_OFFLINE, or fetch the model by other means and import it with `dinomix models "
            "import FOLDER`.",
            code="download",
        ) from error
    files = [_file(sibling) for sibling in info.siblings or []]
    chosen = _needed([file for file in files if _stays_inside(file.name)])
    if not chosen:
        raise DinomixError(
            f"{text} holds no model that can be read.",
            "A model folder of DINOMix, a MONAI bundle or a folder trained with nnU-Net v2 can be installed from the Hub.",
            code="model-kind",
        )
    license = str(getattr(info.card_data, "license", None) or "")
    return HubModel(text, repository, str(info.sha), license, tuple(chosen))


def install_from_hub(model: HubModel, *, agreed: bool = False, folder: Path | None = None, emit: Emit = silent) -> Path:
    """Fetch what ``look_up`` found, compare every file with the Hub's hash, and make a model folder of it.

    Args:
        agreed, folder, emit: see ``installing.install``.

    Returns:
        The model folder, called like the repository. One that came from this revision already is left alone.

    Raises:
        DinomixError: not agreed; another model of this name is there; not to be fetched; another hash than the Hub's; a
            model that is refused.
        OSError: the disk is full.
    """
    folder = folder or model_folders()[0]
    target = folder / valid_name(model.name)
    if target.exists():
        if _is_of(model, target):
            return target
        raise DinomixError(
            f"There is another model {target} already.",
            f"Remove it first: dinomix models remove {model.name}.",
            "exists",
        )
    if not agreed:
        raise DinomixError(
            f"{model.text} would be fetched from {model.homepage}; nothing was fetched.", AGREE, "license"
        )
    with locked(folder):
        fetched = folder / DOWNLOADS / f"{model.repository.replace('/', '--')}-{model.commit[:12]}"
        for file in model.files:
            path = fetched / file.name
            if not path.is_file():
                download(model.address(file), path, emit=emit)
            _check(file, path)
        try:
            copy_or_convert(fetched, target, Path(model.text), Hints(), _facts(model), emit)
        finally:
            shutil.rmtree(fetched)
    return target


def _facts(model: HubModel) -> dict[str, str]:
    facts = {
        "license": model.license,
        "author": model.repository.partition("/")[0],
        "homepage": model.homepage,
        "source": model.source,
    }
    return {key: value for key, value in facts.items() if value}


def _is_of(model: HubModel, target: Path) -> bool:
    """Whether a model folder came from this revision: copied with its manifest, or converted, of which the record tells."""
    own = next((file for file in model.files if PurePosixPath(file.name).name == MANIFEST), None)
    try:
        if own is not None:
            return _is_same(own, target / MANIFEST)
        return read_record(target).get("source") == model.source
    except (DinomixError, OSError):
        return False


def _parts(text: str) -> tuple[str, str | None]:
    match = _NAME.fullmatch(text)
    if match is None:
        raise DinomixError(f"{text} names no model of the Hub.", "Write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION.")
    return match["repository"], match["revision"]


def _file(sibling: Any) -> HubFile:
    large = sibling.lfs
    size = sibling.size if sibling.size is not None else (large.size if large else 0)
    return HubFile(sibling.rfilename, int(size or 0), large.sha256 if large else None, sibling.blob_id)


def _stays_inside(name: str) -> bool:
    """Whether a name of a file is one below the folder that it is fetched into, on every system."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and not re.search(r"[\\:\x00-\x1f]", name)


def _needed(files: Sequence[HubFile]) -> list[HubFile]:
    """The files of the first model that is found, the nearest to the top; of DINOMix's own, of MONAI, or of nnU-Net."""
    by_name = {file.name: file for file in files}
    for folder in _folders(by_name):
        inside = {name.removeprefix(folder): file for name, file in by_name.items() if name.startswith(folder)}
        if MANIFEST in inside and all(name in inside for name in FILES):
            return [inside[name] for name in (MANIFEST, *FILES, *OPTIONAL) if name in inside]
        if all(name in inside for name in _BUNDLE):
            weights = [name for name in inside if name.startswith("models/") and name.endswith(_WEIGHTS)]
            usual = [name for name in weights if name == "models/model.pt"] or weights
            return [inside[name] for name in (*_BUNDLE, *usual)]
        if all(name in inside for name in _NNUNET) and (folds := sorted(filter(_FOLD.fullmatch, inside))):
            final = [name for name in folds if name.endswith("_final.pth")] or folds
            return [inside[name] for name in (*_NNUNET, final[0])]
    return []


def _folders(names: Iterable[str]) -> list[str]:
    """All folders of a repository, each with its slash; of the same depth those first whose configuration is read best."""
    found = {""} | {f"{parent}/" for name in names for parent in PurePosixPath(name).parents if str(parent) != "."}

    def order(folder: str) -> tuple[int, int, str]:
        configuration = folder.rstrip("/").rpartition("__")[2]
        known = _CONFIGURATIONS.index(configuration) if configuration in _CONFIGURATIONS else len(_CONFIGURATIONS)
        return folder.count("/"), known, folder

    return sorted(found, key=order)


def _check(file: HubFile, path: Path) -> None:
    """Raises DinomixError, and removes the file, where it is not the one that the Hub speaks of."""
    if not _is_same(file, path):
        path.unlink()
        raise DinomixError(
            f"{file.name} is refused: its hash is not the Hub's, so it was changed or cut short.",
            "Run the same command again; if it is refused again, tell the model's author.",
        )


def _is_same(file: HubFile, path: Path) -> bool:
    if file.sha256 is not None:
        return sha256(path) == file.sha256
    content = path.read_bytes()
    return file.git == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
