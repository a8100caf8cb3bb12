"""Log-ins end: by time, by disuse, by leaving, with the user or the password; and guessing is slow."""

from pathlib import Path

import pytest

from slem_app.errors import NotLoggedIn, TooOften
from slem_app.serving.auth.tokens import Logins
from slem_app.users import User, UserFile
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(tmp_path: Path, clock: Clock) -> Logins:
    users = UserFile(tmp_path / "users.json")
    users.add("ann", "a long secret", "reader")
    return Logins(users, hours=10, idle_minutes=60, clock=clock)


def test_a_token_is_its_users_and_no_other_text_is_one(logins: Logins) -> None:
    token = logins.log_in("ann", "a long secret", "10.0.0.1")
    assert logins.of(token).user.name == "ann"
    assert logins.log_in("ann", "a long secret", "10.0.0.1") != token
    assert token not in repr(logins.open)
    for other in ("", "x", token + "x", token[:-1]):
        with pytest.raises(NotLoggedIn, match="log in: this server requires a log-in"):
            logins.of(other)


def test_it_ends_after_its_hours_however_much_it_is_used(logins: Logins, clock: Clock) -> None:
    token = logins.log_in("ann", "a long secret", "")
    for _ in range(19):
        clock.now += 1800
        logins.of(token)
    clock.now += 1801
    with pytest.raises(NotLoggedIn, match="the log-in has ended"):
        logins.of(token)
    with pytest.raises(NotLoggedIn):
        logins.of(token)


def test_it_ends_when_it_is_not_used(logins: Logins, clock: Clock) -> None:
    token = logins.log_in("ann", "a long secret", "")
    clock.now += 3601
    with pytest.raises(NotLoggedIn, match="the log-in has ended"):
        logins.of(token)


def test_it_ends_when_its_user_leaves(logins: Logins) -> None:
    token, other = (logins.log_in("ann", "a long secret", "") for _ in range(2))
    logins.log_out(token)
    logins.log_out("no token")
    with pytest.raises(NotLoggedIn):
        logins.of(token)
    assert logins.of(other)


@pytest.mark.parametrize("change", ["remove", "password", "role"])
def test_it_ends_when_its_user_is_taken_out_or_changed(logins: Logins, change: str) -> None:
    token = logins.log_in("ann", "a long secret", "")
    if change == "password":
        logins.users.change_password("ann", "another secret")
    else:
        logins.users.remove("ann")
    if change == "role":
        logins.users.add("ann", "a long secret", "admin")
    with pytest.raises(NotLoggedIn, match="the log-in has ended"):
        logins.of(token)


def test_a_user_of_another_service_needs_no_user_file(logins: Logins) -> None:
    assert logins.of(logins.begin(User("zoe@hospital.example", "trainer"))).user.role == "trainer"


def test_guessing_a_password_is_stopped_for_that_name_and_place(logins: Logins, clock: Clock) -> None:
    for _ in range(5):
        with pytest.raises(NotLoggedIn, match="unknown user or wrong password"):
            logins.log_in("ann", "guess", "10.0.0.1")
    with pytest.raises(TooOften, match="too many failed log-ins: try again in 5 min"):
        logins.log_in("ann", "a long secret", "10.0.0.1")
    assert logins.log_in("ann", "a long secret", "10.0.0.2")
    clock.now += 301
    assert logins.log_in("ann", "a long secret", "10.0.0.1")


def test_guessing_names_is_stopped_for_that_place(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins.users, "check", lambda name, password: None)
    for number in range(30):
        with pytest.raises(NotLoggedIn):
            logins.log_in(f"user{number}", "guess", "10.0.0.1")
    with pytest.raises(TooOften):
        logins.log_in("ann", "a long secret", "10.0.0.1")
