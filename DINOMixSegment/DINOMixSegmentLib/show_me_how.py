""" "Show me how": the module explained step by step on an example scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from dinomix.errors import DinomixError
from dinomix_slicer.signal import Signal

from .sample_data import LIVER, Sample, downloadSample, sampleFor

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

    from .logic import DINOMixSegmentLogic
    from .parameter_node import DINOMixSegmentParameterNode


@dataclass(frozen=True)
class Step:
    """One explanation.

    Attributes:
        target: what of the window it is about: "volume", "model", "apply", "views" or "output".
    """

    target: str
    title: str
    text: str


class ShowMeHow:
    """Leads through one segmentation. The window asks ``question()`` first, and calls ``begin`` when the user agrees.

    Signals:
        changed(index): the step ``steps()[index]`` is to be shown now; -1 when it is over.
        failed(problem, remedy): the example cannot go on; ``changed(-1)`` follows.
    """

    def __init__(
        self,
        logic: DINOMixSegmentLogic,
        parameterNode: DINOMixSegmentParameterNode,
        download: Callable[[Sample], vtkMRMLScalarVolumeNode] = downloadSample,
    ) -> None:
        self.changed, self.failed = Signal(), Signal()
        self.index = -1
        self._logic = logic
        self._parameterNode = parameterNode
        self._download = download
        self._model = self._fittingModel()
        self._sample = sampleFor([s["name"] for s in self._model["structures"]]) if self._model else LIVER

    def question(self) -> str:
        """What the user is asked before anything is downloaded."""
        name = self._sample.name
        if slicer.mrmlScene.GetFirstNodeByName(name) is not None:
            return _("The example uses {name}, which is loaded already. Start?").format(name=name)
        return _(
            "The example needs a scan that is not on this computer yet. {description} Slicer's Sample Data module "
            "downloads it from github.com/Slicer/SlicerTestingData and keeps it in its cache. Download it now?"
        ).format(description=self._sample.description())

    def steps(self) -> list[Step]:
        """The steps in order. The text of the model step depends on whether there is a model."""
        return [
            Step(
                "volume",
                _("The volume"),
                _(
                    "{name} was loaded and is chosen as the input. With scans of your own, the volume that the slice views "
                    "show is chosen already."
                ).format(name=self._sample.name),
            ),
            Step("model", _("The model"), self._modelText()),
            Step(
                "apply",
                _("Apply"),
                _(
                    "Apply sends the volume to a process of its own, so that Slicer stays usable, and shows how long it "
                    "takes. Cancel ends it within a second. Continue applies now."
                ),
            ),
            Step(
                "views",
                _("The result"),
                _(
                    "The organs appear in the slice views, and one by one in the 3D view. They are segments with names, "
                    "colors and terminology; the Segment Editor and the Data module work on them as on any others."
                ),
            ),
            Step(
                "output",
                _("What next"),
                _(
                    "Undo takes the result back. Choose organs to keep, or an existing segmentation to write into; other "
                    "segments stay unless you ask otherwise. The batch does the same for many volumes."
                ),
            ),
        ]

    def begin(self) -> None:
        """Load the scan and show the first step."""
        try:
            volume = self._download(self._sample)
        except DinomixError as error:
            self._giveUp(error.problem, error.remedy)
            return
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        self._parameterNode.inputVolume = volume
        self._show(0)

    def next(self) -> None:
        """Do what the shown step is about and go on to the next one; does nothing while it is segmenting."""
        if self.index < 0 or self._logic.state != "idle":
            return
        target = self.steps()[self.index].target
        if target == "model":
            self._chooseModel()
        elif target == "apply":
            self._apply()
        elif self.index + 1 < len(self.steps()):
            self._show(self.index + 1)
        else:
            self.end()

    def end(self) -> None:
        """Show no more steps; what runs goes on."""
        self._show(-1)

    def _chooseModel(self) -> None:
        self._model = self._model or self._fittingModel()
        if self._model is None:
            self._giveUp(
                _("There is no model yet, so the example ends here."), _("Add a folder with models and start again.")
            )
            return
        if not self._parameterNode.modelPath:
            self._parameterNode.modelPath = self._model["path"]
        self._show(self.index + 1)

    def _apply(self) -> None:
        """Where it fails or is cancelled, which the logic tells, this step stays, so that it can be tried again."""
        run = self._logic.startSegmentation(self._parameterNode)
        if run is not None:
            run.finished.connect(self._onFinished)

    def _onFinished(self, segmentation: object) -> None:
        if self.index >= 0:  # not ended meanwhile
            self._show(self.index + 1)

    def _giveUp(self, problem: str, remedy: str) -> None:
        self.failed.emit(problem, remedy)
        self.end()

    def _show(self, index: int) -> None:
        self.index = index
        self.changed.emit(index)

    def _fittingModel(self) -> dict | None:
        """The chosen model, or the first that can be used."""
        chosen = self._logic.model(self._parameterNode.modelPath)
        usable = [model for model in self._logic.models() if not model.get("problem")]
        return chosen or (usable[0] if usable else None)

    def _modelText(self) -> str:
        if self._model is None:
            return _(
                "A model knows which organs to find. There is none yet: train one with DINOMix Train, or put a model folder "
                "that you were given into one of the model folders, and refresh the list."
            )
        organs = ", ".join(structure["name"] for structure in self._model["structures"])
        return _("A model knows which organs to find. {title} finds {organs}.").format(
            title=self._model["title"], organs=organs
        )
