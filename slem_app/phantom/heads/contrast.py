"""How bright each tissue is: as the four sequences show it, or anything at all.

Plausible signals follow what spin echoes give at 1.5 T, relative to white matter on T1; random ones are
SynthSeg's (Billot et al. 2023): every label its own mean, so that a network cannot lean on contrast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["GROUPS", "PARTS", "SEQUENCES", "signals"]

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
GROUPS = (
    *("air", "white", "grey", "deep grey", "csf", "blood", "cord", "muscle", "fat", "skin", "bone"),
    *("marrow", "eye", "mucosa"),
)
PARTS = ("edema", "core", "enhancing", "necrosis", "cyst", "haemorrhage", "cavity")
"""What a tumour is made of: edema around it, solid core that does not enhance, ..., a surgeon's cavity."""

PLAUSIBLE = {  # mean signal, in the order of SEQUENCES
    "air": (0.02, 0.02, 0.02, 0.02),
    "white": (1.00, 1.02, 0.55, 0.62),
    "grey": (0.76, 0.80, 0.78, 0.78),
    "deep grey": (0.82, 0.86, 0.68, 0.70),
    "csf": (0.28, 0.30, 1.60, 0.18),
    "blood": (0.50, 1.50, 0.30, 0.35),
    "cord": (0.92, 0.95, 0.60, 0.65),
    "muscle": (0.62, 0.72, 0.35, 0.40),
    "fat": (1.70, 1.65, 1.10, 0.90),
    "skin": (1.00, 1.10, 0.70, 0.60),
    "bone": (0.15, 0.16, 0.12, 0.10),
    "marrow": (1.15, 1.20, 0.65, 0.55),
    "eye": (0.35, 0.36, 1.55, 0.30),
    "mucosa": (0.60, 1.10, 1.10, 0.95),
    "edema": (0.66, 0.68, 1.20, 1.35),
    "core": (0.62, 0.66, 1.15, 1.20),
    "enhancing": (0.70, 1.65, 0.95, 1.10),
    "necrosis": (0.42, 0.42, 1.40, 0.70),
    "cyst": (0.32, 0.33, 1.60, 0.45),
    "haemorrhage": (1.60, 1.62, 0.80, 1.00),
    "cavity": (0.28, 0.30, 1.60, 0.22),
}
JITTER = 0.12  # sd of the logarithm of plausible means
TEXTURE = 0.035  # sd within a tissue, relative to white matter


def signals(
    rng: np.random.Generator, tissues: Sequence[str], sequence: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the signal of each tissue.

    Args:
        rng: random numbers.
        tissues: of each code, of `GROUPS` and `PARTS`; air first.
        sequence: of `SEQUENCES`; None: any contrast.

    Returns:
        Means and standard deviations, (C,) float32 each; white matter on T1 is about 1.
    """
    count = len(tissues)
    if sequence is None:
        means = rng.uniform(0.05, 1.5, count)
        deviations = rng.uniform(0.01, 0.12, count)
        if rng.random() < 0.7:  # most images have dark air and dark bone
            means[[t in ("air", "bone") for t in tissues]] *= rng.uniform(0, 0.3)
        same = {tissue: rng.uniform(0.05, 1.5) for tissue in sorted(set(tissues))}
        if rng.random() < 0.5:  # both hemispheres alike
            means = np.array([0.8 * same[t] + 0.2 * m for t, m in zip(tissues, means, strict=True)])
    else:
        column = SEQUENCES.index(sequence)
        factor = {tissue: np.exp(JITTER * rng.standard_normal()) for tissue in sorted(set(tissues))}
        means = np.array([PLAUSIBLE[t][column] * factor[t] for t in tissues])
        means *= np.exp(0.03 * rng.standard_normal(count))
        deviations = TEXTURE * np.exp(0.4 * rng.standard_normal(count))
        soft = np.array([t in ("muscle", "fat", "skin", "marrow", "mucosa", "bone") for t in tissues])
        deviations[soft] *= 3  # vessels, nerves and glands that no label names
    return means.astype(np.float32), deviations.astype(np.float32)
