"""Uploaded volumes: ids that stay in their folder, broken folders that do not stop the server."""

import json
from pathlib import Path

import pytest

from slem_app.errors import NotFound
from slem_app.serving.cases.sessions import UploadSessions


@pytest.fixture
def sessions(tmp_path: Path) -> UploadSessions:
    return UploadSessions(tmp_path / "sessions", 3600)


def add(sessions: UploadSessions, tmp_path: Path) -> str:
    (tmp_path / "x.nii.gz").write_bytes(b"volume")
    return sessions.add_session(tmp_path / "x.nii.gz").name


def test_a_session_can_be_found_and_removed(sessions: UploadSessions, tmp_path: Path) -> None:
    key = add(sessions, tmp_path)
    image = sessions.get_session(key).image
    assert sessions.folder_of(image) == tmp_path / "sessions" / key
    sessions.remove_session(key)
    assert sessions.get_session(key) is None


@pytest.mark.parametrize("key", ["..", "../../etc", "", "a/b", "x" * 65])
def test_text_that_is_no_session_id_is_refused(sessions: UploadSessions, key: str) -> None:
    with pytest.raises(NotFound, match="is not a session id"):
        sessions.get_session(key)


def test_paths_elsewhere_are_of_no_session(sessions: UploadSessions, tmp_path: Path) -> None:
    assert sessions.folder_of("/etc/passwd") is None
    assert sessions.folder_of(str(tmp_path / "sessions/../x.nii.gz")) is None


def test_old_and_unreadable_sessions_go_and_others_stay(sessions: UploadSessions, tmp_path: Path) -> None:
    young, old, broken, bare = (add(sessions, tmp_path) for _ in range(4))
    meta = tmp_path / "sessions" / old / "meta.info"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"last_access_ts": 1}))
    (tmp_path / "sessions" / broken / "meta.info").write_text("{")
    (tmp_path / "sessions" / bare / "meta.info").unlink()
    (tmp_path / "sessions" / "not ours").mkdir()
    fresh = UploadSessions(tmp_path / "sessions", 3600)  # as after a restart
    assert fresh.remove_expired() == 3
    assert sorted(path.name for path in (tmp_path / "sessions").iterdir()) == sorted([young, "not ours"])
