"""The pages of users and of the audit log: for admins alone, changing the user file by its own rules."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp

from slem_app.serving.auth.access import COOKIE
from slem_app.serving.http.application import build
from slem_app.users import UserFile

SECRET = "a long secret"
OTHER = "quite another one 7"


def ask(method: str, url: str, token: str = "", **fields: Any) -> requests.Response:
    headers = {"Connection": "close", **({"Authorization": f"bearer {token}"} if token else {})}
    headers |= fields.pop("headers", {})
    return requests.request(method, url, timeout=60, headers=headers, allow_redirects=False, **fields)


def log_in(url: str, name: str, password: str = SECRET) -> requests.Response:
    return ask("POST", f"{url}/auth/token", data={"username": name, "password": password})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> UserFile:
    users = UserFile(tmp_path_factory.mktemp("config") / "users.json")
    for name, role in (("rea", "reader"), ("tra", "trainer"), ("adm", "admin")):
        users.add(name, SECRET, role)
    return users


@pytest.fixture(scope="module")
def app(
    heads: dict, models: Path, open_app: Callable, file: UserFile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MONAILabelApp]:
    conf = {"models_dir": str(models), "users": str(file.path), "score_load": "0"}
    with open_app(heads, tmp_path_factory.mktemp("server"), **conf) as instance:
        yield instance


@pytest.fixture(scope="module")
def url(app: MONAILabelApp, serve: Callable, file: UserFile) -> Iterator[str]:
    object.__setattr__(app.serving.settings, "login", "required")
    with serve(build(app.serving)) as address:
        yield address


@pytest.fixture(scope="module")
def admin(url: str) -> str:
    return log_in(url, "adm").json()["access_token"]


@pytest.mark.parametrize("path", ["/users", "/audit"])
def test_the_pages_are_for_admins(url: str, admin: str, path: str) -> None:
    assert ask("GET", url + path).status_code == 401
    browser = ask("GET", url + path, headers={"Accept": "text/html"})
    assert (browser.status_code, browser.headers["location"]) == (303, f"/auth/login?next=%2F{path[1:]}")
    for name in ("rea", "tra"):
        token = log_in(url, name).json()["access_token"]
        refused = ask("GET", url + path, token)
        assert refused.status_code == 403
        assert refused.json()["detail"].endswith("is a reader" if name == "rea" else "is a trainer")
        assert f'href="{path}"' not in ask("GET", url + "/", token).text
    answer = ask("GET", url + path, admin)
    assert answer.ok
    assert f'<a href="{path}" aria-current="page">' in answer.text
    assert "<script" not in answer.text


@pytest.mark.parametrize("do", ["add", "role", "password", "remove"])
def test_only_admins_change_users_and_no_page_of_another_site_makes_them(
    url: str, admin: str, file: UserFile, do: str
) -> None:
    before = file.path.read_bytes()
    fields = {"name": "rea", "role": "admin", "password": OTHER, "again": OTHER}
    reader = log_in(url, "rea").json()["access_token"]
    assert ask("POST", f"{url}/users/{do}", data=fields).status_code == 401
    assert ask("POST", f"{url}/users/{do}", reader, data=fields).status_code == 403
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        reply = ask("POST", f"{url}/users/{do}", data=fields, cookies={COOKIE: admin}, headers=headers)
        assert reply.status_code == 403, headers
    assert file.path.read_bytes() == before


def test_a_user_is_added_changed_and_taken_out(url: str, admin: str, app: MONAILabelApp) -> None:
    def change(do: str, **fields: str) -> requests.Response:
        return ask("POST", f"{url}/users/{do}", admin, data={"name": "new.one", **fields})

    added = change("add", role="reader", password=SECRET, again=SECRET)
    assert (added.status_code, added.headers["location"]) == (303, "/users")
    token = log_in(url, "new.one").json()["access_token"]
    assert ask("GET", f"{url}/", token).ok
    row = ask("GET", f"{url}/users", admin).text.partition('<th scope="row">new.one')[2].partition("</tr>")[0]
    assert "<option selected>reader</option>" in row
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", row)  # last seen

    assert change("role", role="reviewer").status_code == 303
    assert ask("GET", f"{url}/", token).status_code == 401  # logs in anew
    assert change("password", password=OTHER, again=OTHER).status_code == 303
    assert log_in(url, "new.one").status_code == 401
    token = log_in(url, "new.one", OTHER).json()["access_token"]
    assert ask("GET", f"{url}/auth/token/valid", token).json()["roles"] == ["reviewer"]
    assert change("remove").status_code == 303
    assert ask("GET", f"{url}/", token).status_code == 401
    assert "new.one" not in ask("GET", f"{url}/users", admin).text

    log = next((app.serving.datastore.root / "audit").glob("*.jsonl")).read_text()
    did = [line["do"] for line in map(json.loads, log.splitlines()) if line["user"] == "adm"]
    wanted = [f"POST /users/{do} new.one" for do in ("add", "role", "password", "remove")]
    assert [do for do in did if do in wanted] == wanted
    assert SECRET not in log


@pytest.mark.parametrize(
    ("do", "fields", "status", "says"),
    [
        ("add", {"name": "rea", "role": "reader", "password": SECRET, "again": SECRET}, 400, "already"),
        ("add", {"name": "b", "role": "king", "password": SECRET, "again": SECRET}, 400, "no role"),
        ("add", {"name": "a b", "role": "reader", "password": SECRET, "again": SECRET}, 400, "name"),
        ("add", {"name": "b", "role": "reader", "password": "short", "again": "short"}, 400, "10 characters"),
        (
            "add",
            {"name": "b", "role": "reader", "password": "password123", "again": "password123"},
            400,
            "guessed",
        ),
        ("password", {"name": "rea", "password": SECRET, "again": OTHER}, 400, "two passwords differ"),
        ("password", {"name": "nobody", "password": SECRET, "again": SECRET}, 404, "no user"),
        ("role", {"name": "adm", "role": "reader"}, 400, "ask another admin"),
        ("remove", {"name": "adm"}, 400, "ask another admin"),
        ("remove", {"name": "nobody"}, 404, "no user"),
    ],
)
def test_what_cannot_be_changed_is_said_on_a_page(
    url: str, admin: str, file: UserFile, do: str, fields: dict, status: int, says: str
) -> None:
    before = file.path.read_bytes()
    reply = ask("POST", f"{url}/users/{do}", admin, data=fields)
    assert (reply.status_code, says in reply.text) == (status, True), reply.text
    assert "That is not possible" in reply.text
    assert file.path.read_bytes() == before


def test_the_log_is_shown_newest_first_filtered_and_never_as_markup(
    url: str, admin: str, app: MONAILabelApp
) -> None:
    nasty = "<script>alert(1)</script>"
    ask("GET", f"{url}/case/A", admin)
    ask("GET", f"{url}/datastore/image/info", admin, params={"image": nasty})
    ask("POST", f"{url}/users/remove", admin, data={"name": nasty})
    text = ask("GET", f"{url}/audit", admin).text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    shown = ask("GET", f"{url}/audit?case=A&user=adm", admin).text
    assert "<td>GET /case</td>" in shown
    assert "/users/remove" not in shown
    assert '"><b' not in ask("GET", f"{url}/audit", admin, params={"user": '"><b>'}).text
    none = ask("GET", f"{url}/audit?case=nothing-like-this", admin).text
    assert "No line matches" in none
    wrong = ask("GET", f"{url}/audit?before=x", admin)
    assert (wrong.status_code, "not a position in the audit log" in wrong.text) == (400, True)


def test_where_nobody_logs_in_the_pages_say_so(app: MONAILabelApp, serve: Callable, file: UserFile) -> None:
    before = file.path.read_bytes()
    object.__setattr__(app.serving.settings, "login", "auto")
    with serve(build(app.serving, host="127.0.0.1")) as address:
        text = ask("GET", f"{address}/users").text
        assert "Nobody logs in to this server" in text
        assert "adm" not in re.sub(r"admin|/users/add", "", text)
        assert "Nobody logs in to this server" in ask("GET", f"{address}/audit").text
        reply = ask("POST", f"{address}/users/remove", data={"name": "rea"})
        assert (reply.status_code, "slem users" in reply.text) == (403, True)
    assert file.path.read_bytes() == before
