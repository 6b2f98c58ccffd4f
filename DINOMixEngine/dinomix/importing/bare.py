"""A bare MONAI network: its weights, with a plan and labels that the user writes."""

from pathlib import Path

from dinomix.errors import DinomixError
from dinomix.importing.converted import Converted
from dinomix.importing.networks import without_supervision
from dinomix.importing.weights import ENDINGS, is_weights, read_checkpoint, state_dict_of
from dinomix.labels import LabelSet
from dinomix.models.matched_weights import class_axes
from dinomix.planning.plan import Plan


def read_bare(source: Path, plan_file: Path | None, labels_file: Path | None) -> Converted:
    """Read weights whose network, grid, intensities and patch are those of a plan.

    Args:
        source: a file of weights, or a folder with one.
        plan_file: as ``Plan.write`` writes it.
        labels_file: anything that ``LabelSet.read`` takes; channel k is the k-th structure by its number.

    Raises:
        DinomixError: one of the files is missing or is not what it should be.
    """
    if plan_file is None or labels_file is None:
        raise DinomixError(
            "Weights alone do not say what they segment.", "Give both --plan and --labels.", code="model-plan"
        )
    files = [source] if source.is_file() else sorted(path for path in source.glob("*") if is_weights(path))
    if len(files) != 1:
        raise DinomixError(
            f"{source} holds {len(files)} files of weights.", f"Give one file that ends in {', '.join(ENDINGS)}."
        )
    plan, labels = Plan.read(plan_file).of_first, LabelSet.read(labels_file)
    weights = without_supervision(
        state_dict_of(read_checkpoint(files[0]), files[0]), set(class_axes(plan, labels.channels))
    )
    return Converted(plan, labels, weights, {"format": "MONAI network"})
