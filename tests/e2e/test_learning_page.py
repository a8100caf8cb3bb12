"""The page of learning in a real Chromium: a round is started by its button; stage, curve and log come by
themselves, without loading the page again, until it has ended.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.e2e import ohif
from tests.e2e.learning_server import learning_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), ohif.NEEDED]
PATIENCE = 400_000  # ms for a round of some seconds
# what the page shows, whenever it changes, for as long as it is not loaded again
WATCH = """() => {
    window.seen = [];
    new MutationObserver(() => window.seen.push(document.querySelector('#rounds').innerText))
        .observe(document.querySelector('#rounds'), {childList: true});
}"""


def test_a_round_is_followed_without_loading_the_page_again(start_server: Callable, tmp_path: Path) -> None:
    url = learning_server(start_server, tmp_path)
    asked: list[str] = []
    errors: list[str] = []
    with ohif.browser_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/learning")
        assert "4 cases" not in page.inner_text("main")
        assert "No round has run yet" in page.inner_text("#rounds")
        page.get_by_role("button", name="Start a round").click()
        page.get_by_text("A round is running").wait_for()
        page.evaluate(WATCH)
        begun = len(asked)
        page.wait_for_function("() => window.seen?.length >= 2", timeout=PATIENCE)
        shown = page.evaluate("() => window.seen")
        assert len(set(shown)) == len(shown), "the same was sent twice"
        assert [one for one in asked[begun:] if not one.endswith("/learning/events")] == []
        # once it has ended the page is loaded without its script
        page.wait_for_function(
            "() => !document.querySelector('script') && !document.body.innerText.includes('is running')",
            timeout=PATIENCE,
        )
        told: dict[str, Any] = requests.get(f"{url}/slem/learning", timeout=60).json()
        assert (told["running"], told["round"]["status"]) == (False, "done"), told
        assert page.locator("#rounds polyline").count() == 1
        assert page.locator("#rounds .state").first.inner_text() == "done"
        assert "epoch" in page.locator("#rounds details pre").first.text_content()
    assert errors == []
    assert {urlsplit(one).netloc for one in asked} == {urlsplit(url).netloc}
