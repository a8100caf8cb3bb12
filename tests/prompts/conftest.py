"""Grids on which readers look at the same head."""

import numpy as np
import pytest

from slem_app.phantom import Phantom, make, reorient
from slem_app.types import Grid


@pytest.fixture(scope="session")
def case() -> Phantom:
    return make(seed=4, shape=(60, 70, 50), spacing=(2.0, 2.0, 2.0), oblique=True, own_grids=True)


def views(case: Phantom) -> dict[str, Grid]:
    """The grids that a reader may have on the screen."""
    turned = {code: reorient(case.labels, case.grid, code)[1] for code in ("RAS", "PIL", "SAR")}
    return {**case.grids, **turned}


@pytest.fixture(scope="session")
def grids(case: Phantom) -> dict[str, Grid]:
    return views(case)


@pytest.fixture
def image() -> Grid:
    """A small LPS image."""
    return Grid((20, 24, 16), np.array([[-2.0, 0, 0, 19], [0, -2.0, 0, 23], [0, 0, 2.0, -15], [0, 0, 0, 1]]))
