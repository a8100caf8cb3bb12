"""One user's uploads leave room for the others'."""

import threading
from pathlib import Path

import pytest

from slem_app.errors import TooLarge
from slem_app.serving.cases.upload_quota import UploadQuota


def keep(quota: UploadQuota, user: str, case: str, size: int) -> None:
    with quota.room(user, case, size):
        folder = quota.uploads / case
        folder.mkdir(parents=True)
        (folder / f"{case}.nii.gz").write_bytes(bytes(size))


def test_a_user_has_so_much_room_and_others_have_theirs(tmp_path: Path) -> None:
    quota = UploadQuota(tmp_path / "uploads", 100_000)
    keep(quota, "ann", "A", 60_000)
    with pytest.raises(TooLarge, match="this image has 0.1 MiB: ask an admin to remove some"):
        keep(quota, "ann", "B", 60_000)
    assert not (tmp_path / "uploads/B").exists()
    keep(quota, "ben", "B", 60_000)
    keep(quota, "ann", "C", 30_000)
    again = UploadQuota(tmp_path / "uploads", 100_000)  # after a restart
    assert 90_000 < again.used("ann") < 91_000
    with pytest.raises(TooLarge):
        keep(again, "ann", "D", 20_000)
    keep(UploadQuota(tmp_path / "uploads", 0), "ann", "E", 200_000)  # no limit


def test_a_failed_upload_takes_no_room_and_uploads_at_once_are_added_up(tmp_path: Path) -> None:
    quota, inside, go = UploadQuota(tmp_path, 100), threading.Event(), threading.Event()
    with pytest.raises(ZeroDivisionError), quota.room("ann", "A", 90):
        raise ZeroDivisionError

    def slow() -> None:
        with quota.room("ann", "B", 90):
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=slow)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(TooLarge), quota.room("ann", "C", 20):
        pass
    go.set()
    thread.join()
    assert not quota.coming
