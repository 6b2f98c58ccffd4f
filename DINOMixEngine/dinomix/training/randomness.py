"""Randomness without state: every draw has its own generator, seeded by what the draw is for.

A run that was killed and resumed, and a run shared out among processes, draw the same numbers as a run that was not.
"""

import zlib

import numpy as np


def generator(seed: int, purpose: str, step: int, sample: int = 0) -> np.random.Generator:
    """The generator of one draw; ``sample`` counts over all processes."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), step, sample])


def integer_seed(seed: int, purpose: str, step: int, sample: int = 0) -> int:
    """The same as a number below 2**31, for libraries that take an integer."""
    return int(generator(seed, purpose, step, sample).integers(2**31))
