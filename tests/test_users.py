"""The user file: who is in it, that passwords are not, and that nobody else can read it."""

import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slem_app.errors import BadSetting, NotFound
from slem_app.users import User, UserFile


@pytest.fixture
def users(tmp_path: Path) -> UserFile:
    file = UserFile(tmp_path / "config" / "users.json")
    file.add("ann", "a long secret", "reader")
    return file


def test_a_user_logs_in_with_the_password_and_with_no_other(users: UserFile) -> None:
    assert users.check("ann", "a long secret").role == "reader"
    for name, password in (("ann", "a long secreT"), ("ann", ""), ("ben", "a long secret"), ("", "")):
        assert users.check(name, password) is None


def test_the_file_holds_no_password_and_is_the_owners_alone(users: UserFile) -> None:
    assert "secret" not in users.path.read_text()
    assert json.loads(users.path.read_text())["users"][0]["hash"].startswith("$argon2id$")
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(users.path.parent.stat().st_mode) == 0o700


def test_changes_by_another_process_are_seen(users: UserFile) -> None:
    other = UserFile(users.path)
    other.add("ben", "another secret", "admin")
    assert set(users.users()) == {"ann", "ben"}
    other.change_password("ann", "quite another")
    assert users.check("ann", "a long secret") is None
    assert users.check("ann", "quite another").role == "reader"
    other.remove("ann")
    assert users.check("ann", "quite another") is None


def test_a_file_that_others_may_read_is_refused(users: UserFile) -> None:
    users.path.chmod(0o644)
    with pytest.raises(BadSetting, match="can be read by others of this machine: chmod 600"):
        UserFile(users.path).users()


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"users": [{"name": "ann"}]}', '{"users": [{"name": "ann", "role": "king", "hash": ""}]}'],
)
def test_a_damaged_file_is_told(users: UserFile, text: str) -> None:
    users.path.write_text(text)
    with pytest.raises(BadSetting):
        UserFile(users.path).users()


@pytest.mark.parametrize(
    ("name", "password", "role", "text"),
    [
        ("ann", "a long secret", "reader", "the user ann already exists, as reader"),
        ("ben", "short", "reader", "10 characters or more"),
        ("ben", "a long secret", "king", "no role 'king'; there are reader, reviewer, trainer, admin"),
        ("../ben", "a long secret", "reader", "cannot be a user's name"),
        ("ben\n", "a long secret", "reader", "cannot be a user's name"),
    ],
)
def test_what_cannot_be_a_user_is_refused(
    users: UserFile, name: str, password: str, role: str, text: str
) -> None:
    with pytest.raises(BadSetting, match=text):
        users.add(name, password, role)
    assert set(users.users()) == {"ann"}


def test_an_unknown_user_cannot_be_changed(users: UserFile) -> None:
    with pytest.raises(NotFound, match="no user 'ben' in .*; there are: ann"):
        users.remove("ben")
    with pytest.raises(NotFound):
        users.change_password("ben", "a long secret")


def test_each_role_may_do_what_those_before_it_may() -> None:
    assert [User("x", "trainer").may(role) for role in ("reader", "trainer", "admin")] == [True, True, False]


@pytest.mark.parametrize(
    "password",
    [
        "password123",
        "1234567890",
        "qwertyuiop",
        "annannannann",
        "Summer2026!",
        "monailabel1",
        "aaaaaaaaaaaaaaaaaaaa",
        "12.03.1975",
    ],
)
def test_a_password_that_can_be_guessed_is_refused(users: UserFile, password: str) -> None:
    with pytest.raises(BadSetting, match="this password can be guessed: "):
        users.add("ann.miller", password, "reader")
    with pytest.raises(BadSetting, match="can be guessed"):
        users.change_password("ann", password)
    assert users.check("ann", "a long secret")


def test_a_long_password_is_looked_at_in_a_moment(users: UserFile) -> None:
    begin = time.process_time()
    users.add("ben", "correct horse battery staple " * 30, "reader")
    assert time.process_time() - begin < 10


def test_a_role_is_changed_and_the_password_stays(users: UserFile) -> None:
    users.change_role("ann", "reviewer")
    assert users.check("ann", "a long secret").role == "reviewer"
    with pytest.raises(BadSetting, match="no role 'king'"):
        users.change_role("ann", "king")
    with pytest.raises(NotFound, match="no user 'ben'"):
        users.change_role("ben", "reader")
    assert users.users()["ann"].role == "reviewer"


def test_changes_at_once_lose_none(users: UserFile) -> None:
    hashed = users.users()["ann"].hash
    users._hash = lambda name, password: hashed  # a tenth of a second each, and not what this is about
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: users.add(f"user{n}", "", "reader"), range(24)))
    assert len(UserFile(users.path).users()) == 25
