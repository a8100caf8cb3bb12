"""Log-in by another service: a small one of OpenID Connect, whose answers are checked as a real one's."""

import time
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.middleware.sessions import SessionMiddleware

from slem_app.errors import BadSetting
from slem_app.serving.auth.access import COOKIE, AccessMiddleware, open_access
from slem_app.serving.auth.login_routes import auth_router
from slem_app.serving.auth.oidc import Provider
from slem_app.serving.auth.tokens import Logins
from slem_app.serving.http.application import complete
from slem_app.users import UserFile


class Service:
    """A provider with one user, whose claims the tests change."""

    def __init__(self) -> None:
        self.key, self.other_key = (
            RSAKey.generate_key(2048, {"kid": "1"}),
            RSAKey.generate_key(2048, {"kid": "1"}),
        )
        self.signs_with, self.url, self.codes = self.key, "", {}
        self.claims: dict = {}
        self.reset()
        self.app = FastAPI()
        self.app.get("/.well-known/openid-configuration")(self.about)
        self.app.get("/keys")(self.keys)
        self.app.get("/authorize")(self.authorize)
        self.app.post("/token")(self.token)

    def reset(self) -> None:
        self.signs_with, self.claims = (
            self.key,
            {
                "preferred_username": "zoe",
                "realm_access": {"roles": ["slem-trainer", "offline_access", "slem-reader"]},
            },
        )

    def about(self) -> dict:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def keys(self) -> dict:
        return {"keys": [self.key.as_dict(private=False)]}

    def authorize(self, request: Request) -> RedirectResponse:
        asked, code = request.query_params, uuid.uuid4().hex
        assert asked["code_challenge_method"] == "S256"
        self.codes[code] = asked["nonce"]
        return RedirectResponse(f"{asked['redirect_uri']}?code={code}&state={asked['state']}")

    def token(
        self,
        grant_type: str = Form(),
        code: str = Form(""),
        username: str = Form(""),
        password: str = Form(""),
    ) -> JSONResponse:
        good = (
            code in self.codes
            if grant_type == "authorization_code"
            else (username, password) == ("zoe", "hospital")
        )
        if not good:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        now = int(time.time())
        told = {
            "iss": self.url,
            "aud": "slem-label",
            "sub": "1",
            "iat": now,
            "exp": now + 60,
            "nonce": self.codes.pop(code, None),
            **self.claims,
        }
        signed = jwt.encode(
            {"alg": "RS256", "kid": "1"},
            {name: value for name, value in told.items() if value is not None},
            self.signs_with,
        )
        return JSONResponse({"access_token": "x", "token_type": "bearer", "id_token": signed})


@pytest.fixture(scope="module")
def service(serve: Callable) -> Iterator[Service]:
    one = Service()
    with serve(one.app) as one.url:
        yield one


@pytest.fixture(scope="module")
def url(service: Service, serve: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    provider = Provider(service.url, "slem-label", "realm_access.roles", passwords=True)
    access = open_access(
        Logins(UserFile(tmp_path_factory.mktemp("none") / "users.json")),
        "required",
        "127.0.0.1",
        provider=True,
    )
    app = FastAPI()
    app.include_router(auth_router(access, provider))
    complete(app)
    app.add_middleware(SessionMiddleware, secret_key="x", session_cookie="slem_oidc")
    app.add_middleware(AccessMiddleware, access=access)
    with serve(app) as address:
        yield address


@pytest.fixture
def browser(service: Service) -> Iterator[requests.Session]:
    service.reset()
    with requests.Session() as session:
        session.headers["Connection"] = "close"
        yield session


def test_a_browser_is_sent_to_the_service_and_comes_back_logged_in(
    url: str, browser: requests.Session
) -> None:
    assert (
        "Log in with the account of your institution"
        in browser.get(f"{url}/auth/login?next=/ohif/x", timeout=30).text
    )
    answer = browser.get(f"{url}/auth/oidc/begin?next=/ohif/x", timeout=30)
    assert [urlsplit(one.url).path for one in answer.history] == [
        "/auth/oidc/begin",
        "/authorize",
        "/auth/oidc/end",
    ]
    assert answer.url == f"{url}/ohif/x"
    assert COOKIE in browser.cookies
    assert "Logged in as zoe (trainer)" in browser.get(f"{url}/auth/login", timeout=30).text


@pytest.mark.parametrize(
    ("claims", "status", "text"),
    [
        (
            {"realm_access": {"roles": ["offline_access"]}},
            403,
            "zoe has none of the roles slem-reader, slem-reviewer, slem-trainer, slem-admin",
        ),
        ({"realm_access": "admin"}, 403, "has none of the roles"),
        ({"aud": "another"}, 401, "did not confirm the log-in"),
        ({"iss": "https://evil.example"}, 401, "did not confirm the log-in"),
        ({"exp": 1}, 401, "did not confirm the log-in"),
        ({"nonce": "another"}, 401, "did not confirm the log-in"),
        ({"preferred_username": "a\nb"}, 400, "cannot be a user's name"),
    ],
)
def test_an_answer_that_is_not_for_this_log_in_counts_for_nothing(
    url: str, browser: requests.Session, service: Service, claims: dict, status: int, text: str
) -> None:
    service.claims |= claims
    answer = browser.get(f"{url}/auth/oidc/begin", timeout=30)
    assert answer.status_code == status
    assert text in answer.json()["detail"]
    assert COOKIE not in browser.cookies


def test_a_token_that_another_key_signed_counts_for_nothing(
    url: str, browser: requests.Session, service: Service
) -> None:
    service.signs_with = service.other_key
    assert browser.get(f"{url}/auth/oidc/begin", timeout=30).status_code == 401


def test_an_answer_that_nobody_asked_for_counts_for_nothing(url: str, browser: requests.Session) -> None:
    sent = browser.get(f"{url}/auth/oidc/begin", timeout=30, allow_redirects=False).headers["location"]
    back = browser.get(sent, timeout=30, allow_redirects=False).headers["location"]
    with requests.Session() as another:
        assert another.get(back, timeout=30, headers={"Connection": "close"}).status_code == 401
    assert (
        browser.get(
            f"{url}/auth/oidc/end?code=x&state={parse_qs(urlsplit(sent).query)['state'][0]}", timeout=30
        ).status_code
        == 401
    )
    assert browser.get(f"{url}/auth/oidc/end", timeout=30).status_code == 401


def test_slicers_dialog_gives_name_and_password_to_the_service(url: str, browser: requests.Session) -> None:
    answer = browser.post(f"{url}/auth/token", data={"username": "zoe", "password": "hospital"}, timeout=30)
    told = browser.get(
        f"{url}/auth/token/valid",
        headers={"Authorization": f"bearer {answer.json()['access_token']}"},
        timeout=30,
    ).json()
    assert (told["username"], told["roles"]) == ("zoe", ["trainer"])
    assert (
        browser.post(
            f"{url}/auth/token", data={"username": "zoe", "password": "guess"}, timeout=30
        ).status_code
        == 401
    )


def test_a_service_that_does_not_answer_is_told(serve: Callable, tmp_path) -> None:
    provider = Provider("http://127.0.0.1:9/realm", "slem-label", passwords=True)
    app = FastAPI()
    app.include_router(
        auth_router(
            open_access(Logins(UserFile(tmp_path / "users.json")), "required", "127.0.0.1", provider=True),
            provider,
        )
    )
    complete(app)
    app.add_middleware(SessionMiddleware, secret_key="x")
    with serve(app) as url:
        for answer in (
            requests.get(f"{url}/auth/oidc/begin", timeout=30, headers={"Connection": "close"}),
            requests.post(
                f"{url}/auth/token",
                data={"username": "zoe", "password": "x"},
                timeout=30,
                headers={"Connection": "close"},
            ),
        ):
            assert answer.status_code == 502
            assert "http://127.0.0.1:9/realm cannot be reached" in answer.json()["detail"]


def test_a_service_in_the_clear_is_refused() -> None:
    with pytest.raises(BadSetting, match="is not encrypted"):
        Provider("http://login.hospital.example", "slem-label")


@pytest.mark.parametrize(
    "issuer",
    [
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example/realm",
        "http://localhost@evil.example",
        "http://127.0.0.1:80@evil.example",
        "https://user:secret@login.example",
        "https://",
        "https://[::1",
        "https://login.example:port",
        "https://login.example/?next=x",
        "ftp://localhost",
        "localhost:8080",
    ],
)
def test_an_address_that_only_looks_like_a_safe_one_is_refused(issuer: str) -> None:
    with pytest.raises(BadSetting, match="oidc_issuer"):
        Provider(issuer, "slem-label")


@pytest.mark.parametrize(
    "issuer",
    ["http://localhost:8080/realm", "http://127.0.0.1", "http://[::1]:9/x", "https://login.example/realm"],
)
def test_an_encrypted_service_and_one_on_this_machine_are_taken(issuer: str) -> None:
    assert Provider(issuer, "slem-label").issuer == issuer
