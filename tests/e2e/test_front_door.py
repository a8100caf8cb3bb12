"""The worklist and the other pages in a real Chromium: a reader finds a case, is given the next one and opens
it, by mouse and by keyboard, in light and dark, on a wide screen and a narrow one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from slem_app import phantom
from slem_app.formats import write_nifti
from slem_app.store.labels import LabelStore
from slem_app.weights import BRAIN_LABELS
from tests.e2e import ohif
from tests.e2e.accessible import AXE, SERIOUS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), ohif.NEEDED]

PAGES = (
    *("/", "/case/ann", "/case/bob", "/models", "/models/slem_brain", "/learning", "/operations"),
    *("/users", "/audit", "/logs/"),  # what `/docs` shows is Swagger's
)


@pytest.fixture(scope="module")
def url(click_models: Path, start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    studies, store = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("store")
    head = phantom.make(seed=1, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5))
    for name in ("ann", "bob", "cat"):
        phantom.write_dicom(head, studies, name)
    meta = {
        "sequence": "t1c",
        "label_names": {name: value for value, name in enumerate(BRAIN_LABELS.names, 1)},
        "model": "slem_brain",
        "ts": 1.7e9,
        "client_id": "reader",
    }
    grid = head.grids["t1c"]
    LabelStore(store).save(
        "ann", "final", lambda path: write_nifti(head.labels, grid, BRAIN_LABELS, path), meta
    )
    conf = ("--conf", "models_dir", str(click_models), "--conf", "models", "slem_brain,slem_brain_clicks")
    return start_server(studies, *conf, "--conf", "score_load", "0", "--conf", "store", str(store)).url


@pytest.fixture
def page(url: str) -> Iterator[Any]:
    with ohif.browser_page() as one:
        one.asked, one.said = [], []
        one.on("request", lambda request: one.asked.append(request.url))
        one.on("console", lambda message: one.said.append(message.text))
        yield one
        host = urlsplit(url).netloc
        assert [asked for asked in one.asked if urlsplit(asked).netloc != host] == []
        assert one.said == []


def test_a_reader_finds_a_case_and_opens_it(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("link", name="ann", exact=True).wait_for()
    page.get_by_label("Find").fill("bo")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=bo**")
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("link", name="bob", exact=True).click()
    page.wait_for_url("**/case/bob")
    assert page.locator("h1").inner_text() == "bob"
    page.get_by_role("link", name="Open in OHIF").click()
    page.wait_for_url("**/ohif/slem-label?StudyInstanceUIDs=*")
    page.said.clear()  # the viewer's own


def test_the_next_case_is_given_by_keyboard_alone(page: Any, url: str) -> None:
    page.goto(url)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.get_by_label("Next case by").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/case/*")
    assert "In hand: you" in page.inner_text("main")


def test_a_series_is_chosen_by_hand_and_given_back(page: Any, url: str) -> None:
    page.goto(f"{url}/case/cat")
    page.get_by_text("Correct the choice by hand").click()
    page.get_by_label("t1c", exact=True).select_option(label="AX T2 FLAIR")
    page.get_by_role("button", name="Use these series").click()
    page.wait_for_url("**/case/cat#series")
    assert "t1c is AX T2 FLAIR" in page.inner_text(".notice")
    page.get_by_text("Correct the choice by hand").click()
    page.get_by_role("button", name="Back to the automatic choice").click()
    page.wait_for_function("() => !document.querySelector('.notice')")


def test_pictures_are_there(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_function(
        "() => document.images.length === 3 && [...document.images].every(i => i.complete)"
    )
    assert page.evaluate("() => [...document.images].every(image => image.naturalWidth > 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_accessible_and_fits(page: Any, url: str, scheme: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("no .axe: make e2e fetches it")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    for path in PAGES:
        page.goto(url + path)
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, path
        page.evaluate(AXE.read_text(encoding="utf-8"))
        assert page.evaluate(SERIOUS) == [], path
