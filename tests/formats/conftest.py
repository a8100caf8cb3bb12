"""A case, its labels and grids for every writer."""

import numpy as np
import pytest

from slem_app import phantom
from slem_app.labels import Code, Label, LabelSet, Region
from slem_app.types import Grid
from tests.formats.seg_cases import Case, made


@pytest.fixture(scope="session")
def labels() -> LabelSet:
    return LabelSet(
        (
            Label("necrosis", 1, Code("6574001", "Necrosis"), color=(216, 191, 216)),
            Label("edema", 2, Code("79654002", "Edema"), color=(140, 224, 228)),
            Label("enhancing tumor", 3, Code("86049000", "Neoplasm, Primary"), color=(230, 97, 0)),
        ),
        (
            Region("WT", ("necrosis", "edema", "enhancing tumor")),
            Region("TC", ("necrosis", "enhancing tumor")),
            Region("ET", ("enhancing tumor",)),
        ),
    )


@pytest.fixture(scope="session", params=["LPS", "RAS", "PIL", "oblique"])
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, Grid]:
    """A label map and its grid, of three unlike side lengths and spacings."""
    made = phantom.make(
        seed=3, shape=(40, 48, 36), spacing=(1.0, 1.25, 1.5), oblique=request.param == "oblique"
    )
    return (
        (made.labels, made.grid)
        if request.param == "oblique"
        else phantom.reorient(made.labels, made.grid, request.param)
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made(tmp_path_factory.mktemp("one"), "axial-oblique")
