"""Whoever watches the server: alive, ready, and figures for Prometheus."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from slem_app.errors import PacsFailed
from slem_app.serving.http.application import build
from slem_app.serving.http.health import FRESH, Readiness
from slem_app.users import UserFile

INVENTED = "a.tag.of.a.client"


def test_what_works_is_looked_at_every_few_seconds_only() -> None:
    now, asked = [0.0], []

    def store() -> None:
        asked.append(now[0])
        if now[0] > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def pacs() -> None:
        if now[0] > 20:
            raise PacsFailed("it does not answer")

    ready = Readiness({"store": store, "pacs": pacs}, lambda: now[0])
    for _ in range(100):
        assert ready.now() == {"store": True, "pacs": True}
    assert asked == [0.0]
    now[0] = 10 + FRESH
    assert ready.now() == {"store": False, "pacs": True}
    now[0] = 20 + FRESH
    assert ready.now() == {"store": False, "pacs": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def url(open_app: Callable, serve: Callable, heads: dict, models: Path, folder: Path) -> Iterator[str]:
    users = UserFile(folder / "users.json")
    users.add("rea", "correct horse battery", "reader")
    users.add("ada", "correct horse battery", "admin")
    conf = {"models_dir": str(models), "models": "slem_brain", "login": "required", "users": str(users.path)}
    with pytest.MonkeyPatch.context() as patch, open_app(heads, folder, **conf) as instance:
        patch.setenv("SLEM_METRICS_TOKEN", "a token for Prometheus")
        with serve(build(instance.serving)) as address:
            yield address


def ask(url: str, path: str, token: str = "", method: str = "GET", **fields: object) -> requests.Response:
    headers = {"Connection": "close", **({"Authorization": f"Bearer {token}"} if token else {})}
    return requests.request(method, url + path, headers=headers, timeout=120, **fields)


def token_of(url: str, name: str) -> str:
    fields = {"username": name, "password": "correct horse battery"}
    return ask(url, "/auth/token", method="POST", data=fields).json()["access_token"]


def test_anybody_may_ask_whether_it_is_alive_and_ready(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(url, "/healthz").json() == {"status": "alive"}
    answer = ask(url, "/readyz")
    assert answer.json() == {"ready": True, "checks": {"models": "ok", "store": "ok"}}
    monkeypatch.setattr("slem_app.serving.http.health.FRESH", 0.0)
    monkeypatch.setattr("slem_app.serving.http.health.atomic_file", full)
    answer = ask(url, "/readyz")
    assert (answer.status_code, answer.json()["checks"]["store"]) == (503, "failed")
    assert str(folder) not in answer.text


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_figures_are_for_admins_and_for_prometheus(url: str) -> None:
    assert ask(url, "/metrics").status_code == 401
    assert ask(url, "/metrics", "another token").status_code == 401
    assert ask(url, "/metrics", token_of(url, "rea")).status_code == 403
    assert ask(url, "/metrics", token_of(url, "ada")).ok
    assert ask(url, "/metrics", "a token for Prometheus").ok
    assert ask(url, "/info/", "a token for Prometheus").status_code == 401


def test_figures_tell_of_requests_steps_cases_and_memory_and_of_nobody(url: str) -> None:
    reader = token_of(url, "rea")
    assert ask(url, "/infer/slem_brain?image=A", reader, "POST").ok
    fields = {"params": json.dumps({"label_tag": INVENTED, "save_label": True})}
    assert ask(url, "/infer/slem_brain?image=B", reader, "POST", data=fields).ok
    for path in ("/nothing/A", "/info/", "/datastore/image?image=nobody"):
        ask(url, path, reader)
    text = ask(url, "/metrics", "a token for Prometheus").text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    found = {(one.name, *sorted(one.labels.values())): one.value for one in samples}
    assert found["slem_requests_total", "/infer/{model}", "200", "POST"] == 2
    assert found["slem_requests_total", "404", "GET", "other"] == 1
    assert found["slem_step_seconds_count", "network", "slem_brain"] == 2
    assert found["slem_cases",] == 2
    assert found["slem_queue", "click"] == 0
    assert found["slem_cache_bytes", "volumes"] > 0
    assert found["process_resident_memory_bytes",] > 2**20
    assert found["slem_labelled_cases", "other"] == 1
    assert not {"A", "nobody", "rea", "ada", "127.0.0.1", INVENTED} & {
        v for one in samples for v in one.labels.values()
    }
