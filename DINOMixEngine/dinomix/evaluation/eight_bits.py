"""Giving a model a graph of 8 bits, where labeled cases that it has not learned from show that no structure loses by it.

The last layers are rounded to the logits at once, so that they are the first to stay in float32: one, where a structure loses
Dice two, and so on. What that costs in time is measured in docs/performance.md.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinomix.cohort.cohort import Case, Cohort, Role
from dinomix.errors import DinomixError, reason_of
from dinomix.evaluation.calibration_cases import check_seen, labeled_case
from dinomix.evaluation.matched_model import Dice, MatchedModel, mean_dice
from dinomix.events import Emit, Progress, silent
from dinomix.files import check_replaceable
from dinomix.inference.options import Numbers
from dinomix.models.eight_bit_writing import write_eight_bits
from dinomix.models.folder import Model, load_model
from dinomix.models.manifest import EIGHT_BITS, graph_files, renew_manifest
from dinomix.models.matching import matched_channels
from dinomix.models.silence import is_installed
from dinomix.models.writing import add_graphs, changed_aside, write_record
from dinomix.names import listed

KEY = "eight_bits"
"""In a record."""
LOSS = 0.002
"""Of a structure's mean Dice, that 8 bits may cost."""
EXACT = (1, 2, 3)
"""The last convolutions that stay in float32, the fewest first."""
WINDOWS = 48
"""Of all cases together, that show how large values are."""
MOST_CASES = 12
FEWEST = 2
"""Cases that decide."""
INSTALL = "Install it: pip install 'dinomix[quantize]'."


@dataclass(frozen=True)
class EightBits:
    """What came of it.

    Attributes:
        exact: the last convolutions that stay in float32; None where no graph of 8 bits was kept.
        cases: that decided.
        before, after: mean Dice of each structure in float32, and with 8 bits as it was tried last.
        unseen: structures of the model that are in none of the cases, so that nothing is known of them.
        replaces: the model had such a graph before.
    """

    exact: int | None
    cases: int
    before: Dice
    after: Dice
    unseen: tuple[str, ...] = ()
    replaces: bool = False

    @property
    def as_data(self) -> dict[str, Any]:
        """For a record."""
        dice = {"before": self.before, "after": self.after}
        return {"exact": self.exact, "cases": self.cases, "dice": dice, "unseen": list(self.unseen)}

    @property
    def in_words(self) -> str:
        """A few sentences."""
        name, loss = max(_losses(self.before, self.after).items(), key=lambda item: item[1])
        if self.exact is None:
            told = f"No graph of 8 bits was kept: {name} would lose {loss:.3f} of its Dice in {self.cases} cases."
            return f"{told} The one that the model had was taken away." if self.replaces else told
        told = f"A graph of 8 bits was kept: no structure loses more than {max(loss, 0):.3f} of its Dice in {self.cases} cases."
        return f"{told} None of these shows {listed(self.unseen)}: look at what becomes of it." if self.unseen else told


def check_quantizable() -> None:
    """Raises DinomixError where one of the packages is missing."""
    for package, title in (("openvino", "OpenVINO"), ("nncf", "NNCF, which makes graphs of 8 bits,")):
        if not is_installed(package):
            raise DinomixError(f"{title} is not installed.", INSTALL, "eight-bits")


def quantize_model(path: str | Path, cohort: Cohort, *, role: Role = "validation", emit: Emit = silent) -> EightBits:
    """Write graphs of 8 bits of all networks of a model folder into it, unless a structure loses by them: then it has none.

    Args:
        role: of the cases that decide, none of which the model may have learned from. Labeled cases show how large values are;
            where there are none, these.

    Raises:
        DinomixError: a package or cases are missing, the model cannot be used with them, or NNCF cannot take a network.
        OSError: nothing may be written where the model folder lies.
    """
    check_quantizable()
    model = load_model(path)
    check_replaceable(model.path)
    cases = cohort.with_role(role)
    if len(cases) < FEWEST:
        raise DinomixError(
            f"The cohort has {len(cases)} cases of the role {role}; it takes {FEWEST} to decide whether 8 bits cost anything.",
            "Give cases with `dinomix check`, and --role labeled where the model has not learned from them.",
        )
    check_seen(model, cohort)
    matched = matched_channels(cohort.labels, model.labels)
    if not matched:
        raise DinomixError(
            f"None of the cohort's structures ({listed(cohort.labels.names)}) is one of the model's "
            f"({listed(model.labels.names)}).",
            "Name them as the model does: `dinomix check --labels` takes the labels.json of the model folder.",
        )
    if not all(graph_files(model.path / stage.weights_file)[0].is_file() for stage in model.stages):
        add_graphs(model.path, emit)
        model = load_model(path)
    shown = (cohort.with_role("labeled") or cases)[:MOST_CASES]
    windows = [_windows_of(stage, shown, cohort, emit) for stage in model.stages]
    before = _dice(model, "float32", cohort, cases, emit)
    if not _losses(before, before):
        raise DinomixError(
            f"None of the {len(cases)} cases shows a structure.", "Give cases in which structures are drawn."
        )
    seen = {
        model.labels.names[own - 1]
        for theirs, own in matched.items()
        if before[cohort.labels.names[theirs - 1]] is not None
    }
    unseen = tuple(name for name in model.labels.names if name not in seen)
    replaces = any((model.path / name).is_file() for name in EIGHT_BITS)
    # Windows keeps files that are mapped still.
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tried = Path(folder) / "model"
        shutil.copytree(model.path, tried)
        for exact in EXACT:
            _write(model, tried, windows, exact)
            renew_manifest(tried)
            after = _dice(load_model(tried), "int8", cohort, cases, emit)
            if all(loss <= LOSS for loss in _losses(before, after).values()):
                found = EightBits(exact, len(cases), before, after, unseen, replaces)
                _put(model, tried, found)
                return found
        found = EightBits(None, len(cases), before, after, unseen, replaces)
        if replaces:
            _put(model, tried, found)
    return found


def _windows_of(stage: Model, cases: Sequence[Case], cohort: Cohort, emit: Emit) -> NDArray[np.float32]:
    """(n, channels, x, y, z), half of them around voxels of structures."""
    rng, patch = np.random.default_rng(0), np.array(stage.plan.patch)
    progress = Progress(emit, "draw windows", len(cases))
    found: list[NDArray[np.float32]] = []
    for number, case in enumerate(cases, 1):
        prepared = labeled_case(case, cohort, stage).case
        missing = np.maximum(patch - prepared.label.shape, 0)
        image = np.pad(prepared.image, [(0, 0), *((0, int(side)) for side in missing)]).astype(np.float32)
        last = np.array(image.shape[1:]) - patch
        voxels = np.argwhere(prepared.label > 0)
        for turn in range(-(-WINDOWS // len(cases))):
            around = turn % 2 and len(voxels)
            start = rng.choice(voxels) - patch // 2 if around else rng.integers(0, last + 1)
            x, y, z = (slice(at, at + side) for at, side in zip(np.clip(start, 0, last), patch, strict=True))
            found.append(image[:, x, y, z])
        progress(number)
    return np.stack(found)


def _write(model: Model, tried: Path, windows: Sequence[NDArray[np.float32]], exact: int) -> None:
    """Write a model's graphs of 8 bits into the copy of its folder in which they are tried."""
    for stage, of_stage in zip(model.stages, windows, strict=True):
        try:
            write_eight_bits(tried / stage.weights_file, of_stage, exact)
        except Exception as error:  # of many kinds: what a library says of a network that it does not know
            raise DinomixError(
                f"No graph of 8 bits can be made of {model.path} ({reason_of(error)}).", "It is computed as before."
            ) from error


def _dice(model: Model, numbers: Numbers, cohort: Cohort, cases: Sequence[Case], emit: Emit) -> Dice:
    matched = MatchedModel(model, cohort.labels, cohort.channel_names, precision=numbers, runtime="openvino")
    return mean_dice(matched, cohort, cases, "cpu", "try 8 bits" if numbers == "int8" else "try 32 bits", emit)


def _losses(before: Dice, after: Dice) -> dict[str, float]:
    """Of the structures that both have found a Dice of."""
    return {name: had - has for name, had in before.items() if had is not None and (has := after[name]) is not None}


def _put(model: Model, tried: Path, found: EightBits) -> None:
    """Give the model's folder the graphs of 8 bits of the one in which they were tried, and a record; none where none is kept."""
    record = {key: told for key, told in model.record.items() if key != KEY}
    if found.exact is not None:
        record[KEY] = found.as_data
    with changed_aside(model.path) as aside:
        for name in EIGHT_BITS:
            (aside / name).unlink(missing_ok=True)
            if found.exact is not None and (tried / name).is_file():
                shutil.copy2(tried / name, aside / name)
        write_record(aside, model.plan, model.labels, record)
