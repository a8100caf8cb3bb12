"""Labels on disk: versions, kills at every point, a full disk."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from slem_app.errors import BadSetting, NotFound, StorageFailed
from slem_app.files import writer
from slem_app.store.labels import LabelStore, file_name, replace_file
from slem_app.store.record import LabelRecord


def save(store: LabelStore, text: str, case: str = "case 1", tag: str = "final") -> int:
    return store.save(case, tag, lambda path: path.write_text(text), {"text": text}).number


def contents(store: LabelStore, case: str = "case 1", tag: str = "final") -> list[str]:
    for version in store.versions(case, tag):
        assert version.meta["text"] == version.label.read_text()
    return [version.label.read_text() for version in store.versions(case, tag)]


def test_keeps_every_version_and_gives_the_newest(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    assert [save(store, text) for text in ("one", "two", "three")] == [1, 2, 3]
    assert contents(LabelStore(tmp_path)) == ["one", "two", "three"]
    assert store.latest("case 1", "final").meta == {"text": "three"}
    assert store.tags("case 1") == ("final",)
    assert store.cases() == ("case 1",)


def test_says_which_tags_there_are_when_one_is_missing(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    save(store, "one")
    with pytest.raises(NotFound, match="case 'case 1' has no label with tag 'original'; it has final"):
        store.latest("case 1", "original")
    with pytest.raises(NotFound, match="it has no labels"):
        store.latest("case 2", "final")


def test_it_is_not_remembered_without_end_which_versions_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.store.labels.CHECKED", 2)
    store, texts = LabelStore(tmp_path), [str(number) for number in range(12)]
    for number, text in enumerate(texts):
        save(store, text)
        save(store, text, case="spoilt")
        (tmp_path / f"labels/spoilt/final/{number + 1:06}/meta.json").write_text("{")
        assert contents(store) == texts[: number + 1]
        assert store.versions("spoilt", "final") == ()
        assert len(store.sound) <= 4
        assert len(store.spoilt) <= 4


@pytest.mark.parametrize("tag", ["", "..", "a/b", ".hidden", "x" * 65])
def test_refuses_tags_that_are_no_names(tmp_path: Path, tag: str) -> None:
    with pytest.raises(BadSetting, match="cannot be used"):
        save(LabelStore(tmp_path), "one", tag=tag)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("identifier", ["..", ".", "a/b", "../../x", "ä ö", "x%2Fy", "plain"])
def test_file_names_never_leave_their_folder_and_can_be_read_back(identifier: str) -> None:
    name = file_name(identifier)
    assert "/" not in name
    assert not name.startswith(".")
    assert unquote(name) == identifier


def test_two_savers_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)

    def outrun(path: Path) -> None:  # another process publishes while this one still writes
        path.write_text("slow")
        save(LabelStore(tmp_path), "fast")

    assert store.save("case 1", "final", outrun, {"text": "slow"}).number == 2
    assert contents(store) == ["fast", "slow"]


def test_a_writer_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    save(store, "one")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.save("case 1", "final", fail, {})
    assert contents(store) == ["one"]
    assert [path.name for path in (tmp_path / "labels/case 1/final").iterdir()] == ["000001"]


def test_removed_labels_can_still_be_found_by_a_person(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    save(store, "one")
    save(store, "two")
    grave = store.remove("case 1", "final")
    assert store.tags("case 1") == ()
    assert sorted(path.read_text() for path in grave.rglob("label.nii.gz")) == ["one", "two"]
    assert save(store, "three") == 1


def test_annotations_are_added_to_one_version_and_change_nobodys_name(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    save(store, "one")
    store.save(
        "case 1",
        "final",
        lambda path: path.write_text("two"),
        {"text": "two", **LabelRecord(1.0, "eva@x").to_meta()},
    )
    store.annotate(store.latest("case 1", "final"), {"remark": "good", "record": {"reader": "tom@y"}})
    first, second = store.versions("case 1", "final")
    assert first.meta == {"text": "one"}
    assert (second.meta["remark"], second.record.reader) == ("good", "eva@x")


def by(store: LabelStore, reader: str, ts: float, tag: str = "final", automatic: bool = False) -> None:
    record = LabelRecord(
        ts, f"{reader}@place" if reader else "", model="m", model_version="1", automatic=automatic
    )
    store.save("case 1", tag, lambda path: path.write_text(reader), {"text": reader, **record.to_meta()})


def test_all_readers_versions_stay_in_sight_in_the_order_of_saving(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    by(store, "", 1.0, "original", automatic=True)
    by(store, "eva", 2.0)
    by(store, "tom", 3.0)
    by(store, "eva", 4.0)
    assert [(one.tag, one.number, one.record.who) for one in store.history("case 1")] == [
        ("original", 1, "m 1"),
        ("final", 1, "eva"),
        ("final", 2, "tom"),
        ("final", 3, "eva"),
    ]
    assert store.history("case 2") == ()


def test_the_newest_final_label_counts_unless_an_expert_has_one(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    by(store, "eva", 1.0)
    by(store, "eva", 2.0)
    by(store, "tom", 3.0)
    by(store, "", 4.0, "original", automatic=True)
    assert store.counting("case 1").record.who == "tom"
    assert store.counting("case 1", ("ida",)).record.who == "tom"
    assert store.counting("case 1", ("ida", "eva", "tom")).number == 2
    with pytest.raises(NotFound, match="case 'case 2' has no label with tag 'final'"):
        store.counting("case 2")


MANY = """
import sys, threading
from pathlib import Path
from slem_app.store.record import LabelRecord
from slem_app.store.labels import LabelStore

def work(name):
    for n in range(10):
        text = f"{name}-{n}"
        store = LabelStore(Path(sys.argv[1]))
        store.save("case 1", "final", lambda path: path.write_text(text * 1000), {"text": text})

threads = [threading.Thread(target=work, args=(f"{sys.argv[2]}-{k}",)) for k in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_of_two_processes_save_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path), name]) for name in ("a", "b")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    versions = LabelStore(tmp_path).versions("case 1", "final")
    assert [version.number for version in versions] == list(range(1, 81))
    assert all(version.label.read_text() == version.meta["text"] * 1000 for version in versions)
    assert {version.meta["text"] for version in versions} == {
        f"{p}-{k}-{n}" for p in "ab" for k in range(4) for n in range(10)
    }


SAVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from slem_app.store.record import LabelRecord
from slem_app.store.labels import LabelStore

def write(text):
    def to(path):
        with open(path, "w") as file:
            file.write(text[:1])
            file.flush()
            os.getpid()  # a point to die at, half written
            file.write(text[1:])
    return to

def mortal(function):
    def call(*arguments, **options):
        global left
        if left == 0:
            os.kill(pid, signal.SIGKILL)
        left -= 1
        return function(*arguments, **options)
    return call

for left in range(100):
    store = LabelStore(Path(sys.argv[1]) / str(left))
    store.save("case 1", "final", write("old"), {"text": "old"})
    child = os.fork()
    if child == 0:
        pid = os.getpid()
        for name in ("fsync", "rename", "replace", "mkdir", "open", "getpid"):
            setattr(os, name, mortal(getattr(os, name)))
        store.save("case 1", "final", write("new"), {"text": "new"})
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print("saved")
"""


def test_kill_at_any_point_loses_nothing_and_leaves_nothing_half(tmp_path: Path) -> None:
    """The saving process is killed before its first, second, third ... call that touches the disk, until it
    gets through.
    """
    run = subprocess.run(
        [sys.executable, "-c", SAVE_AND_DIE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout == "saved\n"
    seen = []
    for calls in range(len(list(tmp_path.iterdir()))):
        store = LabelStore(tmp_path / str(calls))
        seen.append(contents(store))
        assert save(store, "after") == len(seen[-1]) + 1
        assert contents(store) == [*seen[-1], "after"]
    assert len(seen) > 8  # it did die at many points
    assert seen[0] == ["old"]
    assert seen[-1] == ["old", "new"]
    assert all(versions in (["old"], ["old", "new"]) for versions in seen)


def test_what_killed_processes_left_behind_is_swept(tmp_path: Path) -> None:
    code = SAVE_AND_DIE.replace("for left in range(100)", "for left in (9, 10, 11, 12)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, timeout=60, check=True)
    left = list(tmp_path.glob("*/labels/*/*/.new-*"))
    assert left
    for calls in (9, 10, 11, 12):
        store = LabelStore(tmp_path / str(calls))
        before = contents(store)
        assert store.sweep() == sum(str(calls) == path.parts[len(tmp_path.parts)] for path in left)
        assert contents(store) == before
    assert not list(tmp_path.rglob(".new-*"))


def test_uploads_that_a_killed_server_had_begun_are_swept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    machine = writer().partition("-")[0]
    for process in (gone.pid, os.getpid()):
        (tmp_path / f"uploads/.new-{machine}-{process}-0a1b2c3d").mkdir(parents=True)
    (tmp_path / "uploads/kept").mkdir()
    assert LabelStore(tmp_path).sweep() == 1
    assert sorted(path.name for path in (tmp_path / "uploads").iterdir()) == [
        f".new-{machine}-{os.getpid()}-0a1b2c3d",
        "kept",
    ]


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    swept = []

    def write(path: Path) -> None:
        path.write_text("one")
        swept.append(store.sweep())

    store.save("case 1", "final", write, {"text": "one"})
    assert (swept, contents(store)) == ([0], ["one"])


def test_a_full_disk_is_told_and_keeps_what_was_there(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    save(store, "one")
    replace_file(tmp_path / "notes.json", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a write beyond this fails as on a full disk
    try:
        with pytest.raises(StorageFailed, match="nothing that was there before is lost"):
            save(store, "x" * 10_000)
        with pytest.raises(StorageFailed, match="Nothing that was there before is lost"):
            replace_file(tmp_path / "notes.json", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(store) == ["one"]
    assert (tmp_path / "notes.json").read_text() == "old"
    assert save(store, "two") == 2
