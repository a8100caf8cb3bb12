"""Which series is which sequence: `rules.yaml` decides, every choice carries a reason. No torch,
no pixels.
"""

from slem_app.grouping.group import group
from slem_app.grouping.grouped import Grouping, Leftover, SequenceChoice
from slem_app.grouping.rules import Rules, load_rules

__all__ = ["Grouping", "Leftover", "Rules", "SequenceChoice", "group", "load_rules"]
