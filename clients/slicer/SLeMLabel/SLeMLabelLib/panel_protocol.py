"""What the windows can show and ask; the controller knows no more of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .session import Case

__all__ = ["Panel"]


class Panel(Protocol):
    """What the windows can show and ask."""

    def show_status(self, text: str, kind: str) -> None:
        """A sentence; kind: 'busy', 'good', 'refused', or '' for nothing special."""

    def show_server(self, info: Mapping[str, Any], user: str) -> None:
        """The server answers: its strategies and models, and who works there."""

    def show_worklist(self, page: Mapping[str, Any]) -> None:
        """A page of the worklist."""

    def show_case(self, case: Case | None, holder: str) -> None:
        """A case is open, or none; `holder`: another reader who has it, or 'you'."""

    def show_result(self, facts: Mapping[str, Any]) -> None:
        """What the server told with a segmentation: warnings, notes, places to look at, steps."""

    def show_volumes(self, volumes: Mapping[str, float], confirms: bool) -> None:
        """Ml of each label; whether saving now confirms the model's own result."""

    def show_learning(self, text: str, runs: bool) -> None:
        """How the learning goes."""

    def ask_log_in(self, why: str) -> tuple[str, str] | None:
        """Name and password; None: the reader does not want to."""

    def ask_leave(self, case: str) -> bool:
        """Whether to leave a case whose changes are not submitted."""
