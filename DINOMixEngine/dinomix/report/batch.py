"""What a batch of segmentations came to, at one look: measurements and a picture of each case, one table, one page."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.image import imread

from dinomix import __version__
from dinomix.cohort.case_images import read_first_image
from dinomix.errors import DinomixError
from dinomix.files import read_json, sha256, shortened_name, write_json, write_text
from dinomix.images.dicom_header import dicom_modality
from dinomix.images.volume import Volume
from dinomix.inference.outputs import RECORDS, Output
from dinomix.inference.several_models import Models
from dinomix.inference.sureness import PredictedDice
from dinomix.labels import LabelSet
from dinomix.measuring.measurements import measured
from dinomix.measuring.table import Row, rows, write_table
from dinomix.report.figures import readable
from dinomix.report.front_view import front_view
from dinomix.report.overlays import make_overlay, write_overlay_picture
from dinomix.report.read_again import read_again
from dinomix.report.unusual import unusual_volumes

PAGE, PICTURES = "overview.html", "previews"
MADE = '<meta name="generator" content="DINOMix batch">'
"""By which a page of ours is known, so that no other is written over."""


@dataclass
class Batch:
    """The results of one call of ``segment``.

    Attributes:
        labels: the structures that the results may hold.
        models: what made them.
        statistics: the table to write, .csv or .json; None for none.
        pictures: draw each case; of a folder also ``overview.html``.
    """

    labels: LabelSet
    models: Models
    statistics: Path | None = None
    pictures: bool = False
    _of_single_files: dict[Path, dict[str, Any]] = field(default_factory=dict)

    def add(self, output: Output, predicted: PredictedDice) -> None:
        """Measure and draw one result that was written; what was done for the same file before is kept.

        Args:
            predicted: the Dice of its structures, as far as it is known.

        Raises:
            DinomixError: the image or the result cannot be read again.
        """
        picture, result = picture_of(output), sha256(output.path)
        known = self._known(output, result)
        if known is not None and known["predicted_dice"] == predicted and (picture.is_file() or not self.pictures):
            return
        image = read_first_image(output.images, resample_sheared=True)
        segmentation = read_again(output, self.labels, image.geometry)
        name = output.name_of_file
        told: dict[str, Any] = {
            "labels_sha256": result,
            "structures": list(self.labels.names),
            "predicted_dice": predicted,
            "rows": self._rows(name, segmentation, image, predicted),
            "doubts": self._doubts(output, image, segmentation),
        }
        if self.pictures:
            self._draw(name, image, segmentation, picture)
        if output.record is None:
            self._of_single_files[output.path] = told
        else:
            write_json(_kept_beside(output), told)

    def write(self, outputs: Sequence[Output]) -> list[Path]:
        """Write the table, and of a folder the page, from all results that there are by now.

        Returns:
            The files that were written, pictures included.
        """
        done = [(output, told) for output in outputs if (told := self._of(output)) is not None]
        written = [picture_of(output) for output, _ in done] if self.pictures else []
        if self.statistics is not None and done:
            write_table(self.statistics, [row for _, told in done for row in told["rows"]])
            written.append(self.statistics)
        if self.pictures and done and done[0][0].record is not None:
            page = done[0][0].path.parent / PAGE
            write_text(page, self._page(done))
            written.append(page)
        return written

    @property
    def modality(self) -> str:
        return self.models.modality

    def _rows(self, name: str, segmentation: Volume, image: Volume, predicted: PredictedDice) -> list[Row]:
        """The measurements; of several models, each row also says which one found the structure."""
        found = rows(name, measured(segmentation, self.labels, image), self.labels, self.modality, predicted)
        owners = self.models.owners
        return [{**row, "model": owners[str(row["structure"])]} for row in found] if owners else found

    def _unsure(self, predicted: PredictedDice) -> dict[str, float]:
        """The structures that should be looked at first, with their predicted Dice, the lowest first."""
        unsure = {
            name: dice for name, dice in predicted.items() if dice is not None and self.models.is_unsure(name, dice)
        }
        return dict(sorted(unsure.items(), key=lambda item: item[1]))

    def _doubts(self, output: Output, image: Volume, segmentation: Volume) -> list[str]:
        """Of the first image of the case, and of the result."""
        found = self.models.doubts_of_image(image, dicom_modality(output.image))
        return [doubt.message for doubt in found + self.models.doubts_of_result(segmentation, self.labels)]

    def _of(self, output: Output) -> dict[str, Any] | None:
        return self._known(output, sha256(output.path)) if output.path.exists() else None

    def _known(self, output: Output, result: str) -> dict[str, Any] | None:
        """What was measured in the same result, for the same structures."""
        told = self._of_single_files.get(output.path)
        if output.record is not None:
            try:
                told = read_json(_kept_beside(output))
            except (OSError, ValueError):
                return None
        wanted = {"labels_sha256": result, "structures": list(self.labels.names)}
        return told if isinstance(told, dict) and "predicted_dice" in told and wanted.items() <= told.items() else None

    def _draw(self, name: str, image: Volume, segmentation: Volume, picture: Path) -> None:
        overlay = make_overlay(name, image, {"Segmentation": segmentation}, self.modality)
        channels = np.searchsorted([0, *self.labels.ids], overlay.rows[0][1])
        x, y, z = overlay.spacing
        front = front_view(channels, (x, y, z), self.labels)
        picture.parent.mkdir(parents=True, exist_ok=True)
        shown = imread(io.BytesIO(front)) if front is not None else None
        write_overlay_picture(overlay, self.labels, picture, title=name, front=shown)

    def _page(self, done: list[tuple[Output, dict[str, Any]]]) -> str:
        volumes = {output.name_of_file: {str(row["structure"]): float(row["volume_ml"]) for row in told["rows"]}
                   for output, told in done}  # fmt: skip
        unusual = unusual_volumes(volumes)
        cases = [
            {
                "name": output.name_of_file,
                "picture": f"{PICTURES}/{picture_of(output).name}",
                "file": output.path.name,
                "rows": told["rows"],
                "surest_last": sorted(told["rows"], key=lambda row: 2.0 if (d := row["predicted_dice"]) is None else d),
                "unsure": self._unsure(told["predicted_dice"]),
                "found": sum(bool(row["voxels"]) for row in told["rows"]),
                "doubts": told["doubts"],
                "unusual": unusual[output.name_of_file],
                "cut": [str(row["structure"]) for row in told["rows"] if row["touches_edge_of_image"]],
            }
            for output, told in done
        ]
        cases.sort(
            key=lambda case: (-len(case["doubts"]) - len(case["unusual"]) - len(case["unsure"]), _least_sure(case))
        )
        environment = Environment(loader=PackageLoader("dinomix.report", "."), autoescape=select_autoescape())
        environment.filters["readable"] = readable
        return environment.get_template("batch.html").render(
            made=MADE,
            cases=cases,
            structures=self.labels.names,
            colors={s.name: "rgb({}, {}, {})".format(*s.color) for s in self.labels.structures},
            models=self._structures_by_model(),
            predicts_dice=any(row["predicted_dice"] is not None for case in cases for row in case["rows"]),
            table=self.statistics.name if self.statistics is not None else None,
            version=__version__,
            written=time.strftime("%Y-%m-%d %H:%M"),
        )

    def _structures_by_model(self) -> dict[str, list[str]]:
        """Title of each of several models -> the structures that are its own; empty for one model."""
        found: dict[str, list[str]] = {}
        for name in self.labels.names if self.models.owners else ():
            found.setdefault(self.models.owners[name], []).append(name)
        return found


def _least_sure(case: dict[str, Any]) -> float:
    return min((row["predicted_dice"] for row in case["rows"] if row["predicted_dice"] is not None), default=2.0)


def check_page(folder: Path, overwrite: bool) -> None:
    """Raises DinomixError where the page would take the place of another's file, before anything is computed."""
    page = folder / PAGE
    if page.exists() and not overwrite and MADE not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise DinomixError(f"{page} was not written by this command.", "Give another --out, or --overwrite.", "exists")


def picture_of(output: Output) -> Path:
    """Beside a file that the user named, in a folder of their own for a batch."""
    if output.record is None:
        return output.path.with_name(output.name_of_file + ".png")
    return output.path.parent / PICTURES / shortened_name(output.name_of_file + ".png")


def _kept_beside(output: Output) -> Path:
    return output.path.parent / RECORDS / shortened_name(output.path.name + ".measured.json")
