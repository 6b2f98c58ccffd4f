"""The catalog of published models."""

import json
from pathlib import Path

import jsonschema
import pytest

from dinomix.errors import DinomixError
from dinomix.importing import catalog
from dinomix.importing.catalog import CATALOG, find_entry, read_catalog

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "Resources/Models-schema.json").read_text(encoding="utf-8"))


def test_the_catalog_follows_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(CATALOG.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("field", "value"),
    [("download", {"url": "http://a.org/m.zip", "bytes": None, "sha256": None, "hash_note": "unknown"}),
     ("download", {"url": "https://a.org/m.zip", "bytes": None, "sha256": None, "hash_note": ""}),
     ("organs", []), ("license", ""), ("modality", "PET"), ("name", "../outside"), ("price", 3)],
)  # fmt: skip
def test_the_schema_refuses(field: str, value: object) -> None:
    data = json.loads(CATALOG.read_text(encoding="utf-8"))
    data["models"][0][field] = value
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_resources_and_the_package_have_the_same_catalog() -> None:
    assert (ROOT / "Resources/Models.json").resolve() == CATALOG.resolve()
    assert '"dinomix/importing/Models.json"' in (ROOT / "DINOMixEngine/files.cmake").read_text(encoding="utf-8")


def test_every_model_says_what_a_user_must_know() -> None:
    entries = read_catalog()
    assert len({entry.name for entry in entries}) == len(entries) >= 4
    for entry in entries:
        assert entry.organs and entry.license and entry.citation and entry.homepage
        assert entry.download.sha256 or entry.download.hash_note
        assert entry.download.bytes or entry.approximate_bytes or entry.size_note
        assert entry.sample_data and entry.seconds_note
    assert {"spleen-ct", "totalsegmentator-ct-3mm", "totalsegmentator-mr-3mm", "prostate-t2-adc", "brain-tumor-mr"} <= {
        entry.name for entry in entries
    }


def test_a_model_is_found_by_name_or_title() -> None:
    assert find_entry("spleen-ct") is find_entry("Spleen") is find_entry("SPLEEN_ct")
    with pytest.raises(DinomixError, match="has no model liver") as caught:
        find_entry("liver")
    assert "spleen-ct" in caught.value.remedy


def test_a_damaged_catalog_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "Models.json"
    broken.write_text('{"models": [{"name": "x"}]}')
    monkeypatch.setattr(catalog, "CATALOG", broken)
    read_catalog.cache_clear()
    with pytest.raises(DinomixError, match="is damaged"):
        read_catalog()
    read_catalog.cache_clear()
