"""Which half of a brain is the left one: the plane about which it is symmetric, by registration with its own
mirror image.

Left and right are the patient's, by the frame of the image's header. A brain that lies askew in it is still
cut in half where it is (Prima et al., "Computation of the mid-sagittal plane in 3-D brain images", IEEE TMI
21:122, 2002, look for the same plane by matching blocks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from slem_app.volumes.coarse import Coarse

__all__ = ["Midplane", "find_midplane"]

LEAST_AGREEMENT = 0.9  # Dice of the brain and its mirror image
UPRIGHT = (0.0,)  # degrees: a head lies nearly straight in its frame


@dataclass(frozen=True, eq=False)
class Midplane:
    """A plane that cuts a brain in half."""

    point: np.ndarray
    """(3,) RAS mm, in it, in the middle of the brain."""
    right: np.ndarray
    """(3,) of length 1, across it, towards the patient's right."""
    agreement: float
    """Dice of the brain and its mirror image."""

    @property
    def believed(self) -> bool:
        """The brain is symmetric about it."""
        return self.agreement >= LEAST_AGREEMENT

    def across(self, world: np.ndarray) -> np.ndarray:
        """(N,) mm from it to each of (N, 3) RAS points, positive on the patient's right."""
        return (world - self.point) @ self.right


def find_midplane(brain: Coarse) -> Midplane:
    """The plane of a brain.

    Args:
        brain: one sequence; its first axis runs to the patient's right, as `coarse` makes it.
    """
    # takes a second to import, which a server would wait for at its start
    from slem_app.volumes.register import brains_agree, rigid

    mirrored = replace(brain, image=brain.image[::-1].copy(), brain=brain.brain[::-1].copy())
    matrix = rigid(brain, mirrored, turns=UPRIGHT)
    middle = brain.grid.to_world((np.array(brain.image.shape) - 1) / 2)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = 2 * middle[0]
    reflection = flip @ matrix  # a point of the brain -> the same point of its other half
    values, vectors = np.linalg.eigh((reflection[:3, :3] + reflection[:3, :3].T) / 2)
    right = vectors[:, values.argmin()]
    right = right if right[0] > 0 else -right
    centre = brain.grid.to_world(np.array(ndimage.center_of_mass(brain.brain > 0.5)))
    other = reflection[:3, :3] @ centre + reflection[:3, 3]
    return Midplane((centre + other) / 2, right, brains_agree(brain, mirrored, matrix))
