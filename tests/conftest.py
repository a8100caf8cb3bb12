"""What every test shares: where the real scans are, and which tests this machine cannot run (they skip with
the reason).
"""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores, so none takes them all
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, torch sees none"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans: SLEM_DATA, else ../shared/data from the project root; the test skips where it
    is absent.
    """
    folder = Path(os.environ.get("SLEM_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans in {folder}: say where they are with SLEM_DATA")
    return folder
