"""What stands before a model card for the Hugging Face Hub, so that a model folder can be pushed there as it is.

The fields are those of https://huggingface.co/docs/hub/model-cards; the values are JSON, which YAML holds too.
"""

import json
from collections.abc import Sequence
from typing import Any

from dinomix.planning.plan import Plan

_FENCE = "---\n"
_LICENSES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "openrail",
}  # fmt: skip
"""Those of the Hub's own list that models have, in its spelling."""


def front_matter(plan: Plan, record: dict[str, Any]) -> str:
    """The block of YAML between two lines of dashes, which begins ``README.md``."""
    modalities = list(dict.fromkeys(modality.lower() for modality in plan.modalities))
    fields: dict[str, Any] = {
        **_license(record),
        "library_name": "monai",
        "pipeline_tag": "image-segmentation",
        "tags": ["dinomix", "medical", "3d", *modalities],
    }
    return _FENCE + "".join(f"{key}: {_yaml(value)}\n" for key, value in fields.items()) + _FENCE


def without_front_matter(card: str) -> str:
    """A card as it is read by people; of earlier versions, the card itself."""
    if not card.startswith(_FENCE):
        return card
    return card.removeprefix(_FENCE).partition(f"\n{_FENCE}")[2].lstrip("\n")


def _license(record: dict[str, Any]) -> dict[str, str]:
    said = str(record.get("license") or "").strip()
    if not said:
        return {"license": "unknown"}
    spelled = said.lower().replace("creative commons ", "cc-").replace(" ", "-")
    if spelled in _LICENSES:
        return {"license": spelled}
    link = str(record.get("license_url") or "")
    return {"license": "other", "license_name": said, **({"license_link": link} if link else {})}


def _yaml(value: str | Sequence[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
