"""A page of results is made anew; what people wrote under it stays."""

from pathlib import Path

import pytest


@pytest.fixture
def write_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from page import write_page

    return write_page


def test_what_people_wrote_stays_behind_what_is_made_anew(write_page, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert write_page(page, "# Title\n\n| 1 |\n") == "# Title\n\n| 1 |\n"
    page.write_text(page.read_text() + "\n## To know\n\n- One seed.\n")
    assert write_page(page, "# Title\n\n| 2 |\n") == "# Title\n\n| 2 |\n\n## To know\n\n- One seed.\n"
    assert write_page(page, "# Title\n\n| 3 |\n").count("One seed") == 1
    assert page.read_text().startswith("# Title\n\n| 3 |\n\n## To know\n")
