"""The server of a test module, as a browser finds it."""

from collections.abc import Callable, Iterator

import pytest
from monailabel.interfaces.app import MONAILabelApp

from slem_app.serving.http.application import build


@pytest.fixture(scope="module")
def url(app: MONAILabelApp, serve: Callable) -> Iterator[str]:
    """The address of the module's own `app`."""
    with serve(build(app.serving)) as address:
        yield address
