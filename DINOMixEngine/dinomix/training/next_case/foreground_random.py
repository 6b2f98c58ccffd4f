"""By chance, but mostly where there is something of the structures: the stronger baseline of nnActive, for whole cases.

nnActive (Lueth et al., arXiv 2511.19183) draws patches, in its stronger form two of three around a voxel of a structure drawn at
random. Here a voxel of a structure is drawn from all unlabeled cases together, as the network labels them, and the case that it
lies in is next.
"""

import numpy as np

from dinomix.training.next_case.strategy import Pool, Ranked, Strategy

FOREGROUND = 2 / 3
"""The share of cases that is drawn by a structure; the others are drawn from all alike."""


def by_foreground(pool: Pool, rng: np.random.Generator) -> list[Ranked]:
    """One case after the other: two of three by a voxel of a structure that any of the others still shows.

    What is told of each structure is the case's share of all its voxels.
    """
    names = sorted({name for case in pool.cases for name in case.voxels})
    rows = [[case.voxels.get(name, 0) for case in pool.cases] for name in names]
    voxels = np.array(rows, float).reshape(len(names), len(pool.cases))
    left = np.ones(len(pool.cases), bool)
    order: list[int] = []
    while left.any():
        weights = left.astype(float)
        shown = np.flatnonzero((voxels * left).any(1))
        if len(shown) and rng.random() < FOREGROUND:
            weights = voxels[rng.choice(shown)] * left
        number = int(rng.choice(len(left), p=weights / weights.sum()))
        left[number] = False
        order.append(number)
    shares = voxels / np.maximum(voxels.sum(1, keepdims=True), 1)
    return [
        Ranked(pool.cases[n], None, dict(zip(names, [s or None for s in shares[:, n].tolist()], strict=True)))
        for n in order
    ]


STRATEGY = Strategy(by_foreground)
