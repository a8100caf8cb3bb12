"""Which case to label next: what the model says of a case, and how cases are ordered by it."""

from slem_app.selection.measures import LabelMap, Measures, measure
from slem_app.selection.strategies import DEFAULT, STRATEGIES, CaseChoice, Pool, choices

__all__ = ["DEFAULT", "STRATEGIES", "CaseChoice", "LabelMap", "Measures", "Pool", "choices", "measure"]
