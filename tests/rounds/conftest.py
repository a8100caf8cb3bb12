"""The cases and quick settings of `tests/finetune`."""

from tests.finetune.conftest import _one_thread, cache, phantoms, settings  # noqa: F401
