"""The script that this server adds to OHIF, in a real browser on a page that stands in for the viewer."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from slem_app.serving.http.viewer import ASSETS
from tests.e2e.ohif import CHROMIUM, FLAGS, NEEDED

pytestmark = [pytest.mark.e2e, NEEDED, pytest.mark.timeout(600)]

PAGE = """<!doctype html><body style="background:#000"><script>
class Notifications { show(options) { (window.shown ||= []).push(options); } }
window.services = {uiNotificationService: new Notifications()};
window.said = type => services.uiNotificationService.show(
    {title: 'MONAI Label - slem_brain', message: 'Running Segmentation - Successful', type, duration: 4000});
window.ask = () => new Promise(done => {
    const request = new XMLHttpRequest();
    request.open('POST', '/infer/slem_brain');
    request.responseType = 'arraybuffer';
    request.onloadend = () => done(request.status);
    request.send();
});
</script><script src="/ohif-save.js"></script></body>"""
SAID = {"used": ["t1n"], "missing": ["t1c"], "notes": ["t1n was moved by 8.0 mm onto t2f"], "warnings": []}
WARNING = {"code": "near-surface", "text": "90% of the result lies within 5 mm of the border of the brain"}


class Answers:
    """What the server would say next."""

    status, headers, body = 200, {}, b""

    def segmented(self, *warnings: dict[str, str]) -> None:
        told = quote(json.dumps({**SAID, "warnings": list(warnings)}))
        self.status, self.headers, self.body = 200, {"Slem-Sequences": told}, b""

    def refused(self, reason: str) -> None:
        self.status, self.headers = 400, {}
        self.body = json.dumps({"detail": reason}).encode()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def page(answers: Answers) -> Iterator:
    from playwright.sync_api import sync_playwright

    def answer(route) -> None:
        url = route.request.url
        if "/infer/" in url:
            route.fulfill(status=answers.status, headers=answers.headers, body=answers.body)
        elif url.endswith("/ohif-save.js"):
            route.fulfill(path=ASSETS / "save.js", content_type="text/javascript")
        else:
            route.fulfill(body=PAGE, content_type="text/html")

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.route("**/*", answer)
        page.goto("http://viewer.test/ohif/monai-label")
        page.wait_for_function("() => services.uiNotificationService.show.mended")
        yield page
        browser.close()


def notified(page, kind: str) -> dict[str, object]:
    """What the viewer shows after an answer, where it says what it always says."""
    page.evaluate("async kind => { await ask(); said(kind); }", kind)
    return page.evaluate("() => window.shown.at(-1)")


def test_beside_a_warning_the_viewer_does_not_say_successful(page, answers: Answers) -> None:
    answers.segmented(WARNING)
    shown = notified(page, "success")
    assert shown["type"] == "error"
    assert shown["message"] == f"Segmented, with a warning: {WARNING['text']}"
    warnings = page.locator("#slem-save [role=alert]")
    assert warnings.text_content() == WARNING["text"]
    assert warnings.evaluate("one => getComputedStyle(one).color") == "rgb(255, 128, 128)"
    assert "t1n was moved by 8.0 mm" in page.locator("#slem-save").text_content()
    answers.segmented()
    assert notified(page, "success")["message"] == "Running Segmentation - Successful"
    assert warnings.text_content() == ""


def test_a_refusal_has_its_reason(page, answers: Answers) -> None:
    answers.refused("sequence t1c is no MR image but a CT")
    shown = notified(page, "error")
    assert shown["message"] == "Not segmented: sequence t1c is no MR image but a CT"
