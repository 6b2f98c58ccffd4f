"""Class-stratified scheduled power predictive entropy (ClaSP PE; Lueth et al., arXiv 2601.13677), for whole cases.

The paper draws patches. Two of three are drawn for one structure each, all structures as often as another, by the entropy of the
prediction times the structure's probability, and the others by the entropy alone. To the logarithm of each score Gumbel noise of
the scale 1 / beta is added ("power" sampling, Kirsch et al., arXiv 2106.12059), beta growing from 1 to 100 by equal factors from
round to round: patches that are asked for together differ at first, and the most uncertain ones are taken later.

Here a case's score is the mean entropy in and around a structure, or all of them: patches have one size and cases have not, and
a sum would only ask for large ones. The strata take turns, so that any number of first cases has about those shares. How far beta
has come is told by the number of labeled cases, since nobody knows how many rounds there will be.
"""

import numpy as np
from numpy.typing import NDArray

from dinomix.training.next_case.strategy import Pool, Ranked, Strategy

STRATIFIED = 0.66
"""The share of cases that is asked for by one structure."""
FIRST_BETA, LAST_BETA = 1.0, 100.0
FIRST_LABELED, LAST_LABELED = 2, 10
"""Labeled cases with which beta begins to grow, and has grown."""


def by_clasp_pe(pool: Pool, rng: np.random.Generator) -> list[Ranked]:
    """The strata in turns, each with its most uncertain case of those left, after noise."""
    names = sorted({name for case in pool.cases for name, value in case.entropies.items() if value is not None})
    rng.shuffle(names)
    scores = [[case.entropy for case in pool.cases], *([case.entropies.get(n) for case in pool.cases] for n in names)]
    noisy = with_power_noise(np.array(scores, float), beta_with(pool.labeled.total()), rng)
    shares = [1 - STRATIFIED, *(STRATIFIED / len(names) for _ in names)]
    waiting = [[number for number in np.argsort(row) if np.isfinite(row[number])] for row in noisy]
    order: dict[int, None] = {}
    taken = [0] * len(shares)
    while any(waiting):
        # Whose share of the cases so far is the furthest behind.
        stratum = max(
            (s for s, cases in enumerate(waiting) if cases), key=lambda s: shares[s] * (len(order) + 1) - taken[s]
        )
        number = int(waiting[stratum].pop())
        if number not in order:
            order[number] = None
            taken[stratum] += 1
    nothing = [number for number in range(len(pool.cases)) if number not in order]
    cases = [pool.cases[number] for number in (*order, *nothing)]
    return [Ranked(case, case.entropy or 0.0, case.entropies) for case in cases]


def beta_with(labeled: int) -> float:
    """How much the scores count against the noise when so many cases are labeled."""
    part = np.clip((labeled - FIRST_LABELED) / (LAST_LABELED - FIRST_LABELED), 0, 1)
    return float(FIRST_BETA * (LAST_BETA / FIRST_BETA) ** part)


def with_power_noise(scores: NDArray[np.float64], beta: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """log(score) + Gumbel(0, 1 / beta) noise of scores >= 0, of any shape; -inf where a score is NaN."""
    noisy = np.log(np.maximum(scores, 1e-12)) + rng.gumbel(0, 1 / beta, scores.shape)
    return np.where(np.isnan(scores), -np.inf, noisy)


STRATEGY = Strategy(by_clasp_pe)
