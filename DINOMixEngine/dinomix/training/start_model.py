"""The model that a run starts from, and what it says of the run's cases: asked once, and kept beside the prepared cases."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from dinomix.cohort.case_images import read_case_images
from dinomix.cohort.cohort import Case, Cohort
from dinomix.errors import DinomixError
from dinomix.events import Emit, silent
from dinomix.files import written_aside
from dinomix.images.reading import read_label
from dinomix.images.volume import Volume
from dinomix.images.writing import write_labels
from dinomix.inference.segment import segment_volume
from dinomix.models.folder import Model, load_model
from dinomix.models.matching import can_see, images_for
from dinomix.planning.cache import refuse_changed
from dinomix.planning.plan import Plan
from dinomix.planning.preprocessing import labels_to_plan_grid
from dinomix.training.run_directory import RunDirectory

FORMAT = 1
"""Raised when what an older version has kept must not be read."""


@dataclass(frozen=True)
class StartModel:
    """
    Attributes:
        cohort: whose cases it is asked about.
        cache: where its predictions are kept, that of the run.
        device: as ``segment_volume`` takes it.
    """

    model: Model
    cohort: Cohort
    cache: Path
    device: str

    @classmethod
    def of(cls, directory: RunDirectory, device: str) -> "StartModel | None":
        """That of a run; None for a run from scratch, from an encoder, or from a model of another modality or
        of channels that the cohort does not have.

        Raises:
            DinomixError: it is not there any more, or is another by now.
        """
        path = directory.start_model
        if path is None or path.is_file():
            return None
        model = load_model(path)
        if directory.start_fingerprint not in (None, model.fingerprint):
            raise DinomixError(
                f"{path} is not the model any more that the run began with.", "Put that back to compare with it."
            )
        return cls(model, directory.cohort, directory.cache, device) if can_see(model.plan, directory.cohort) else None

    def labels_of(self, case: Case, emit: Emit = silent) -> Volume:
        """The model's structures, by its own ids, on the grid of the case's image; by its own plan and at full quality.

        Args:
            emit: what it raises ends the work.

        Raises:
            DinomixError: the image cannot be read any more, or has changed since it was checked.
        """
        file = self._file(case, ".nrrd")
        self.cache.mkdir(parents=True, exist_ok=True)
        # Runs that share a cache wait here for each other, and find written what they would have written.
        with FileLock(self.cache / ".lock-start"):
            if (known := _read(file)) is not None:
                return known
            refuse_changed(case)
            labels = self.predicted(case, emit)
            write_labels(labels.array, labels.geometry, self.model.labels, file)
        return labels

    def knows(self, case: Case) -> bool:
        """Whether ``labels_of`` has been asked about a case."""
        return self._file(case, ".nrrd").exists()

    def predicted(self, case: Case, emit: Emit = silent) -> Volume:
        """``labels_of``, computed anew, and kept nowhere."""
        images = images_for(self.model, self.cohort.channel_names, read_case_images(case, self.cohort))
        return segment_volume(images, self.model, device=self.device, precision="float32", runtime="pytorch",
                              emit=emit, network=self.model.warm_network)  # fmt: skip

    def on_grid(self, case: Case, plan: Plan) -> Path:
        """A file of ``labels_of`` on the grid of a plan: (X, Y, Z), channel numbers of the model's network."""
        file = self._file(case, ".npy", grid=plan.grid.model_dump(mode="json"))
        if not file.exists():
            ids = np.zeros(max(self.model.labels.ids) + 1, np.uint16)
            ids[list(self.model.labels.ids)] = np.arange(1, self.model.labels.channels)
            with written_aside(file) as aside:
                np.save(aside, ids[labels_to_plan_grid(self.labels_of(case), plan)])
        return file

    def _file(self, case: Case, ending: str, **made_with: object) -> Path:
        source = {"format": FORMAT, "image": case.images_sha256, "model": self.model.fingerprint, **made_with}
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:24]
        return self.cache / f"start-{key}{ending}"


def _read(file: Path) -> Volume | None:
    """What was kept; None where there is nothing, or it is damaged."""
    try:
        return read_label(file)[0] if file.exists() else None
    except DinomixError:
        return None
