"""UIDs that follow from names: the same names give the same UID on every server and after every start."""

from __future__ import annotations

from uuid import NAMESPACE_OID, uuid5

__all__ = ["named_uid"]


def named_uid(*names: str) -> str:
    """A UID that follows from names (PS3.5 B.2: a UUID under 2.25).

    Example:
        >>> named_uid("slem", "study", "demo-1") == named_uid("slem", "study", "demo-1")
        True
    """
    return f"2.25.{uuid5(NAMESPACE_OID, '/'.join(names)).int}"
