"""A page of results: made from a table again and again, but for its last section, `## To know`, which people write and which stays."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_page"]

WRITTEN = "\n## To know\n"


def write_page(path: Path, text: str) -> str:
    """Write what was made, and behind it the section of the older page that people wrote; returns the whole page.

    Args:
        path: of the page; need not be there yet.
        text: what was made, Markdown without that section.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    _, found, written = old.partition(WRITTEN)
    page = text.rstrip("\n") + "\n" + (f"{WRITTEN}{written.rstrip()}\n" if found else "")
    path.write_text(page, encoding="utf-8")
    return page
