"""A page of results is made anew; what people wrote under it stays."""

import re
from pathlib import Path

from benchmarks.page import table, where, write_page


def test_what_people_wrote_stays_behind_what_is_made_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert write_page(page, "# Title\n\n| 1 |\n") == "# Title\n\n| 1 |\n"
    page.write_text(page.read_text() + "\n## To know\n\n- One seed.\n")
    assert write_page(page, "# Title\n\n| 2 |\n") == "# Title\n\n| 2 |\n\n## To know\n\n- One seed.\n"
    assert write_page(page, "# Title\n\n| 3 |\n").count("One seed") == 1
    assert page.read_text().startswith("# Title\n\n| 3 |\n\n## To know\n")


def test_a_table_is_markdown() -> None:
    assert table(("", "first"), [("a", "1"), ("b", "")]) == [
        "|  | first |",
        "| --- | --- |",
        "| a | 1 |",
        "| b |  |",
    ]


def test_a_page_says_where_it_was_made() -> None:
    assert re.fullmatch(r"\w+, \d+ cores; commit \w+\+?; \d{4}-\d\d-\d\d", where())
