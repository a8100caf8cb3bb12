"""Every page in a real browser: it works, loads nothing from elsewhere, breaks no rule of its own policy, and
no other site can show it in a frame.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from slem_app import phantom
from slem_app.users import UserFile
from tests.e2e import ohif
from tests.e2e.accessible import AXE, SERIOUS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), ohif.NEEDED]

SECRET = "a long secret"
LISTEN = """window.violations = [];
document.addEventListener('securitypolicyviolation', event => window.violations.push(
    `${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));"""


@pytest.fixture(scope="module")
def url(click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(phantom.make(seed=1, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5)), studies, "ann")
    conf = ("--conf", "models_dir", str(click_models), "--conf", "models", "slem_brain,slem_brain_clicks")
    return start_server(studies, *conf, "--conf", "score_load", "0").url


@pytest.fixture
def viewer(url: str) -> Iterator:
    """A page that notes what breaks its policy, and whom it asks."""
    with ohif.viewer(url) as one:
        one.page.add_init_script(LISTEN)
        one.asked, one.said = [], []
        one.page.on("request", lambda request: one.asked.append(request.url))
        one.page.on("console", lambda message: one.said.append(message.text))
        yield one


@pytest.fixture(scope="module")
def closed_url(start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server at which readers must log in."""
    folder = tmp_path_factory.mktemp("closed")
    head = phantom.make(seed=1, shape=(32, 36, 24), spacing=(6.0, 6.0, 6.0))
    phantom.write_dicom(head, folder / "studies", "ann")
    UserFile(folder / "users.json").add("rea", SECRET, "reader")
    conf = ("--conf", "users", str(folder / "users.json"), "--conf", "login", "required")
    return start_server(folder / "studies", *conf, "--conf", "score_load", "0").url


def check(viewer, url: str) -> None:
    """Nothing was asked of others, nothing was blocked."""
    host = urlsplit(url).netloc
    foreign = [one for one in viewer.asked if urlsplit(one).scheme in ("http", "https", "ws", "wss")]
    assert [one for one in foreign if urlsplit(one).netloc != host] == []
    assert viewer.page.evaluate("() => window.violations") == []
    assert [text for text in viewer.said if "Content Security Policy" in text] == []


@pytest.mark.parametrize(("path", "shown"), [("/", "Worklist"), ("/docs", "/infer/{model}")])
def test_a_page_shows_what_it_is_for(viewer, url: str, path: str, shown: str) -> None:
    viewer.page.goto(url + path, wait_until="load")
    viewer.page.wait_for_function("text => document.body.innerText.includes(text)", arg=shown)
    check(viewer, url)


def test_the_viewer_segments_under_its_policy(viewer, url: str) -> None:
    [study] = requests.get(f"{url}/dicom-web/studies", timeout=60).json()
    viewer.open(study["0020000D"]["Value"][0])
    viewer.connect()
    viewer.tab("Auto-Segmentation")
    viewer.run("Segmentation")
    assert (viewer.shown().names != "").any()
    check(viewer, url)


@pytest.mark.parametrize("path", ["/ohif/", "/"])
def test_no_other_site_can_show_a_page_in_a_frame(viewer, url: str, path: str) -> None:
    site = f'<!doctype html><iframe src="{url}{path}"></iframe>'
    viewer.page.route(
        "http://evil.example/", lambda route: route.fulfill(body=site, content_type="text/html")
    )
    viewer.page.goto("http://evil.example/", wait_until="load")
    frame = viewer.page.frames[1]
    assert frame.evaluate("() => document.URL") == "chrome-error://chromewebdata/"


def test_the_log_in_page_works_under_its_policy(viewer, closed_url: str) -> None:
    viewer.page.goto(f"{closed_url}/docs", wait_until="load")
    assert urlsplit(viewer.page.url).path == "/auth/login"
    check(viewer, closed_url)
    if AXE.is_file():  # `make e2e` fetches it
        viewer.page.evaluate(AXE.read_text(encoding="utf-8"))
        assert viewer.page.evaluate(SERIOUS) == []
    viewer.page.fill("input[name=username]", "rea")
    viewer.page.fill("input[name=password]", SECRET)
    viewer.page.click("button[type=submit], input[type=submit], button")
    viewer.page.wait_for_function("() => document.body.innerText.includes('/infer/{model}')")
    check(viewer, closed_url)
