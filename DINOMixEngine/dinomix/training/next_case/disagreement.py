"""First the cases of which the EMA teacher and the student say most differently what they show."""

import numpy as np

from dinomix.training.next_case.strategy import Pool, Ranked, Strategy, mean


def by_disagreement(pool: Pool, rng: np.random.Generator) -> list[Ranked]:
    """The largest mean over the structures that either finds first; 0 where neither finds any."""
    ranked = [Ranked(case, mean(case.disagreement) or 0.0, case.disagreement) for case in pool.cases]
    return sorted(ranked, key=lambda place: -(place.score or 0.0))


STRATEGY = Strategy(by_disagreement, needs_student=True)
