"""The catalog of published models, ``Models.json`` beside this file; ``Resources/Models-schema.json`` describes it."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dinomix.errors import DinomixError, reason_of
from dinomix.files import read_json
from dinomix.importing.hints import Hints
from dinomix.names import normalized_name

CATALOG = Path(__file__).with_name("Models.json")


class Download(BaseModel):
    """What is fetched. Each hash is that of the file at ``url``; where none is known, the first download's is kept."""

    model_config = ConfigDict(extra="forbid")
    url: str
    bytes: int | None = None
    sha256: str | None = None
    sha1: str | None = None
    hash_note: str = ""

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


class CatalogModel(BaseModel):
    """One published model; the schema says what each field means."""

    model_config = ConfigDict(extra="forbid")
    name: str
    title: str
    description: str
    modality: Literal["CT", "MR"]
    organs: tuple[str, ...]
    license: str
    license_url: str = ""
    citation: str
    publisher: str
    homepage: str
    format: Literal["auto3dseg", "monai-bundle", "nnunet"]
    download: Download
    approximate_bytes: int | None = None
    size_note: str = ""
    sample_data: tuple[str, ...] = ()
    seconds_cpu: float | None = None
    seconds_gpu: float | None = None
    seconds_note: str = ""
    changes: dict[str, Any] = {}
    weights: str | None = None
    orientation: str | None = None
    images: tuple[str, ...] = ()
    regions: dict[str, tuple[int, ...]] | None = None
    structures: tuple[str, ...] = ()

    @property
    def hints(self) -> Hints:
        """What the importer has to know beside the model's files."""
        return Hints(
            changes=self.changes or None,
            weights=self.weights,
            orientation=self.orientation,
            images=self.images,
            regions=self.regions,
            structures=self.structures,
        )


@lru_cache(maxsize=1)
def read_catalog() -> tuple[CatalogModel, ...]:
    """All models of the catalog.

    Raises:
        DinomixError: the file is damaged.
    """
    try:
        entries = read_json(CATALOG)["models"]
        return tuple(CatalogModel.model_validate(entry) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DinomixError(
            f"The catalog {CATALOG} is damaged ({reason_of(error)}).", "Install DINOMix again."
        ) from error


def find_entry(name: str) -> CatalogModel:
    """The model of that name or title.

    Raises:
        DinomixError: there is none.
    """
    for entry in read_catalog():
        if normalized_name(name) in (normalized_name(entry.name), normalized_name(entry.title)):
            return entry
    raise DinomixError(
        f"The catalog has no model {name}.", f"It has {', '.join(entry.name for entry in read_catalog())}."
    )
