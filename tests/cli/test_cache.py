"""`slem cache`: what is no cache stays."""

from pathlib import Path

import pytest

from slem_app.cli import main

KEPT = (
    "labels/a/final/000001/label.nii.gz",
    "uploads/x/x.nii.gz",
    "notes/a.json",
    "audit/2026-01.jsonl",
    "models/slem_brain/card.yaml",
    "training/1/status.json",
)
CACHE = ("images/a/t1c-0.nii.gz", "pacs/1.2/1.dcm", "scores/a/x.npz", "export/x.zip", "batch/pacs/1.dcm")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    for name in (*KEPT, *CACHE):
        path = tmp_path / "studies/.slem" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(2**20))
    (tmp_path / "sessions/00").mkdir(parents=True)
    (tmp_path / "sessions/00/x.nii.gz").write_bytes(b"x")
    return tmp_path / "studies/.slem"


def test_it_is_shown_and_left_alone(store: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["cache", str(store.parent)]) == 0
    out = capsys.readouterr().out
    assert f"      1.0 MiB       1 files  {store / 'images'}" in out
    assert all((store / name).exists() for name in (*KEPT, *CACHE))


def test_one_command_empties_it_and_nothing_else(store: Path) -> None:
    assert main(["cache", str(store.parent), "--clear"]) == 0
    assert all((store / name).exists() for name in KEPT)
    assert not any((store / name).exists() for name in CACHE)
    assert not (store.parents[1] / "sessions").exists()
    assert main(["cache", str(store.parent), "--clear"]) == 0


def test_another_store_can_be_named(store: Path, tmp_path: Path) -> None:
    moved = store.rename(tmp_path / "elsewhere")
    assert main(["cache", "http://pacs:8042/dicom-web", "--store", str(moved), "--clear"]) == 0
    assert not (moved / "pacs").exists()
