"""A store as one file and back: nothing that was acknowledged is missing, nothing is half there, also while
others save.
"""

import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest

from slem_app.cli import main
from slem_app.errors import BadSetting, BadVolume, NotFound, StorageFailed
from slem_app.store.backup import MANIFEST, backup, restore
from slem_app.store.labels import LabelStore
from slem_app.store.lock import StoreLock

CONTENT = bytes(range(256)) * 400  # of a label: it takes a while


def save(store: LabelStore, case: str, number: int) -> None:
    store.save(case, "final", lambda path: path.write_bytes(CONTENT + bytes([number % 251])), {"n": number})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    labels = LabelStore(root)
    for number in range(3):
        save(labels, "sub-1/ses-2", number)
    save(labels, "gone", 0)
    labels.remove("gone", "final")
    for name, text in {
        "uploads/B/B.nii": "image",
        "uploads/B/.user": "ann",
        "models/slem_brain/000001/card.yaml": "card",
        "audit/2026-11.jsonl": '{"user": "ann"}\n{"user": "b',  # the server is writing the second line
        "leases.json": "{}",
        "images/A/copy.nii.gz": "can be made again",
        "pacs/study/1.dcm": "can be fetched again",
        "training/cache/A/images.npy": "can be made again",
        "training/cache-detail/A/images.npy": "can be made again",
        "training/cache-editor/A/images.npy": "can be made again",
        "training/archive/A/images.npy": "can be made again",
        "training/rounds/1/job.json": "{}",
        "labels/sub-1%2Fses-2/final/000001/corrections.npz": "the clicks behind it",
        "labels/sub-1%2Fses-2/final/.new-0-1-a/label.nii.gz": "half written",
        "given/.A.json.0-1-a.part": "half written",
        "server.lock": "process 1",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_all_that_cannot_be_made_again_comes_back(store: Path, tmp_path: Path) -> None:
    kept = backup(store, tmp_path / "kept.tar")
    assert kept.versions == 3
    assert not list(store.glob(".backup-*"))
    assert restore(tmp_path / "kept.tar", tmp_path / "new" / ".slem") == kept
    before, after = files(store), files(tmp_path / "new/.slem")
    assert after.pop("audit/2026-11.jsonl") == b'{"user": "ann"}\n'
    left = {name for name in before if name not in after}
    assert left == {
        "audit/2026-11.jsonl",
        "images/A/copy.nii.gz",
        "pacs/study/1.dcm",
        "training/cache/A/images.npy",
        "training/cache-detail/A/images.npy",
        "training/cache-editor/A/images.npy",
        "training/archive/A/images.npy",
        "labels/sub-1%2Fses-2/final/.new-0-1-a/label.nii.gz",
        "given/.A.json.0-1-a.part",
        "models/slem_brain/.lock",
        "server.lock",
    }
    assert after == {name: before[name] for name in after}
    again = LabelStore(tmp_path / "new/.slem")
    assert [one.meta["n"] for one in again.versions("sub-1/ses-2", "final")] == [0, 1, 2]
    assert (tmp_path / "new/.slem").stat().st_mode & 0o077 == 0


def test_saves_that_go_on_are_in_it_whole_or_not_at_all(tmp_path: Path) -> None:
    root, acknowledged, end = tmp_path / "store", [], threading.Event()
    save(LabelStore(root), "first", 0)

    def work(reader: int) -> None:
        store, number = LabelStore(root), 0
        while not end.wait(0.02):
            number += 1
            save(store, f"case{reader}-{number % 3}", number)
            acknowledged.append((f"case{reader}-{number % 3}", number))
            if number % 7 == 0:
                store.annotate(store.latest(f"case{reader}-{number % 3}", "final"), {"more": "x" * 1000})
            if number % 11 == 0:
                store.remove(f"case{reader}-2", "final") if store.tags(f"case{reader}-2") else None

    threads = [threading.Thread(target=work, args=(reader,)) for reader in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            time.sleep(0.2)
            sure = [one for one in list(acknowledged) if not one[0].endswith("-2")]
            backup(root, tmp_path / f"{turn}.tar")
            restore(tmp_path / f"{turn}.tar", tmp_path / f"new{turn}")
            again = LabelStore(tmp_path / f"new{turn}")
            there = {
                (case, version.meta["n"]): version
                for case in again.cases()
                for version in again.versions(case, "final")
            }
            assert set(sure) <= set(there)
            for (_, number), version in there.items():
                assert version.label.read_bytes() == CONTENT + bytes([number % 251])
            assert not [*again.root.rglob(".new-*"), *again.root.rglob("*.part")]
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert len(sure) > 3


@pytest.mark.parametrize("harm", ["cut", "bit", "lost file", "other file", "no archive", "outside", "link"])
def test_a_damaged_archive_restores_nothing(store: Path, tmp_path: Path, harm: str) -> None:
    archive = tmp_path / "kept.tar"
    backup(store, archive)
    content = archive.read_bytes()
    if harm == "cut":
        archive.write_bytes(content[: len(content) // 2])
    elif harm == "bit":
        place = content.index(CONTENT) + 1000
        archive.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif harm == "no archive":
        archive.write_bytes(b"something else" * 1000)
    else:
        rewrite(archive, harm)
    with pytest.raises(BadVolume):
        restore(archive, tmp_path / "new/store")
    assert not (tmp_path / "new/store").exists()
    assert list((tmp_path / "new").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def rewrite(path: Path, harm: str) -> None:
    """The archive with a file less or more."""
    with tarfile.open(path) as old:
        members = [(one, old.extractfile(one).read()) for one in old]
    with tarfile.open(path, "w") as new:
        for number, (one, content) in enumerate(members):
            if not (harm == "lost file" and number == 0):
                new.addfile(one, io.BytesIO(content))
        more = {"other file": "labels/x", "outside": "../evil", "link": "labels/y"}.get(harm)
        if more:
            extra = tarfile.TarInfo(more)
            if harm == "link":
                extra.type, extra.linkname = tarfile.SYMTYPE, "/etc/passwd"
            new.addfile(extra)


def test_what_is_there_is_never_written_over_and_a_server_is_not_robbed(store: Path, tmp_path: Path) -> None:
    backup(store, tmp_path / "kept.tar")
    with pytest.raises(BadSetting, match="nothing is overwritten"):
        restore(tmp_path / "kept.tar", store)
    lock = StoreLock(tmp_path / "served")
    lock.take()
    with pytest.raises(BadSetting, match="a server serves .*served: stop it"):
        restore(tmp_path / "kept.tar", tmp_path / "served")
    lock.release()
    assert restore(tmp_path / "kept.tar", tmp_path / "served").versions == 3
    with pytest.raises(NotFound, match="no archive"):
        restore(tmp_path / "nothing.tar", tmp_path / "another")
    with pytest.raises(NotFound, match="not the store of a server"):
        backup(tmp_path / "another", tmp_path / "x.tar")


def test_a_full_disk_leaves_the_archive_of_before(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.tar").write_bytes(b"of before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space left"):
        backup(store, tmp_path / "kept.tar")
    assert (tmp_path / "kept.tar").read_bytes() == b"of before"
    assert not list(store.glob(".backup-*"))


def test_the_commands_say_what_they_did(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(store), str(tmp_path / "kept.tar")]) == 0
    assert "keeps 3 label versions" in capsys.readouterr().out
    assert main(["restore", str(tmp_path / "kept.tar"), str(tmp_path / "new")]) == 0
    assert "has 3 label versions" in capsys.readouterr().out
    assert main(["restore", str(tmp_path / "kept.tar"), str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.startswith("slem restore: ")
    with tarfile.open(tmp_path / "kept.tar") as archive:
        assert json.load(archive.extractfile(MANIFEST))["format"] == 1
