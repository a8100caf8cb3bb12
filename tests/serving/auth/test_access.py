"""Who may come in: log-in by program and by browser, roles, changes from other sites' pages, and addresses
that are not this machine's.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp

from slem_app.errors import BadSetting, NotAllowed
from slem_app.serving.auth.access import COOKIE, listening_at, on_this_machine, open_access
from slem_app.serving.auth.roles import role_of
from slem_app.serving.auth.tokens import Logins
from slem_app.serving.http.application import build
from slem_app.users import UserFile

SECRET = "a long secret"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> UserFile:
    file = UserFile(tmp_path_factory.mktemp("config") / "users.json")
    for name, role in (("rea", "reader"), ("tra", "trainer"), ("adm", "admin")):
        file.add(name, SECRET, role)
    return file


@pytest.fixture(scope="module")
def instance(
    heads: dict, models: Path, open_app: Callable, users: UserFile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MONAILabelApp]:
    with open_app(
        heads,
        tmp_path_factory.mktemp("server"),
        models_dir=str(models),
        users=str(users.path),
        login="required",
    ) as app:
        yield app


@pytest.fixture(scope="module")
def url(instance: MONAILabelApp, serve: Callable) -> Iterator[str]:
    with serve(build(instance.serving)) as address:
        yield address


def ask(method: str, url: str, token: str = "", **fields: object) -> requests.Response:
    headers = {
        "Connection": "close",
        **({"Authorization": f"bearer {token}"} if token else {}),
        **fields.pop("headers", {}),
    }
    return requests.request(method, url, timeout=60, headers=headers, allow_redirects=False, **fields)


def token(url: str, name: str) -> str:
    answer = ask(
        "POST", f"{url}/auth/token", data={"username": name, "password": SECRET, "grant_type": "password"}
    )
    assert answer.json()["token_type"] == "bearer"
    return answer.json()["access_token"]


@pytest.fixture(scope="module")
def tokens(url: str) -> dict[str, str]:
    return {"": "", **{name: token(url, name) for name in ("rea", "tra", "adm")}}


def test_a_program_asks_whether_there_is_a_log_in_as_slicer_does(url: str, tokens: dict) -> None:
    assert ask("GET", f"{url}/auth/").json()["enabled"] is True
    assert ask("GET", f"{url}/auth/token/valid").status_code == 401
    assert ask("GET", f"{url}/auth/token/valid", tokens["rea"]).json()["roles"] == ["reader"]
    refused = ask("POST", f"{url}/auth/token", data={"username": "rea", "password": "wrong"})
    assert (refused.status_code, refused.json()) == (
        401,
        {"error": "NotLoggedIn", "detail": "unknown user or wrong password"},
    )


@pytest.mark.parametrize(
    "path",
    [
        "/info/",
        "/",
        "/docs",
        "/openapi.json",
        "/ohif/",
        "/dicom-web/studies",
        "/datastore/",
        "/static/ohif/index.html",
        "/train/",
    ],
)
def test_without_a_log_in_nothing_is_told(url: str, path: str) -> None:
    answer = ask("GET", url + path)
    assert (answer.status_code, answer.json()["error"]) == (401, "NotLoggedIn")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert ask("GET", url + path, "no-token").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("GET", "/info/", "reader"),
        ("POST", "/infer/slem_brain?image=nobody", "reader"),
        ("PUT", "/datastore/label?image=nobody", "reader"),
        ("POST", "/activelearning/first", "reader"),
        ("DELETE", "/session/00", "reader"),
        ("POST", "/slem/series?image=nobody", "reader"),
        ("POST", "/case/nobody/series", "reader"),
        ("POST", "/train/nothing", "trainer"),
        ("POST", "/batch/infer/nothing?run_sync=true", "trainer"),
        ("DELETE", "/train/", "trainer"),
        ("POST", "/learning/start", "trainer"),
        ("GET", "/model/nothing", "trainer"),
        ("POST", "/slem/versions/slem_brain/serve", "trainer"),
        ("GET", "/logs/gpu", "admin"),
        ("DELETE", "/datastore/image?id=nobody", "admin"),
        ("POST", "/reload", "admin"),
        ("GET", "/users", "admin"),
        ("POST", "/users/add", "admin"),
        ("GET", "/audit", "admin"),
        ("PUT", "/model/slem_brain", "admin"),
        ("PATCH", "/something/new", "admin"),
    ],
)
def test_each_route_is_for_a_role(url: str, tokens: dict, method: str, path: str, who: str) -> None:
    order = ("reader", "trainer", "admin")
    for name, role in (("rea", "reader"), ("tra", "trainer"), ("adm", "admin")):
        answer = ask(method, url + path, tokens[name])
        if order.index(role) < order.index(who):
            assert answer.status_code == 403
            assert answer.json()["detail"].endswith(f"requires the role {who}; {name} is a {role}")
        else:
            assert answer.status_code not in (401, 403), answer.text


def test_a_path_with_a_line_break_has_a_role_too() -> None:
    assert role_of("GET", "/x\n") == "reader"
    assert role_of("POST", "/train\n/x") == "admin"
    assert role_of("POST", "/slem/adapt/slem_brain") == "admin"


def test_a_browser_is_sent_to_the_log_in_page_and_back(url: str) -> None:
    with requests.Session() as browser:
        browser.headers.update({"Accept": "text/html", "Connection": "close"})
        page = browser.get(f"{url}/ohif/monai-label?StudyInstanceUIDs=1.2", timeout=60)
        assert page.url == f"{url}/auth/login?next=%2Fohif%2Fmonai-label%3FStudyInstanceUIDs%3D1.2"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        form = {"username": "rea", "password": "wrong", "next": "/ohif/monai-label?StudyInstanceUIDs=1.2"}
        again = browser.post(f"{url}/auth/login", data=form, headers={"Origin": url}, timeout=60)
        assert again.status_code == 401
        assert "unknown user or wrong password" in again.text
        there = browser.post(
            f"{url}/auth/login",
            data=form | {"password": SECRET},
            headers={"Origin": url},
            timeout=60,
            allow_redirects=False,
        )
        assert (there.status_code, there.headers["location"]) == (
            303,
            "/ohif/monai-label?StudyInstanceUIDs=1.2",
        )
        cookie = there.headers["set-cookie"].lower()
        assert cookie.startswith(f"{COOKIE}=")
        for word in ("httponly", "samesite=lax", "path=/"):
            assert word in cookie
        assert browser.get(f"{url}/info/", timeout=60).json()["name"] == "SLeM Label"
        assert "Logged in as rea (reader)" in browser.get(f"{url}/auth/login", timeout=60).text
        kept = browser.cookies[COOKIE]
        browser.post(f"{url}/auth/logout", headers={"Origin": url}, timeout=60)
        assert ask("GET", f"{url}/info/", cookies={COOKIE: kept}).status_code == 401


def test_over_tls_the_cookie_is_for_tls_alone(url: str) -> None:
    secure = {"X-Forwarded-Proto": "https", "Origin": url.replace("http:", "https:")}
    answer = ask("POST", f"{url}/auth/login", data={"username": "rea", "password": SECRET}, headers=secure)
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/auth/logout",
        "/x\r\ny: z",
        "",
    ],
)
def test_the_log_in_leads_nowhere_else(url: str, wanted: str) -> None:
    answer = ask(
        "POST",
        f"{url}/auth/login",
        data={"username": "rea", "password": SECRET, "next": wanted},
        headers={"Origin": url},
    )
    assert answer.headers["location"] == "/"


def test_what_a_page_is_given_is_never_markup(url: str) -> None:
    text = ask("GET", f"{url}/auth/login", params={"next": '/"><script>alert(1)</script>'}).text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Origin": "SELF"}, 404),
    ],
)
def test_a_cookie_changes_something_only_for_pages_of_this_server(
    url: str, tokens: dict, headers: dict, status: int
) -> None:
    headers = {name: url if value == "SELF" else value for name, value in headers.items()}
    answer = ask(
        "POST", f"{url}/infer/slem_brain?image=nobody", headers=headers, cookies={COOKIE: tokens["rea"]}
    )
    assert answer.status_code == status
    # which its page cannot read
    assert ask("GET", f"{url}/info/", headers=headers, cookies={COOKIE: tokens["rea"]}).status_code == 200
    # a header is no cookie
    assert (
        ask("POST", f"{url}/infer/slem_brain?image=nobody", tokens["rea"], headers=headers).status_code == 404
    )


@pytest.mark.parametrize("path", ["/datastore/dataset", "/datastore/label?label=A", "/model/slem_brain"])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_no_other_sites_page_makes_a_browser_download_labels_or_weights(
    url: str, tokens: dict, path: str, site: str
) -> None:
    answer = ask("GET", url + path, headers={"Sec-Fetch-Site": site}, cookies={COOKIE: tokens["adm"]})
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith("a page of another site requested a download")
    for asked in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        answer = ask("GET", url + path, headers=asked, cookies={COOKIE: tokens["adm"]})
        assert answer.status_code != 403, answer.text
    # a program's token is no cookie: no browser adds it by itself
    headers = {"Sec-Fetch-Site": site}
    assert ask("GET", url + path, tokens["adm"], headers=headers).status_code != 403


def test_labels_say_who_saved_them_and_the_audit_log_who_did_what(
    url: str, tokens: dict, instance: MONAILabelApp
) -> None:
    label = ask(
        "POST",
        f"{url}/infer/slem_brain?image=A&output=image",
        tokens["rea"],
        data={"params": '{"result_extension": ".nii.gz"}'},
    ).content
    answer = ask(
        "PUT", f"{url}/datastore/label?image=A/t2f", tokens["rea"], files={"label": ("label.nii.gz", label)}
    )
    assert answer.json()["label"] == "A"
    assert instance.serving.datastore.get_label_info("A", "final")["user"] == "rea"
    for _ in range(3):
        assert ask("GET", f"{url}/datastore/image?image=B", tokens["tra"]).status_code == 200
    [file] = (instance.serving.datastore.root / "audit").glob("*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(line["user"], line["role"], line["do"], line["case"], line["status"]) for line in lines]
    assert ("rea", "reader", "POST /infer", "A", 200) in told
    assert ("rea", "reader", "PUT /datastore/label", "A/t2f", 200) in told
    assert told.count(("tra", "trainer", "GET /datastore/image", "B", 200)) == 1
    assert ("", "", "POST /auth", "", 401) in told
    assert ("rea", "reader", "POST /auth", "", 200) in told
    assert not [one for one in told if "/info" in one[2] or "ohif" in one[2]]
    assert {line["from"] for line in lines} == {"127.0.0.1"}


def test_only_reviewers_decide_of_labels(url: str, tokens: dict) -> None:
    params = {"image": "A", "version": 1, "state": "approved"}
    assert ask("POST", f"{url}/slem/labels/decide", tokens["rea"], params=params).status_code == 403
    fields = {"params": '{"segmentationMeta": {"status": "approved"}}'}
    place = f"{url}/datastore/updatelabelinfo?label=A&tag=final"
    answer = ask("PUT", place, tokens["rea"], data=fields)
    assert answer.status_code == 403
    assert "approving and rejecting requires the role reviewer; rea is a reader" in answer.json()["detail"]
    # notes are anybody's
    assert ask("PUT", place, tokens["rea"], data={"params": '{"remark": "x"}'}).status_code != 403
    assert ask("PUT", place, tokens["tra"], data=fields).status_code != 403


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["start_server", "--app", "x"], "0.0.0.0"),
        (["start_server", "--host", "127.0.0.1", "--port", "1"], "127.0.0.1"),
        (["start_server", "--host=::1"], "::1"),
        (["--studies", "x"], "127.0.0.1"),
    ],
)
def test_where_the_server_listens_is_read_from_its_command_line(arguments: list[str], host: str) -> None:
    assert listening_at(arguments) == host


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True)],
)
def test_this_machines_own_addresses(host: str, own: bool) -> None:
    assert on_this_machine(host) is own
    assert not on_this_machine(f"{host}.example")


def access(tmp_path: Path, login: str, host: str, users: UserFile | None = None):
    return open_access(Logins(users or UserFile(tmp_path / "none.json")), login, host)


def test_a_log_in_is_needed_where_others_reach_the_server(tmp_path: Path, users: UserFile) -> None:
    assert not access(tmp_path, "auto", "127.0.0.1").required
    assert access(tmp_path, "auto", "0.0.0.0", users).required
    assert access(tmp_path, "required", "127.0.0.1", users).required
    assert not access(tmp_path, "off", "0.0.0.0").required
    with pytest.raises(
        BadSetting,
        match="at 0.0.0.0 other machines reach this server, and nobody can log in.*slem users add NAME",
    ):
        access(tmp_path, "auto", "0.0.0.0")
    with pytest.raises(BadSetting, match="a log-in is required, and nobody can log in"):
        access(tmp_path, "required", "localhost")


def scope(server: str, host: str, method: str = "GET", **headers: str) -> dict:
    fields = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": host, **headers}.items()
    ]
    return {
        "type": "http",
        "method": method,
        "path": "/info/",
        "headers": fields,
        "server": (server, 8000),
        "query_string": b"",
    }


def test_a_server_of_this_machine_is_not_used_from_others_nor_by_other_sites(tmp_path: Path) -> None:
    local = access(tmp_path, "auto", "127.0.0.1")
    assert local.check(scope("127.0.0.1", "localhost:8000")) is None
    assert local.check(scope("::1", "[::1]:8000")) is None
    with pytest.raises(NotAllowed, match="was started for this machine alone, but is reached at 10.0.0.5"):
        local.check(scope("10.0.0.5", "localhost:8000"))
    with pytest.raises(NotAllowed, match="not called 'evil.example'"):
        local.check(scope("127.0.0.1", "evil.example:8000"))
    with pytest.raises(NotAllowed, match="a page of http://evil.example requested a change"):
        local.check(scope("127.0.0.1", "localhost:8000", "POST", origin="http://evil.example"))
    assert local.check(scope("127.0.0.1", "localhost:8000", "POST", origin="http://localhost:8000")) is None
    for site in ("cross-site", "same-site"):  # by a form, whose origin some browsers leave out
        with pytest.raises(NotAllowed, match="a page of another site requested a change"):
            local.check(scope("127.0.0.1", "localhost:8000", "POST", sec_fetch_site=site))
    assert local.check(scope("127.0.0.1", "localhost:8000", "POST", sec_fetch_site="same-origin")) is None
    named = open_access(Logins(UserFile(tmp_path / "none")), "auto", "127.0.0.1", ["http://viewer.example"])
    fields = {"sec_fetch_site": "cross-site", "origin": "http://viewer.example"}
    assert named.check(scope("127.0.0.1", "localhost:8000", "POST", **fields)) is None
    assert local.check(scope("127.0.0.1", "localhost:8000", "POST")) is None
    assert access(tmp_path, "off", "0.0.0.0").check(scope("10.0.0.5", "labels.hospital.example")) is None
