"""A page of results: made from a table again and again, but for its last section, `## To know`, which people
write and which stays.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

__all__ = ["commit", "table", "where", "write_page"]

WRITTEN = "\n## To know\n"


def where() -> str:
    """Machine, commit and day."""
    return f"{platform.machine()}, {os.cpu_count()} cores; commit {commit()}; {date.today()}"


def commit() -> str:
    """The short name of the commit that is checked out, with `+` where tracked files differ from it;
    'unknown' outside a repository.
    """
    head, changed = (
        _git(*words)
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    )
    return f"{head or 'unknown'}{'+' if changed else ''}"


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def write_page(path: Path, text: str) -> str:
    """Write what was made, and behind it the section of the older page that people wrote; returns the whole
    page.

    Args:
        path: of the page; need not be there yet.
        text: what was made, Markdown without that section.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    _, found, written = old.partition(WRITTEN)
    page = text.rstrip("\n") + "\n" + (f"{WRITTEN}{written.rstrip()}\n" if found else "")
    path.write_text(page, encoding="utf-8")
    return page
