"""The audit log is read from its end, a page at a time, whatever its size and whatever a crash has torn."""

import json
from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.auth import audit_reading
from slem_app.serving.auth.audit_reading import AuditQuery, read_audit


def line(number: int, user: str = "ann", case: str = "A", do: str = "GET /case") -> str:
    table = {"time": f"{number:05d}", "user": user, "role": "reader", "from": "10.0.0.1"}
    return json.dumps({**table, "do": do, "case": case, "status": 200}) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three months: 70 lines, one torn, an empty month, 60 lines by two readers."""
    months = {
        "2026-09": "".join(line(n) for n in range(70)) + '{"time": "torn',
        "2026-10": "",
        "2026-11": "".join(line(n, "ben" if n % 2 else "ann", f"case-{n}") for n in range(70, 130)),
    }
    for name, text in months.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "notes.jsonl").write_text(line(999))
    return tmp_path


def numbers(folder: Path, **query: str) -> list[int]:
    """The lines of all pages, one after the other."""
    found, before = [], ""
    for _ in range(20):
        page = read_audit(folder, AuditQuery(**query, before=before))
        found += [int(one.time) for one in page.lines]
        before = page.older
        if not before:
            return found
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("piece", [40, 1000, 2**18])
def test_pages_hold_every_line_once_newest_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(audit_reading, "PIECE", piece)
    assert len(read_audit(folder, AuditQuery()).lines) == 50
    assert numbers(folder) == list(range(129, -1, -1))


def test_lines_are_filtered_by_user_case_and_what(folder: Path) -> None:
    assert numbers(folder, user="BEN") == list(range(129, 70, -2))
    assert numbers(folder, case="case-8") == list(range(89, 79, -1))
    assert numbers(folder, do="put") == []
    assert numbers(folder, user="ann", case="case-120") == [120]


def test_one_look_reads_no_more_than_it_may_and_says_how_far_it_came(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_reading, "MOST", 1500)
    page = read_audit(folder, AuditQuery(case="nobody's"))
    assert page.lines == ()
    assert page.until > "00100"
    assert page.older.startswith("2026-11:")
    assert numbers(folder, user="ann", case="case-70") == [70]


def test_a_line_without_end_costs_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_reading, "PIECE", 1000)
    monkeypatch.setattr(audit_reading, "LONGEST", 2000)
    path = folder / "2026-11.jsonl"
    path.write_text(line(1) + "x" * 50_000 + "\n" + line(2))
    assert numbers(folder)[:2] == [2, 1]


def test_what_is_not_there_is_an_empty_page_and_a_wrong_place_is_refused(tmp_path: Path) -> None:
    assert read_audit(tmp_path / "audit", AuditQuery()).lines == ()
    for before in ("x", "2026-11", "../../x:3", "2026-11:-1"):
        with pytest.raises(BadSetting, match="is not a position in the audit log"):
            AuditQuery(before=before)
