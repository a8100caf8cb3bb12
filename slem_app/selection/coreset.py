"""How far cases lie from those that are labelled: k-centre greedy (Sener and Savarese 2018, "Active Learning
for CNNs: A Core-Set Approach", Alg. 1).
"""

from __future__ import annotations

import numpy as np

__all__ = ["distances", "k_centre"]


def distances(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Distance of each case to the nearest centre; without any centre, how near it lies to the middle of all
    (the greater the nearer).

    Args:
        features: (n, F) of the cases.
        centres: (m, F), m may be 0. Each feature is scaled by its spread over both.

    Returns:
        (n,), the next centre is where it is largest.
    """
    together = np.concatenate([features, centres.reshape(-1, features.shape[1])]).astype(np.float64)
    spread = together.std(axis=0)
    together = (together - together.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    cases, others = together[: len(features)], together[len(features) :]
    if not len(others):
        return -np.linalg.norm(cases, axis=1)
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a b, for no array of n x m x F
    squares = (cases**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * cases @ others.T
    return np.sqrt(np.maximum(squares, 0).min(axis=1))


def k_centre(features: np.ndarray, centres: np.ndarray, count: int) -> list[int]:
    """Rows of `features` in the order in which greedy k-centre takes them, at most `count`; arguments as of
    `distances`.
    """
    left = list(range(len(features)))
    chosen: list[int] = []
    while left and len(chosen) < count:
        far = distances(
            features[left], np.concatenate([centres.reshape(-1, features.shape[1]), features[chosen]])
        )
        chosen.append(left.pop(int(far.argmax())))
    return chosen
