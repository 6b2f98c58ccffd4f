"""The published splits of Synapse (BTCV) and AMOS22, as their authors' repositories hold them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from dinomix.cohort.cohort import Role
from dinomix.errors import DinomixError
from dinomix.files import read_json

DatasetName = Literal["synapse", "amos"]
DEFAULT_SPLIT: dict[DatasetName, str] = {"synapse": "synapse-20p-skcdf", "amos": "amos-5p"}


class Split(BaseModel):
    """Case numbers ("0001" for img0001.nii.gz) or names ("amos_0001") by role; ``source`` says where it is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: DatasetName
    source: str
    used_by: str
    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def roles(self) -> dict[str, Role]:
        """Case -> the part it plays, in the order labeled, unlabeled, validation, test."""
        parts: list[tuple[Role, tuple[str, ...]]] = [
            ("labeled", self.labeled),
            ("unlabeled", self.unlabeled),
            ("validation", self.val),
            ("test", self.test),
        ]
        return {case: role for role, cases in parts for case in cases}


def read_splits() -> dict[str, Split]:
    """All shipped splits by name."""
    return TypeAdapter(dict[str, Split]).validate_python(read_json(Path(__file__).with_name("splits.json")))


def find_split(dataset: DatasetName, name: str | None = None) -> tuple[str, Split]:
    """A split of ``dataset`` by name, or the default one, with its name. Raises DinomixError when there is none."""
    splits = {key: split for key, split in read_splits().items() if split.dataset == dataset}
    chosen = name or DEFAULT_SPLIT[dataset]
    if chosen not in splits:
        raise DinomixError(f"There is no split {chosen} of {dataset}.", f"Choose {' or '.join(splits)}.")
    return chosen, splits[chosen]
