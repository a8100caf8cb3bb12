"""The cases of `tests/finetune` and the jobs of `tests/rounds`."""

from tests.finetune.conftest import _one_thread, cache, phantoms  # noqa: F401
from tests.rounds.test_round import job, labelled, served  # noqa: F401
