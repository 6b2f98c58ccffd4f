"""A small cohort to try the module with: phantom abdomens, which are made here, so that nothing is downloaded."""

from __future__ import annotations

import colorsys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from dinomix_slicer.scene.segmentations import labelMapFrom, newSegmentation

CATEGORY = "DINOMix"
LABELED, UNLABELED = 4, 4
SPACING = 6.0  # mm, so that a case takes a fraction of a second


def registerSampleData(thumbnail: str) -> None:
    """Offer the cohort in Slicer's Sample Data module; to be called when Slicer has started.

    Args:
        thumbnail: path of the picture to show there.
    """
    try:
        from SampleData import SampleDataLogic
    except ImportError:
        return  # a Slicer without that module has no window to offer it in
    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # not in Slicer 5.10
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("DINOMix"))
    SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=_("Phantom abdomens to train with"),
        uris=[],
        fileNames=[],
        customDownloader=lambda source: addPhantoms(),
        thumbnailFileName=thumbnail,
    )


def addPhantoms() -> None:
    """Put the cohort into the scene: labeled cases with their segmentations, then unlabeled ones; what is there is kept.

    It takes a few seconds, in which the window stays usable.
    """
    from dinomix.demo.anatomy import SYNAPSE_ORGANS
    from dinomix.demo.phantom import phantom_case

    colors = [colorsys.hsv_to_rgb(id / len(SYNAPSE_ORGANS), 0.6, 0.9) for id in SYNAPSE_ORGANS]
    structures = [
        {"id": id, "name": name, "color": [255 * value for value in color]}
        for (id, name), color in zip(SYNAPSE_ORGANS.items(), colors, strict=True)
    ]
    names = [_("Phantom {number}").format(number=number + 1) for number in range(LABELED + UNLABELED)]
    with ThreadPoolExecutor(1) as thread:
        for number, name in enumerate(names):
            slicer.util.showStatusMessage(_("Making {name} of {total}...").format(name=name, total=len(names)))
            made = thread.submit(phantom_case, (0, number), SPACING)
            while not made.done():
                slicer.app.processEvents()
                time.sleep(0.01)  # the thread can work only while Python's lock is free
            if slicer.mrmlScene.GetFirstNodeByName(name) is None:
                addCase(name, *made.result(), structures if number < LABELED else [])
    hasViews = slicer.app.layoutManager() is not None
    slicer.util.setSliceViewerLayers(background=slicer.mrmlScene.GetFirstNodeByName(names[0]), fit=hasViews)
    slicer.util.showStatusMessage(_("The phantoms can be chosen on the page Cases of DINOMix Train."), 10000)


def addCase(name: str, image: Any, labels: Any, structures: list[dict[str, Any]]) -> None:
    """Add an image and a label map of the engine to the scene; without structures the image alone, as an unlabeled case."""
    affine = image.geometry.affine_ras
    # Whole HU in two bytes, as scanners store them.
    volume = slicer.util.addVolumeFromArray(np.round(image.array).astype(np.int16), affine, name)
    if not structures:
        return
    title = _("{name} organs").format(name=name)
    node = newSegmentation(title, volume, labelMapFrom(labels.array, affine), structures)
    node.GetDisplayNode().SetVisibility(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0] is node)
