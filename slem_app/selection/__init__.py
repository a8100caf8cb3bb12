"""Which case to label next: what the model says of a case, and how cases are ordered by it."""

from slem_app.selection.measures import LabelMap, Measures, measure
from slem_app.selection.strategies import DEFAULT, STRATEGIES, Choice, Pool, choices

__all__ = ["DEFAULT", "STRATEGIES", "Choice", "LabelMap", "Measures", "Pool", "choices", "measure"]
