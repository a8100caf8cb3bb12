"""`slem users`: passwords come from standard input, and what was done is said."""

import io
from pathlib import Path

import pytest

from slem_app.cli import main
from slem_app.users import UserFile


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def call(*words: str, says: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(says))
        code = main(["users", *words])
        out = capsys.readouterr()
        return code, out.out + out.err

    return call


def test_users_are_added_listed_changed_and_removed(run, tmp_path: Path) -> None:
    file = tmp_path / "slem-label/users.json"
    assert run("add", "ann", "--role", "trainer", says="a long secret\n") == (
        0,
        f"ann may log in as trainer ({file})\n",
    )
    assert run("list") == (0, f"ann\ttrainer\n1 in {file}\n")
    assert run("password", "ann", says="another secret\n")[0] == 0
    assert UserFile(file).check("ann", "another secret").role == "trainer"
    assert run("role", "ann", "--role", "reviewer") == (0, "ann is now a reviewer and must log in again\n")
    assert UserFile(file).check("ann", "another secret").role == "reviewer"
    assert run("remove", "ann")[0] == 0
    assert run("list")[1] == f"0 in {file}\n"


def test_mistakes_are_told_in_a_line(run) -> None:
    assert run("add", "ann", says="short\n") == (
        2,
        "slem users: a password needs 10 characters or more (at most 1024); this one has 5\n",
    )
    assert run("add") == (2, "slem users: the name is missing: slem users add NAME\n")
    assert run("remove", "ben")[0] == 2
