"""The male pelvis in T2, ADC and diffusion: peripheral and transition zone of the prostate among what lies
around them.
"""

from __future__ import annotations

from slem_app.phantom.abdomen import plan_grids
from slem_app.phantom.body import (
    BodyPhantom,
    BodyPlan,
    Ellipsoid,
    Organ,
    SequenceProtocol,
    draw_body,
    image_body,
)

__all__ = ["PELVIS", "make_pelvis"]

ORGANS = (
    Organ(
        "skin and fat",
        "fat",
        (Ellipsoid((0, 0, 0), (120, 82, 600)),),
        wobble=0.01,
        varies=(0.0, 0.04),
        moves=0.0,
    ),
    Organ(
        "muscle",
        "muscle",
        (Ellipsoid((0, -4, 0), (106, 66, 500)),),
        wobble=0.015,
        varies=(1.0, 0.03),
        moves=0.0,
    ),
    Organ(
        "inner fat", "fat", (Ellipsoid((0, 2, 0), (50, 56, 160)),), wobble=0.04, varies=(1.0, 0.04), moves=0.0
    ),
    Organ(
        "femoral heads",
        "marrow",
        (Ellipsoid((84, 6, 6), (22, 22, 22)), Ellipsoid((-84, 6, 6), (22, 22, 22))),
        varies=(2.0, 0.05),
        moves=0.0,
    ),
    Organ("bladder", "fluid", (Ellipsoid((0, 22, 46), (32, 26, 22)),), varies=(3.0, 0.15), moves=0.0),
    Organ("rectum", "rectum", (Ellipsoid((0, -44, 0), (16, 14, 80)),), varies=(2.0, 0.1), moves=0.0),
    Organ(
        "peripheral zone",
        "peripheral",
        (Ellipsoid((0, -6, 0), (26, 19, 24)),),
        label="peripheral zone",
        wobble=0.03,
        varies=(2.0, 0.1),
        moves=0.0,
    ),
    Organ(
        "transition zone",
        "transition",
        (Ellipsoid((0, 1, 3), (18, 13, 18)),),
        label="transition zone",
        wobble=0.04,
        varies=(1.5, 0.1),
        moves=0.0,
    ),
)
TISSUES = {  # T2, ADC, diffusion at a high b-value
    "fat": (1.10, 0.05, 0.03),
    "muscle": (0.30, 0.45, 0.14),
    "marrow": (0.75, 0.15, 0.06),
    "fluid": (1.60, 1.60, 0.05),
    "rectum": (0.35, 0.50, 0.20),
    "peripheral": (1.15, 1.10, 0.30),
    "transition": (0.62, 0.80, 0.42),
}


def _signal(column: int) -> dict[str, tuple[float, float]]:
    return {tissue: (row[column], 0.0) for tissue, row in TISSUES.items()}


PELVIS = BodyPlan(
    organs=ORGANS,
    labels=("peripheral zone", "transition zone"),
    protocols={
        "t2": SequenceProtocol(0, _signal(0)),
        "adc": SequenceProtocol(1, _signal(1), resolution=(2.0, 2.0, 1.0)),
        "dwi": SequenceProtocol(1, _signal(2), resolution=(2.0, 2.0, 1.0)),
    },
    examination="MR PROSTATE",
    part="PROSTATE",
    extent=(264.0, 192.0, 96.0),
)


def make_pelvis(
    seed: int = 0, spacing: tuple[float, float, float] = (1.0, 1.0, 3.0), scale: float = 1.0
) -> BodyPhantom:
    """Make a case: t2 on a fine grid, adc and dwi on a coarse one of their own.

    Args:
        seed: of the patient and the noise.
        spacing: mm along R-L, A-P and S-I of T2.
        scale: 1 is an adult.
    """
    return image_body(draw_body(PELVIS, seed, scale, (0.0, 0.5)), plan_grids(PELVIS, spacing, scale))
