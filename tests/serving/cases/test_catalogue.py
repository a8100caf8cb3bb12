"""From ids to cases: siblings, new and changed cases, uploads, ids that lead nowhere."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from slem_app.errors import BadSetting, BadStudy, NotFound, TooMany
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.lock_by_name import LockByName
from slem_app.serving.cases.upload_grouping import group_upload


def test_a_case_id_means_its_reference_sequence(cases: Cases) -> None:
    assert cases.ids() == ("A", "B")
    assert (cases.find("A").id, cases.find("A").sequence) == ("A", "t1c")


def test_without_contrast_the_flair_is_the_reference(cases: Cases, studies: Path) -> None:
    (studies / "A/A-t1c.nii.gz").unlink()
    assert cases.find("A").sequence == "t2f"


def test_any_sibling_can_be_asked_for_by_sequence_or_series(cases: Cases, heads: dict) -> None:
    for sequence in ("t1n", "t1c", "t2w", "t2f"):
        case = cases.find(f"B/{sequence}")
        assert (case.id, case.sequence) == ("B", sequence)
        assert case.series.grid.same_as(heads["B"].grids[sequence])
        assert cases.find(f"B/{case.series.id}").sequence == sequence


@pytest.mark.parametrize(
    "identifier", ["C", "", "..", "../A", "/etc/passwd", "A/..", "A/../B", "A/t9", "A/A", ".slem", "A\x00"]
)
def test_unknown_ids_and_paths_are_not_found(cases: Cases, identifier: str) -> None:
    with pytest.raises(NotFound):
        cases.find(identifier)


def test_new_cases_appear_and_removed_ones_go(cases: Cases, studies: Path) -> None:
    shutil.copytree(studies / "A", studies / "C")
    assert cases.ids() == ("A", "B", "C")
    shutil.rmtree(studies / "C")
    assert cases.ids() == ("A", "B")


def test_a_sequence_that_comes_later_is_used(cases: Cases, studies: Path) -> None:
    late = studies / "A/A-t2w.nii.gz"
    late.rename(studies / "late")
    assert set(cases.find("A").grouping.sequences) == {"t1n", "t1c", "t2f"}
    (studies / "late").rename(late)
    assert set(cases.find("A").grouping.sequences) == {"t1n", "t1c", "t2w", "t2f"}


def test_an_unchanged_case_is_not_looked_at_again(cases: Cases) -> None:
    assert cases.find("A").grouping is cases.find("A/t2f").grouping


def test_headers_are_kept_of_so_many_cases_only(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slem_app.serving.cases.catalogue.OPENED", 1)
    for name in ("A", "B", "A"):
        assert cases.find(name).id == name
        assert list(cases.groupings) == [name]


def test_the_state_of_a_case_changes_with_its_files(cases: Cases, studies: Path) -> None:
    before = cases.find("A").state
    assert cases.find("A").state == before
    os.utime(studies / "A/A-t2f.nii.gz", (1, 1))
    assert cases.find("A").state != before


def test_an_empty_folder_has_no_cases_until_they_come(studies: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = Cases(empty, tmp_path / "uploads")
    assert cases.ids() == ()
    with pytest.raises(NotFound, match="no case 'A' among the 0 here"):
        cases.find("A")
    shutil.copytree(studies / "A", empty / "A")
    assert cases.find("A").sequence == "t1c"


def test_a_folder_without_studies_is_told(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(BadStudy, match="holiday.txt"):
        Cases(tmp_path, tmp_path / "uploads")


def test_a_listing_that_fails_leaves_the_last_one_in_use(cases: Cases, studies: Path) -> None:
    (studies / "slem.yaml").write_text("layout: [")
    with pytest.raises(BadSetting, match="is not YAML"):
        cases.ids()
    (studies / "slem.yaml").unlink()
    assert cases.find("A").sequence == "t1c"


def test_a_case_without_known_sequence_is_told(cases: Cases, studies: Path) -> None:
    (studies / "C").mkdir()
    shutil.copy(studies / "A/A-t1c.nii.gz", studies / "C/C-zzz.nii.gz")
    with pytest.raises(BadStudy, match="case 'C' has no known sequence"):
        cases.find("C")


# uploads


def test_the_name_of_an_upload_tells_its_sequence(studies: Path) -> None:
    grouping, warnings = group_upload("up", [studies / "A/A-t2f.nii.gz"])
    assert (list(grouping.sequences), warnings) == (["t2f"], ())


def test_a_lone_upload_without_a_telling_name_is_assumed_with_a_note(studies: Path) -> None:
    path = studies / "tmpx1y2z3.nii.gz"
    shutil.copy(studies / "A/A-t2f.nii.gz", path)
    grouping, warnings = group_upload("up", [path])
    assert list(grouping.sequences) == ["t1c"]
    assert "taken for t1c; say it with the option 'sequence'" in warnings[0].text
    grouping, warnings = group_upload("up", [path], "t2f")
    assert (list(grouping.sequences), warnings) == (["t2f"], ())


def test_several_uploads_need_telling_names(studies: Path) -> None:
    files = [studies / "A/A-t1c.nii.gz", studies / "A/A-t2f.nii.gz"]
    grouping, _ = group_upload("up", files)
    assert list(grouping.sequences) == ["t1c", "t2f"]
    with pytest.raises(BadStudy, match="is for a single volume, but 2 came"):
        group_upload("up", files, "t1c")


def test_an_upload_that_is_no_volume_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(BadStudy, match="the upload holds x.txt: send volumes as .nii or .nii.gz"):
        group_upload("up", [tmp_path / "x.txt"])


def test_a_status_poll_does_not_wait_for_a_slow_listing(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = Cases(studies, tmp_path / "uploads")
    assert cases.known() == ("A", "B")
    asked, go = threading.Event(), threading.Event()
    real = cases._listed

    def slow(anew: bool) -> tuple[str, ...]:
        asked.set()
        go.wait(20)
        return real(anew)

    monkeypatch.setattr(cases, "_listed", slow)
    shutil.copytree(studies / "A", studies / "C")
    cases.took, cases.stale = 1.0, 0.0
    for _ in range(3):
        assert cases.known() == ("A", "B")
    assert asked.wait(20)
    go.set()
    while not cases.asking.acquire(timeout=20):
        pass
    assert cases.listed == ("A", "B", "C")


def test_no_lock_is_left_of_a_case_that_was_read(cases: Cases) -> None:
    for key in ("A", "B", "A/t2f"):
        cases.find(key)
    with pytest.raises(NotFound):
        cases.find("nobody")
    assert not cases.reading.locks


def test_few_wait_for_one_name_so_that_threads_are_left_for_others() -> None:
    locks = LockByName(2, "case")
    free = threading.Event()

    def wait() -> None:
        with locks.hold("ann"):
            free.wait(10)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    while locks.locks.get("ann", (None, 0))[1] < 2:
        time.sleep(0.01)
    with pytest.raises(TooMany, match="2 requests already wait for case ann"), locks.hold("ann"):
        pass
    with locks.hold("ben"):
        pass
    free.set()
    for thread in threads:
        thread.join()
    with locks.hold("ann"):
        pass
    assert not locks.locks


def test_a_name_is_held_by_one_at_a_time_and_others_are_not_in_its_way() -> None:
    locks, order = LockByName(8, "case"), []

    def work(name: str, number: int) -> None:
        with locks.hold(name):
            order.append((name, number, "in"))
            time.sleep(0.01)
            order.append((name, number, "out"))

    threads = [threading.Thread(target=work, args=(name, n)) for n in range(8) for name in "ab"]
    with locks.hold("c"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(locks.locks) == ["c"]
    assert not locks.locks
    for name in "ab":
        mine = [(number, what) for one, number, what in order if one == name]
        assert all(mine[n][0] == mine[n + 1][0] for n in range(0, 16, 2))
