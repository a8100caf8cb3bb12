"""The case, labels and grids of `tests/formats`."""

from tests.formats.conftest import case, labels  # noqa: F401
