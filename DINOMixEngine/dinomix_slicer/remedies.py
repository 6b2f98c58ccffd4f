"""What to do about an error of the engine, in the windows' words: the engine's own name options of its command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _


def remedyOf(told: Mapping[str, Any]) -> str:
    """The remedy of an event or an answer that has ``remedy`` and ``code``; the engine's own where it names no option."""
    return remedies().get(str(told.get("code") or ""), str(told.get("remedy") or ""))


def textOf(told: Mapping[str, Any]) -> str:
    """Message and remedy in one."""
    return f"{told.get('message') or ''} {remedyOf(told)}".strip()


AS_IT_IS = ("grid",)
"""Codes of which the windows have no words of their own: what the engine says to run is run in a terminal."""


def remedies() -> dict[str, str]:
    """Code of an error, see docs/python_api.md -> what to do in the window; none for ``AS_IT_IS``."""
    return {
        "channels": _("Choose the image of each channel again: all are of one patient, and each has its own place."),
        "clean-up": _("Give largest, or a least size such as 0.5ml."),
        "cohort": _("Check the cases again on the page Cases."),
        "device": _("Choose another device, or the automatic one."),
        "dicom-name": _("Choose another format, or leave this organ out."),
        "dicom-source": _("Choose a folder with its DICOM series, or another format."),
        "disk": _("Free some space and resume the run; or begin one with FKD at each patch, which needs less."),
        "download": _(
            "Try again: what was fetched is kept. Without a network, set a folder that holds the catalog's files."
        ),
        "eight-bits": _("Leave the precision to be chosen automatically."),
        "ensemble": _("Choose models that were trained with the same plan and structures."),
        "exists": _("Choose another name or folder, or take away what is there."),
        "folder": _("Remove it from the list of folders, or put it back."),
        "folder-twice": _("Add it as labeled only, and the unlabeled images in a folder of their own."),
        "keep-structures": _("Start from a model that knows more, or do not keep its structures."),
        "label-map": _("Put a label map in its place."),
        "labeled-slices": _("If other slices were labeled, or all, say so under What was drawn."),
        "license": _("Read its license and agree to it."),
        "memory": _(
            "Close other programs and resume the run; or begin one with a smaller patch or fewer patches a step."
        ),
        "memory-limit": _("Allow more memory under Advanced, or crop the volume to the region of interest."),
        "modality": _("Choose the kind of images under Advanced to say otherwise."),
        "mirror": _("Segment without mirror images."),
        "model": _("Choose the folder of a model, such as the folder model of a run."),
        "model-kind": _(
            "Choose a model folder or zip of DINOMix, a MONAI bundle, an nnU-Net v2 folder, or an Auto3DSeg model.pt."
        ),
        "model-plan": _("Import it by the command line, which takes its plan and its labels; see docs/models.md."),
        "name": _("Rename the file or folder: letters, digits, - and _ are possible."),
        "no-image": _("Choose the image that was segmented."),
        "no-label": _("Add a label of the image's name, or put the image into a folder of unlabeled ones."),
        "no-labeled": _("Add a folder of labeled cases, or use some of the scene."),
        "no-run": _("Choose the folder that a run was started in, or start one."),
        "no-structure": _("If they were not labeled yet, add them as unlabeled cases."),
        "no-unlabeled": _("Add unlabeled cases on the page Cases, check them, and train again."),
        "no-validation": _("Choose a number of validation cases on the page Cases."),
        "not-finite": _("The last checkpoint is kept. Begin another run with a lower learning rate."),
        "other-image": _("Choose a model for images of this kind, or export the image again with its rescale."),
        "output": _("Choose another output folder."),
        "overlap": _("Say under Advanced which one lies on top, or subtract one from the other in the Segment Editor."),
        "partial": _("Say under What was drawn whether they are absent in the patient, or were not drawn."),
        "patients": _("If they are not, give a pattern of patients under Advanced."),
        "plan": _("Correct the patch under Advanced."),
        "plan-file": _("Copy the model or run again from where it came from, or train it again."),
        "precision": _("Choose another device, or take the setting of the precision away."),
        "pytorch": _(
            "Choose the module DINOMix Train and click Install... there, which fetches PyTorch; or write the model's graph "
            "(dinomix models graph) where it was trained."
        ),
        "radiomics": _("Measure without radiomics, or install mirp where dinomix measure runs."),
        "runtime": _("Leave the runtime to be chosen automatically."),
        "run-exists": _("Resume it, or give the new run another name."),
        "said": _("Take back under What was drawn what was said of it, or say it anew."),
        "shared-label": _("Keep one of the images, or name them under Images of each case."),
        "split": _("Give the numbers of cases only."),
        "start-model": _("Start from another model, or from scratch."),
        "structures": _("Rename it or leave it out in the table of structures, or set those voxels to 0."),
        "teacher": _("Choose the teacher again on the page Training, or train without one."),
        "too-few": _("Ask for fewer cases, or correct the pattern of patients."),
        "usage": _("Update DINOMix, so that the window and the engine are of one version."),
    }
