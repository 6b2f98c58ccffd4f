"""How far a model's own word on its results can be trusted: its probabilities and its predicted Dice; for docs/results.md.

    python Testing/benchmarks/certainty.py --data $DINOMIX_TEST_DATA/hippocampus --out runs/certainty RUN [RUN ...]

RUN is what ``dinomix train`` wrote, with test cases in its cohort. A copy of its model is calibrated on the first of its
unlabeled cases, whose labels, which the run has never seen, lie in DATA/labels under the images' names; with ``--own`` it is as
the run has calibrated it. Each test case is then segmented on its own grid in float32, without and with calibration, and both
must give the same labels.
"""

import argparse
import shutil
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.stats import pearsonr, spearmanr

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.cohort import Case, Cohort
from dinomix.evaluation.calibrating import AROUND, reliability
from dinomix.evaluation.calibration_cases import calibrate_model
from dinomix.evaluation.metrics import dice
from dinomix.evaluation.references import reference_of
from dinomix.events import silent
from dinomix.files import sha256
from dinomix.images.volume import Volume
from dinomix.inference.options import Options
from dinomix.inference.segment import segment_taken
from dinomix.inference.sureness import Sureness
from dinomix.models.calibration import KEY, Calibration, Reliability
from dinomix.models.folder import Model, load_model

TENTH = 0.1
NO_VOXELS = Reliability(probability=(0.0,), right=(0.0,), voxels=(0,))
AS_IT_IS = Calibration(temperature=1.0, cases=0, before=NO_VOXELS, after=NO_VOXELS)


@dataclass
class Measured:
    """Of one run, case after case.

    Attributes:
        sure: of the network as it is and of the calibrated model, the probability of each voxel's label, and whether it is right.
        pairs: (case, structure, Dice by the network's own probabilities, predicted Dice, true Dice).
    """

    sure: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=lambda: {"before": [], "after": []})
    pairs: list[tuple[str, str, float, float, float]] = field(default_factory=list)

    def error(self, which: str) -> float:
        probabilities, right = (np.concatenate(column) for column in zip(*self.sure[which], strict=True))
        return reliability(probabilities, right).error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="folder with labels/ of the runs' unlabeled cases")
    parser.add_argument("--out", type=Path, required=True, help="folder for the calibrated copies")
    parser.add_argument("--cases", type=int, default=10, help="that are calibrated on")
    parser.add_argument("--own", action="store_true", help="take the run's own calibration, by its validation cases")
    arguments = parser.parse_args()
    print("| run | calibrated on | temperature | calibration error before, after | mean error of the Dice: network's own, "
          "predicted | correlation (Pearson, Spearman) | of the worst tenth among the tenth flagged |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for number, run in enumerate(arguments.runs):
        model = calibrated_copy(run, arguments.out / f"{number}-{arguments.cases}", arguments)
        print(row(run, model, measure(run, model)), flush=True)


def calibrated_copy(run: Path, out: Path, arguments: argparse.Namespace) -> Model:
    if arguments.own:
        return load_model(run / "model")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(run / "model", out / "model")
    cohort = Cohort.read(run / "cohort.json")
    cases = [with_label(case, arguments.data) for case in cohort.with_role("unlabeled")[: arguments.cases]]
    calibrate_model(out / "model", cohort.model_copy(update={"cases": tuple(cases)}), device="cpu")
    return load_model(out / "model")


def with_label(case: Case, data: Path) -> Case:
    label = data / "labels" / case.image.name
    return case.model_copy(update={"role": "validation", "label": label, "label_sha256": sha256(label)})


def measure(run: Path, model: Model) -> Measured:
    as_it_is = replace(model, record={**model.record, KEY: AS_IT_IS.model_dump(mode="json")})
    cohort, found = Cohort.read(run / "cohort.json"), Measured()
    for case in cohort.with_role("test"):
        images = read_case_images(case, cohort)
        truth = reference_of(case, images[0].geometry).array
        (others, before), (labels, after) = (segmented(images, m, model) for m in (as_it_is, model))
        assert np.array_equal(others, labels)
        counts = binary_dilation(truth > 0, np.ones((3, 3, 3), bool), AROUND) | (labels > 0)
        for which, result in (("before", before), ("after", after)):
            assert result.uncertainty is not None
            found.sure[which].append((1 - result.uncertainty[counts] / 100, labels[counts] == truth[counts]))
        for structure in model.labels.structures:
            own, predicted = (result.predicted_dice[structure.name] for result in (before, after))
            expected = truth == structure.id
            if own is not None and predicted is not None and expected.any():
                true = dice(labels == structure.id, expected)
                found.pairs.append((case.name, structure.name, own, predicted, true))
    return found


def segmented(images: list[Volume], model: Model, warm: Model) -> tuple[np.ndarray, Sureness]:
    """The labels (k, j, i), and how sure the model is of them."""
    sureness = Sureness(wants_map=True, wants_dice=True)
    labels = segment_taken(
        list(images), 0, model, Options("cpu", precision="float32", runtime="pytorch"),
        emit=silent, network=warm.warm_network, sureness=sureness,
    )  # fmt: skip
    return labels.array, sureness


def row(run: Path, model: Model, found: Measured) -> str:
    calibration = model.calibration
    assert calibration is not None
    own, predicted, true = (np.array(column) for column in list(zip(*found.pairs, strict=True))[2:])
    count = ceil(TENTH * len(true))
    hit = len(set(np.argsort(true)[:count].tolist()) & set(np.argsort(predicted)[:count].tolist()))
    return (
        f"| {run.parent.name}/{run.name} | {calibration.cases} | {calibration.temperature:.2f} "
        f"| {found.error('before'):.3f}, {found.error('after'):.3f} "
        f"| {np.abs(own - true).mean():.3f}, {np.abs(predicted - true).mean():.3f} "
        f"| {pearsonr(predicted, true)[0]:.2f}, {spearmanr(predicted, true)[0]:.2f} | {hit} of {count} ({len(true)} pairs) |"
    )


if __name__ == "__main__":
    main()
