"""A tiny model with random weights that finds something in a volume; needs torch in the Python that runs the tests."""

import sys
import unittest
from pathlib import Path

import numpy as np
import slicer

ENGINE_TESTS = Path(__file__).resolve().parents[1] / "engine"


def makeModel(folder, volume, patch=(32, 32, 32)):
    """Write a model folder whose classes are all found somewhere in the volume; SkipTest without torch."""
    if str(ENGINE_TESTS) not in sys.path:
        sys.path.append(str(ENGINE_TESTS))
    try:
        from random_models import labels_with_ids, random_model, small_plan
    except ImportError as error:
        raise unittest.SkipTest(f"needs the engine's packages ({error})") from error
    image = Path(folder) / "for_the_model.nrrd"
    slicer.util.saveNode(volume, str(image))
    random_model(Path(folder) / "models" / "tiny", small_plan(patch=patch), labels_with_ids(1, 2, 5), image)
    return Path(folder) / "models" / "tiny"


def makeNoiseVolume(name="scan", shape=(24, 28, 32)):
    """A volume of smooth noise, with millimeters that differ and an origin."""
    random = np.random.default_rng(7)
    array = random.normal(0, 100, shape)
    for axis in range(3):
        array = (array + np.roll(array, 1, axis) + np.roll(array, 2, axis)) / 2
    node = slicer.util.addVolumeFromArray(array.astype(np.int16), name=name)
    node.SetSpacing(1.0, 1.1, 1.3)
    node.SetOrigin(-12, 30, 7)
    return node
