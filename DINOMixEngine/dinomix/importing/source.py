"""What a file or folder of elsewhere is, and reading it with the importer that fits."""

from pathlib import Path

from dinomix.errors import DinomixError, reason_of
from dinomix.importing.auto3dseg import is_auto3dseg, read_auto3dseg
from dinomix.importing.bare import read_bare
from dinomix.importing.converted import Converted
from dinomix.importing.hints import Hints
from dinomix.importing.monai_bundle import is_bundle, read_bundle
from dinomix.importing.nnunet import best_of, is_nnunet, read_nnunet
from dinomix.importing.places import places
from dinomix.importing.weights import is_weights, read_checkpoint

_KINDS = (
    "a model folder of DINOMix, a MONAI bundle, an nnU-Net v2 model folder, an Auto3DSeg model.pt, a zip of one of these, "
    "or weights with --plan and --labels"
)


def read_source(opened_source: Path, hints: Hints, named: Path) -> Converted:
    """Read a model of elsewhere.

    Args:
        opened_source: a folder or a file of weights.
        named: how messages call it when nothing in it is recognized.

    Raises:
        DinomixError: it is none of the kinds that can be read, or the importer refuses it.
    """
    try:
        return _read(opened_source, hints, named)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        # The files of strangers can be wrong in more ways than the importers foresee.
        raise DinomixError(
            f"{named} is not as its format demands ({reason_of(error)}).", "Get the model again."
        ) from error


def _read(opened_source: Path, hints: Hints, named: Path) -> Converted:
    if hints.plan is not None or hints.labels is not None:
        return read_bare(opened_source, hints.plan, hints.labels)
    if opened_source.is_file():
        return _read_weights(opened_source, hints)
    for folder in places(opened_source):
        if is_nnunet(folder):
            beside = [folder] if folder == opened_source else sorted(filter(is_nnunet, folder.parent.iterdir()))
            best, notes = best_of(beside)
            model = read_nnunet(best, hints.orientation, hints.fold, hints.all_folds)
            model.notes[:0] = notes
            return model
        if is_bundle(folder):
            return read_bundle(folder, hints)
        if (folder / "plan.json").is_file() and (folder / "labels.json").is_file():
            return read_bare(folder, folder / "plan.json", folder / "labels.json")
    files = [path for folder in places(opened_source) for path in sorted(folder.glob("*")) if is_weights(path)]
    # The extension MONAIAuto3DSeg takes the weights beside labels.csv; Auto3DSeg itself has model.pt among others.
    chosen = [path for path in files if (path.parent / "labels.csv").is_file()]
    chosen = chosen or [path for path in files if path.name == "model.pt"] or files
    if not chosen:
        raise DinomixError(f"{named} holds no model that can be read.", f"Give {_KINDS}.", code="model-kind")
    return _read_weights(chosen[0], hints)


def _read_weights(path: Path, hints: Hints) -> Converted:
    checkpoint = read_checkpoint(path)
    if is_auto3dseg(checkpoint):
        table = path.parent / "labels.csv"
        return read_auto3dseg(checkpoint, path, table if table.is_file() else None, hints)
    raise DinomixError(
        f"{path} holds weights, but not what network they belong to.",
        "Give --plan and --labels too; see docs/models.md.",
        code="model-plan",
    )
