"""The upper abdomen in the three sequences of CHAOS: liver, kidneys and spleen among what lies around them.

T1 in and out of phase come from one breath-hold, fat-suppressed T2 from another, on a grid of its own.
"""

from __future__ import annotations

from slem_app.phantom.body import (
    BodyPhantom,
    BodyPlan,
    Ellipsoid,
    Organ,
    SequenceProtocol,
    draw_body,
    image_body,
)
from slem_app.phantom.head import lps_grid
from slem_app.types import Grid, triple

__all__ = ["ABDOMEN", "make_abdomen", "plan_grids"]

ORGANS = (  # the patient's right is +R
    Organ(
        "skin and fat",
        "fat",
        (Ellipsoid((0, 0, 0), (172, 122, 900)),),
        moves=0.0,
        wobble=0.01,
        varies=(0.0, 0.05),
    ),
    Organ(
        "muscle",
        "muscle",
        (Ellipsoid((0, -2, 0), (152, 101, 800)),),
        moves=0.0,
        wobble=0.012,
        varies=(1.0, 0.04),
    ),
    Organ(
        "inner fat",
        "fat",
        (Ellipsoid((0, 6, -10), (138, 86, 400)),),
        moves=0.0,
        wobble=0.015,
        varies=(1.0, 0.03),
    ),
    Organ(
        "back",
        "muscle",
        (Ellipsoid((34, -62, -20), (30, 26, 300)), Ellipsoid((-34, -62, -20), (30, 26, 300))),
        moves=0.0,
        varies=(2.0, 0.06),
    ),
    Organ(
        "bowel",
        "bowel",
        (
            Ellipsoid((40, 30, -75), (38, 30, 28)),
            Ellipsoid((-35, 35, -70), (42, 32, 30)),
            Ellipsoid((0, 45, -105), (60, 28, 24)),
        ),
        moves=0.5,
    ),
    Organ(
        "lung", "lung", (Ellipsoid((75, -15, 125), (62, 62, 72)), Ellipsoid((-75, -15, 125), (60, 62, 72)))
    ),
    Organ("heart", "vessel", (Ellipsoid((-18, 28, 118), (48, 42, 40)),)),
    Organ("stomach", "fluid wall", (Ellipsoid((-62, 28, 40), (40, 34, 46), (0, 20, 0)),), varies=(8.0, 0.16)),
    Organ(
        "liver",
        "liver",
        (Ellipsoid((74, 4, 28), (62, 68, 66)), Ellipsoid((8, 38, 42), (60, 32, 30), (0, 10, 0))),
        label="liver",
        varies=(6.0, 0.07),
    ),
    Organ("gall bladder", "fluid", (Ellipsoid((52, 46, -12), (14, 22, 18)),), varies=(5.0, 0.2)),
    Organ(
        "spleen",
        "spleen",
        (Ellipsoid((-108, -28, 42), (26, 44, 46), (0, -12, 0)),),
        label="spleen",
        varies=(5.0, 0.12),
    ),
    Organ(
        "right kidney",
        "cortex",
        (Ellipsoid((66, -46, -42), (25, 26, 52), (8, 8, 0)),),
        label="right kidney",
        moves=0.7,
        varies=(4.0, 0.08),
    ),
    Organ(
        "right medulla",
        "medulla",
        (Ellipsoid((63, -44, -42), (12, 13, 36), (8, 8, 0)),),
        label="right kidney",
        moves=0.7,
        varies=(2.0, 0.06),
    ),
    Organ(
        "left kidney",
        "cortex",
        (Ellipsoid((-64, -46, -30), (25, 26, 53), (8, -8, 0)),),
        label="left kidney",
        moves=0.7,
        varies=(4.0, 0.08),
    ),
    Organ(
        "left medulla",
        "medulla",
        (Ellipsoid((-61, -44, -30), (12, 13, 36), (8, -8, 0)),),
        label="left kidney",
        moves=0.7,
        varies=(2.0, 0.06),
    ),
    Organ(
        "spine",
        "marrow",
        (Ellipsoid((0, -50, 0), (21, 19, 900)),),
        wobble=0.06,
        varies=(1.5, 0.06),
        moves=0.0,
    ),
    Organ(
        "canal", "fluid", (Ellipsoid((0, -80, 0), (10, 9, 900)),), wobble=0.03, varies=(1.0, 0.06), moves=0.0
    ),
    Organ(
        "vessels",
        "vessel",
        (Ellipsoid((-12, -22, 0), (11, 11, 900)), Ellipsoid((14, -20, 0), (12, 9, 900))),
        wobble=0.03,
        varies=(1.5, 0.1),
        moves=0.0,
    ),
)


def _signals(
    table: dict[str, tuple[float, float, float, float]], column: int
) -> dict[str, tuple[float, float]]:
    return {tissue: (row[column], row[2] if column == 0 else row[3]) for tissue, row in table.items()}


TISSUES = {  # water on T1, water on T2, fat on T1, fat on fat-suppressed T2
    "fat": (0.06, 0.02, 1.30, 0.14),
    "muscle": (0.55, 0.26, 0.03, 0.01),
    "liver": (0.84, 0.40, 0.00, 0.00),
    "spleen": (0.52, 1.00, 0.00, 0.00),
    "cortex": (0.62, 1.05, 0.00, 0.00),
    "medulla": (0.46, 1.30, 0.00, 0.00),
    "marrow": (0.45, 0.22, 0.42, 0.05),
    "fluid": (0.24, 1.75, 0.00, 0.00),
    "fluid wall": (0.36, 0.90, 0.05, 0.01),
    "bowel": (0.50, 0.62, 0.05, 0.01),
    "vessel": (0.34, 0.22, 0.00, 0.00),
    "lung": (0.06, 0.05, 0.00, 0.00),
}
T1, T2 = _signals(TISSUES, 0), _signals(TISSUES, 1)
ABDOMEN = BodyPlan(
    organs=ORGANS,
    labels=("liver", "right kidney", "left kidney", "spleen"),
    protocols={
        "t1_in": SequenceProtocol(0, T1),
        "t1_out": SequenceProtocol(0, T1, opposed=True),
        "t2": SequenceProtocol(1, T2, resolution=(0.85, 0.85, 1.25)),
    },
    examination="MR ABDOMEN",
    part="ABDOMEN",
    extent=(384.0, 288.0, 216.0),
    fatty="liver",
)


def plan_grids(plan: BodyPlan, spacing: tuple[float, float, float], scale: float) -> dict[str, Grid]:
    """One LPS grid a breath-hold over the plan's field of view: sequences of one breath-hold share it, object
    and all.
    """
    grids: dict[int, Grid] = {}
    for protocol in plan.protocols.values():
        if protocol.breath not in grids:
            own = triple(s * f for s, f in zip(spacing, protocol.resolution, strict=True))
            shape = triple(max(4, round(e * scale / s)) for e, s in zip(plan.extent, own, strict=True))
            moved = (0.0, 0.0, 0.0) if protocol.breath == 0 else (2.0 * scale, -3.0 * scale, 4.0 * scale)
            grids[protocol.breath] = lps_grid(shape, own, shift=moved)
    return {name: grids[protocol.breath] for name, protocol in plan.protocols.items()}


def make_abdomen(
    seed: int = 0,
    spacing: tuple[float, float, float] = (3.0, 3.0, 6.0),
    scale: float = 1.0,
    breathing: tuple[float, float] = (4.0, 11.0),
) -> BodyPhantom:
    """Make a case: t1_in and t1_out in register, t2 in another breath-hold and on another grid.

    Args:
        seed: of the patient and the noise.
        spacing: mm along R-L, A-P and S-I of T1; T2 is finer in the plane and has thicker slices.
        scale: 1 is an adult; less makes a small patient in a small field of view, for quick tests.
        breathing: range in mm of the displacement between T1 and T2.

    Example:
        >>> case = make_abdomen(seed=1, spacing=(8.0, 8.0, 12.0))
        >>> list(case.images), sorted(set(case.labels.ravel().tolist()))
        (['t1_in', 't1_out', 't2'], [0, 1, 2, 3, 4])
    """
    return image_body(draw_body(ABDOMEN, seed, scale, breathing), plan_grids(ABDOMEN, spacing, scale))
