"""nnU-Net v2 on the labeled cases of a cohort, by its own plan, for a given processor time; ``evidence.py`` calls it.

Run it by a Python with nnunetv2, on one thread. The poly schedule runs on the share of the time that is used up, augmentation
is done in the training process, and all labeled cases are trained on (``fold all``).
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path


def lay_out(cohort: Path, base: Path) -> list[int]:
    """nnU-Net's raw data set of the labeled cases, whose labels it wants without gaps; their numbers in the cohort, in order."""
    told = json.loads(cohort.read_text())
    raw = base / "raw" / "Dataset001_cohort"
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    cases = cohort.parent / "cases" / "labeled"
    names = sorted(path.name for path in (cases / "images").iterdir())
    structures = told["labels"]["structures"]
    ids = [0, *(structure["id"] for structure in structures)]
    consecutive = {id: n for n, id in enumerate(ids)}
    for name in names:
        shutil.copy(cases / "images" / name, raw / "imagesTr" / name.replace(".nii.gz", "_0000.nii.gz"))
        renumber(cases / "labels" / name, raw / "labelsTr" / name, consecutive)
    description = {
        "channel_names": {"0": told["modality"]},
        "labels": {name: n for n, name in enumerate(["background", *(each["name"] for each in structures)])},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    return ids


def renumber(source: Path, target: Path, numbers: dict[int, int]) -> None:
    """A label map with other numbers; what has none becomes background."""
    import numpy as np
    import SimpleITK as sitk

    label = sitk.ReadImage(str(source))
    values = sitk.GetArrayFromImage(label)
    table = np.zeros(int(max(values.max(), *numbers)) + 1, np.uint8)
    table[list(numbers)] = list(numbers.values())
    made = sitk.GetImageFromArray(table[values])
    made.CopyInformation(label)
    sitk.WriteImage(made, str(target), True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--configuration", default="3d_fullres")
    arguments = parser.parse_args()
    base = (arguments.out / "nnunet").absolute()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(base / name)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}
    ids = lay_out(arguments.cohort, base)

    # nnU-Net reads these variables when it is imported.
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Timed(nnUNetTrainer):
        """nnU-Net's trainer, whose schedule is the processor's time."""

        def run_training(self) -> None:
            self.on_train_start()
            self.network.train()
            began, used, self.done = time.process_time(), 0.0, 0
            while used < 1:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - used) ** 0.9
                self.train_step(next(self.dataloader_train))
                self.done += 1
                used = (time.process_time() - began) / (60 * arguments.minutes)
            self.on_train_end()

    torch.manual_seed(0)
    extract_fingerprints([1], num_processes=1)
    plan_experiments([1])
    preprocess([1], configurations=(arguments.configuration,), num_processes=(1,))
    prepared = base / "preprocessed" / "Dataset001_cohort"
    plans = json.loads((prepared / "nnUNetPlans.json").read_text())
    description = json.loads((prepared / "dataset.json").read_text())
    # 0: in the training process; the planner wants more.
    os.environ.update(nnUNet_n_proc_DA="0")
    torch.set_num_threads(1)
    trainer = Timed(
        {**plans, "continue_training": False}, arguments.configuration, "all", description, torch.device("cpu")
    )
    trainer.run_training()
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    folder = Path(trainer.output_folder_base)
    folder.rename(folder.with_name(folder.name.replace("Timed", "nnUNetTrainer")))
    folder = folder.with_name(folder.name.replace("Timed", "nnUNetTrainer"))
    checkpoint = folder / "fold_all" / "checkpoint_final.pth"
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    torch.save({**state, "trainer_name": "nnUNetTrainer"}, checkpoint)
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=("all",))
    test, result = arguments.cohort.parent / "cases" / "test" / "images", arguments.out / "test"
    result.mkdir(parents=True, exist_ok=True)
    images = sorted(test.iterdir())
    predictor.predict_from_files_sequential(
        [[str(path)] for path in images], [str(result / path.name.removesuffix(".nii.gz")) for path in images]
    )
    for path in result.glob("*.nii.gz"):
        renumber(path, path, dict(enumerate(ids)))
    sizes = plans["configurations"][arguments.configuration]
    told = {"iterations": trainer.done, "patch": sizes["patch_size"], "batch": sizes["batch_size"]}
    (arguments.out / "nnunet.json").write_text(json.dumps(told))
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
