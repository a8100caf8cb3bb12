"""Headers that keep other sites out, on every answer; pages that load nothing from elsewhere."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from slem_app.serving.http.application import build
from slem_app.serving.http.security_headers import API_POLICY, script_hashes

ANSWERS = {
    "/info/": 200,
    "/": 200,
    "/docs": 200,
    "/logs/": 200,
    "/logs/?text=true": 200,
    "/pages/swagger-ui.css": 200,
    "/pages/swagger-ui-bundle.js": 200,
    "/pages/routes.js": 200,
    "/openapi.json": 200,
    "/favicon.ico": 200,
    "/static/favicon.ico": 200,
    "/ohif/": 200,
    "/ohif/app.bundle.css": 200,
    "/ohif-save.js": 200,
    "/auth/login": 303,
    "/datastore/": 200,
    "/datastore/image?image=A": 200,
    "/nothing": 404,
    "/ohif/nothing.js": 404,
    "/pages/nothing.js": 422,
    "/datastore/image?image=nobody": 404,
    "/infer/slem_brain": 405,
}
PAGES = ("/", "/docs", "/logs/", "/logs/?refresh=9", "/ohif/")


@pytest.fixture(scope="module")
def url(
    open_app: Callable, serve: Callable, heads: dict, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    with open_app(heads, folder, models_dir=str(models), models="slem_brain") as instance:
        (folder / "app/logs").mkdir(parents=True)
        (folder / "app/logs/app.log").write_text("".join(f"line {n} <b>&\n" for n in range(1000)))
        with serve(build(instance.serving, log=folder / "app/logs/app.log")) as address:
            yield address


def get(url: str, **fields: object) -> requests.Response:
    return requests.get(url, timeout=60, headers={"Connection": "close"}, allow_redirects=False, **fields)


@pytest.mark.parametrize("path", list(ANSWERS))
def test_every_answer_keeps_other_sites_out(url: str, path: str) -> None:
    answer = get(url + path)
    assert answer.status_code == ANSWERS[path]
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy or path == "/ohif/"
    # the viewer alone compiles text, of its own scripts, to read a DICOM segmentation
    assert ("'unsafe-eval'" in policy) == (path == "/ohif/")
    assert not re.search(r"script-src[^;]*'unsafe-inline'|https?:|\*", policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    kept = path.startswith(("/ohif", "/static", "/pages", "/favicon"))
    assert answer.headers["cache-control"] == ("no-cache" if kept else "no-store")


def test_a_failure_inside_the_server_has_them_too(url: str) -> None:
    answer = requests.post(f"{url}/session/", files={"files": ("x.exe", b"")}, timeout=60)
    assert answer.status_code >= 400
    assert answer.headers["content-security-policy"] == API_POLICY
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_elsewhere(url: str, path: str) -> None:
    page = get(url + path)
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", page.text)
    for asset in re.findall(r"(?:src|href)=\"(/(?:pages|ohif-save|favicon)[^\"]*)\"", page.text):
        assert get(url + asset).ok
    allowed = re.search(r"script-src ([^;]*)", page.headers["content-security-policy"])
    assert set(script_hashes(page.text)) <= set(allowed[1].split() if allowed else ())


def test_the_log_is_shown_as_text(url: str) -> None:
    page = get(f"{url}/logs/?lines=2")
    assert "line 999 &lt;b&gt;&amp;" in page.text
    assert "line 997" not in page.text
    assert get(f"{url}/logs/?lines=2&html=false").text == "line 998 <b>&\nline 999 <b>&\n"
    assert get(f"{url}/logs/?lines=-5&text=true").text == "line 999 <b>&\n"
    assert 'content="3"' in get(f"{url}/logs/?refresh=1").text
