"""A model made at home in an archive: it goes on learning without labels from all studies there, labelled or
not.

    report = adapt(load_model("slem_brain"), cache, ids, AdaptSettings(), run)

Scanners, protocols and patients of a site differ from those a model was trained on, and a site has far more
studies than labels. `run` says what is learnt from them, `round` makes a learning round of it, with the gate,
the versions and the way back of any other round.
"""

from slem_app.adapt.run import AdaptReport, adapt
from slem_app.adapt.settings import AdaptSettings

__all__ = ["AdaptReport", "AdaptSettings", "adapt"]
