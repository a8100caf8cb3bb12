"""Tables in YAML, read by libyaml where PyYAML was built with it: its own reader takes five times as long,
which is noticed each time that the server is started.
"""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["load_yaml"]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str) -> Any:
    """What a text says, plain values alone.

    Raises:
        yaml.YAMLError: no YAML, or a tag for anything else than plain values.
    """
    return yaml.load(text, LOADER)
