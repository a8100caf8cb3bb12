"""Which series is which sequence: `rules.yaml` decides, every choice carries a reason. No torch,
no pixels.
"""

from slem_app.grouping.group import Choice, Grouping, Leftover, group
from slem_app.grouping.rules import Rules, load_rules

__all__ = ["Choice", "Grouping", "Leftover", "Rules", "group", "load_rules"]
