"""A file is written whole or not at all; what was there before stays."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slem_app.errors import StorageFailed
from slem_app.files import atomic_file, sweep
from slem_app.formats import result_json, write_nifti, write_nrrd, write_result_json
from slem_app.labels import LabelSet
from slem_app.types import Grid
from tests.formats import conftest

labels = conftest.labels


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_replaces_the_old_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old", "until the end the old content is there"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_file_that_must_last_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(os, "fsync", waited.append)
    with atomic_file(tmp_path / "a.bin", durable=False) as file:
        file.write(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert not waited
    with atomic_file(tmp_path / "b.bin") as file:
        file.write(b"new")
    assert len(waited) == 2  # the file and its folder


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with atomic_file(tmp_path / "a.bin") as file:
        file.write(b"new")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, full_disk)
    message = "a.bin could not be written: No space left on device. Nothing that was there before is lost"
    with pytest.raises(StorageFailed, match=message), atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="bytes-like"), atomic_file(path) as file:
        file.write("not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageFailed, match="No such file or directory"),
        atomic_file(tmp_path / "no" / "a.bin") as file,
    ):
        file.write(b"new")


def test_kill_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    script = (
        "import pathlib, sys, time\n"
        "from slem_app.files import atomic_file\n"
        "with atomic_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert path.read_bytes() == b"old"
    with atomic_file(path) as file:  # the remains of the killed process are in nobody's way
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert all(other.name.startswith(".") for other in tmp_path.iterdir() if other != path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.seg.nrrd", "a.json"])
def test_every_writer_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: LabelSet, name: str
) -> None:
    path, grid = tmp_path / name, Grid((3, 4, 5), np.eye(4))

    def write(array: np.ndarray) -> None:
        if name.endswith(".json"):
            write_result_json(result_json(labels, notes=[str(array.sum())]), path)
        else:
            (write_nrrd if name.endswith("nrrd") else write_nifti)(array, grid, labels, path)

    write(np.zeros(grid.shape, np.uint8))
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageFailed, match="No space left on device"):
        write(np.ones(grid.shape, np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", [write_nifti, write_nrrd])
@pytest.mark.parametrize("compress", [True, False])
def test_a_whole_head_is_written_in_a_fraction_of_a_second(
    tmp_path: Path, labels: LabelSet, writer: object, compress: bool
) -> None:
    array = np.zeros((240, 240, 155), np.uint8, order="F")
    array[60:140, 80:150, 40:100] = (
        np.random.default_rng(0).integers(0, 4, (20, 14, 12)).repeat(4, 0).repeat(5, 1).repeat(5, 2)
    )
    grid, times = Grid(array.shape, np.diag([-1.0, -1.0, 1.0, 1.0])), []
    for _ in range(3):
        start = time.process_time()
        if writer is write_nrrd:
            write_nrrd(array, grid, labels, tmp_path / "a.nrrd", compress)
        else:
            write_nifti(array, grid, labels, tmp_path / ("a.nii.gz" if compress else "a.nii"))
        times.append(time.process_time() - start)
    assert min(times) < 0.15


DIE = """
import os, signal, sys
from pathlib import Path
from slem_app.files import atomic_file

with atomic_file(Path(sys.argv[1]) / "a.bin") as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_parts_of_killed_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for folder in (tmp_path, tmp_path / "deep"):
        assert (
            subprocess.run([sys.executable, "-c", DIE, str(folder)], timeout=60, check=False).returncode
            == -signal.SIGKILL
        )
    elsewhere = [tmp_path / f".b.bin.00000000-1-{name}.part" for name in ("0a", "0b")]  # another machine's
    for path in elsewhere:
        path.write_bytes(b"")
    os.utime(elsewhere[0], (0, 0))
    (tmp_path / ".mine.part").write_bytes(b"")
    assert len(list(tmp_path.rglob("*.part"))) == 5
    with atomic_file(tmp_path / "c.bin") as file:
        assert sweep(tmp_path, deep=False) == 2
        file.write(b"new")
    assert sweep(tmp_path) == 1
    assert {path.name for path in tmp_path.rglob("*.*")} == {"c.bin", elsewhere[1].name, ".mine.part"}
