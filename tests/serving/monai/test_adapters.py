"""What MONAI Label asks of its own classes is there."""

import inspect

from monailabel.interfaces.datastore import Datastore

from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.monai import adapters  # noqa: F401, it tells MONAI Label of our datastore


def test_the_datastore_has_every_method_of_monai_labels() -> None:
    assert issubclass(CaseDatastore, Datastore)
    for name in Datastore.__abstractmethods__:
        wanted = list(inspect.signature(getattr(Datastore, name)).parameters.values())
        ours = inspect.signature(getattr(CaseDatastore, name))
        ours.bind(*(one.name for one in wanted if one.default is inspect.Parameter.empty))
        assert {one.name for one in wanted if one.default is not inspect.Parameter.empty} <= set(
            ours.parameters
        )
