"""By chance alone: what every other strategy has to be better than."""

import numpy as np

from dinomix.training.next_case.strategy import Pool, Ranked, Strategy


def by_chance(pool: Pool, rng: np.random.Generator) -> list[Ranked]:
    """Each order is as likely as any other."""
    return [Ranked(pool.cases[number], None, {}) for number in rng.permutation(len(pool.cases))]


STRATEGY = Strategy(by_chance)
