"""Which cases a page shows: only those of the page are opened, and none is waited for without end."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slem_app.grouping import Grouping
from slem_app.serving.pages import worklist
from slem_app.serving.pages.worklist import PAGE, Worklist, WorklistQuery, holder_name
from slem_app.serving.server import Serving


@pytest.fixture
def serving(open_app: Callable, heads: dict, models: Path, tmp_path: Path) -> Iterator[Serving]:
    with open_app({"case-000": heads["A"]}, tmp_path, models_dir=str(models), models="slem_brain") as app:
        for number in range(1, 2 * PAGE + 3):
            (tmp_path / f"studies/case-{number:03}").symlink_to(tmp_path / "studies/case-000")
        app.serving.cases.refresh()
        yield app.serving


class Pictures:
    def made(self, case: object, version: object) -> bool:
        return False


def test_only_the_cases_of_the_page_are_opened(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    grouping = serving.cases.grouping

    def note(case: str) -> Grouping:
        opened.append(case)
        return grouping(case)

    monkeypatch.setattr(serving.cases, "grouping", note)
    monkeypatch.setattr(worklist, "PATIENCE", 60.0)
    monkeypatch.setattr(
        "slem_app.serving.cases.catalogue.QUICK", 60.0
    )  # the list is waited for on a busy machine
    shown = Worklist(serving, Pictures()).page(WorklistQuery(page=2))
    assert shown.pages == 3
    assert shown.matched == shown.counts["all"] == 2 * PAGE + 3
    assert [row.case for row in shown.rows] == [f"case-{n:03}" for n in range(PAGE, 2 * PAGE)]
    assert sorted(opened) == [row.case for row in shown.rows]
    assert shown.pending == 0


def test_a_case_that_takes_long_is_marked_and_there_later(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouping, free = serving.cases.grouping, threading.Event()

    def slow(case: str) -> Grouping:
        free.wait(30)
        return grouping(case)

    monkeypatch.setattr(serving.cases, "grouping", slow)
    monkeypatch.setattr(worklist, "PATIENCE", 0.05)
    listed = Worklist(serving, Pictures())
    query = WorklistQuery("case-001")
    assert [row.pending for row in listed.page(query).rows] == [True]
    free.set()
    monkeypatch.setattr(worklist, "PATIENCE", 60.0)
    [row] = listed.page(query).rows
    assert not row.pending
    assert row.found == ("t1n", "t1c", "t2w", "t2f")


def test_a_spoilt_case_does_not_hide_the_others(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "studies/case-001").unlink()
    (tmp_path / "studies/case-001").mkdir()
    (tmp_path / "studies/case-001/x.nii.gz").write_bytes(b"no image")
    [row] = Worklist(serving, Pictures()).page(WorklistQuery("case-001")).rows
    assert row.problem
    [other] = Worklist(serving, Pictures()).page(WorklistQuery("case-002")).rows
    assert not other.problem


@pytest.mark.parametrize(
    ("holder", "shown"),
    [("ann@10.0.0.1", "ann"), ("@10.0.0.1", "10.0.0.1"), (f"user-xyz@{'a' * 32}", "another browser")],
)
def test_a_holder_is_named_for_people(holder: str, shown: str) -> None:
    assert holder_name(holder, "@me") == shown
    assert holder_name(holder, holder) == "you"
