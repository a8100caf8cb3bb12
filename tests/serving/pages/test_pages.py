"""The pages of a real server over its HTTP routes: what each shows, and that none writes but caches."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp
from PIL import Image

from slem_app import phantom
from slem_app.errors import NotFound
from slem_app.rounds.job import DONE, RoundFolder
from slem_app.serving.http.application import build
from slem_app.serving.labels.reviewing import Verdict
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.serving.pages.routes import REPORTS
from slem_app.store.record import FINAL
from slem_app.trust import Place, Quality, Trust
from tests.waiting import wait_until

NASTY = "<b>x & 'y'"


def get(url: str, **fields: object) -> requests.Response:
    return requests.get(url, timeout=300, headers={"Connection": "close"}, **fields)


def rows(text: str) -> list[str]:
    """The cases that a worklist shows, in order."""
    return re.findall(r'<th scope="row"><a href="/case/([^"]+)">', text)


def opened(url: str) -> str:
    """The worklist once all its cases are opened."""
    for _ in range(60):
        text = get(url).text
        if "being read" not in text:
            break
        time.sleep(0.5)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def app(open_app: Callable, heads: dict, models: Path, folder: Path) -> Iterator[MONAILabelApp]:
    cases = {"A": heads["A"], "B": heads["B"], NASTY: heads["A"]}
    with open_app(cases, folder, models_dir=str(models), models="slem_brain", score_load="0") as instance:
        (folder / "studies/B/B-t1c.nii.gz").unlink()
        truth = next((folder / "studies/A").glob("*seg.nii.gz"))
        instance.datastore().save_label("A", str(truth), FINAL, {"model": "slem_brain", "client_id": "ann"})
        yield instance


def test_the_worklist_shows_cases_with_state_and_sequences(url: str) -> None:
    text = opened(url)
    assert rows(text) == ["%3Cb%3Ex%20%26%20%27y%27", "A", "B"]
    row = text[text.index('href="/case/A"') : text.index('href="/case/B"')]
    assert 'class="state submitted"' in row
    assert '<span class="tag">t1c</span>' in row
    last = text[text.index('href="/case/B"') :]
    assert 'class="state new"' in last
    assert '<span class="tag missing">no t1c</span>' in last
    assert "/ohif/slem-label?StudyInstanceUIDs=2.25." in row  # no DICOM, yet shown as such


def test_what_comes_from_data_is_never_markup(url: str) -> None:
    for path in ("/", "/case/%3Cb%3Ex%20%26%20%27y%27", "/case/%3Cscript%3Ealert(1)"):
        assert not re.search("<b>x|<script", get(url + path).text)
    assert '"><script' not in get(url, params={"q": '"><script>alert(1)</script>'}).text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({"state": "submitted"}, ["A"]),
        ({"state": "new", "q": "b"}, ["%3Cb%3Ex%20%26%20%27y%27", "B"]),
        ({"sort": "-case", "q": "a"}, ["A"]),
        ({"sort": "-case"}, ["B", "A", "%3Cb%3Ex%20%26%20%27y%27"]),
        ({"sort": "saved"}, ["A", "%3Cb%3Ex%20%26%20%27y%27", "B"]),
        ({"q": "nobody"}, []),
        ({"page": 99, "state": "submitted"}, ["A"]),
    ],
)
def test_the_worklist_is_filtered_and_sorted(url: str, query: dict, shown: list[str]) -> None:
    assert rows(get(url, params=query).text) == shown


@pytest.mark.parametrize("query", [{"state": "x"}, {"sort": "x"}, {"page": 0}, {"q": "x" * 201}])
def test_an_unknown_filter_is_refused(url: str, query: dict) -> None:
    assert get(url, params=query).status_code == 422


def test_a_case_page_says_why_each_series_was_chosen(url: str) -> None:
    text = get(f"{url}/case/B").text
    [reason] = re.findall(r'<span class="tag">t2f</span></td>.*?<td>(name [^<]+)</td>', text, re.DOTALL)
    assert "says" in reason
    assert "<dt>Missing</dt><dd>t1c</dd>" in text
    assert "No label has been saved" in text


def test_a_version_is_told_with_its_volumes(url: str, folder: Path) -> None:
    text = get(f"{url}/case/A").text
    truth = nibabel.load(next((folder / "studies/A").glob("*seg.nii.gz")))
    voxel = abs(np.linalg.det(truth.affine[:3, :3])) / 1000
    edema = np.count_nonzero(np.asarray(truth.dataobj) == 2) * voxel
    assert edema > 1
    assert f"{edema:.1f} ml" in text
    assert "final 1" in text
    assert ">ann" in text
    file = get(url + re.search(r'/slem/labels/file[^"]+', text)[0].replace("&amp;", "&"))
    assert file.content[:2] == b"\x1f\x8b"


def test_a_thumbnail_is_made_once_and_anew_after_another_label(
    url: str, app: MONAILabelApp, folder: Path
) -> None:
    kept = folder / "store/thumbnails/A"
    answer = get(f"{url}/case/A/thumbnail.png")
    picture = np.asarray(Image.open(BytesIO(answer.content)).convert("RGB")).astype(int)
    assert max(picture.shape[:2]) == 192
    assert np.ptp(picture, axis=2).max() > 50  # a coloured outline over grey
    [first] = kept.iterdir()
    assert get(f"{url}/case/A/thumbnail.png").content == answer.content
    assert [first] == list(kept.iterdir())
    truth = next((folder / "studies/A").glob("*seg.nii.gz"))
    app.datastore().save_label("A", str(truth), FINAL, {"model": "slem_brain", "client_id": "bob"})
    assert get(f"{url}/case/A/thumbnail.png").ok
    [second] = kept.iterdir()
    assert second != first
    plain = np.asarray(Image.open(BytesIO(get(f"{url}/case/B/thumbnail.png").content)).convert("RGB"))
    assert np.ptp(plain.astype(int), axis=2).max() == 0


def test_a_report_is_made_when_it_is_asked_for(url: str) -> None:
    answer = get(f"{url}/case/A/report.pdf")
    assert answer.content[:5] == b"%PDF-"
    refused = get(f"{url}/case/B/report.pdf")
    assert (refused.status_code, "no label" in refused.text) == (404, True)


def test_many_reports_at_once_keep_nobody_from_the_worklist(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()

    def slow(*_: object) -> None:
        end.wait(50)
        raise NotFound("as asked")

    monkeypatch.setattr("slem_app.serving.pages.case.CasePages.report", slow)
    with ThreadPoolExecutor(REPORTS + 28) as pool:
        asked = [pool.submit(get, f"{url}/case/A/report.pdf") for _ in range(REPORTS + 28)]
        try:
            wait_until(lambda: sum(one.done() for one in asked) == 28, 45)
            assert rows(get(url).text)
        finally:
            end.set()
        found = Counter(one.result().status_code for one in asked)
    assert found == {404: REPORTS, 503: 28}


@pytest.mark.parametrize(
    "path", ["/case/nobody", "/case/..%2f..%2fetc", "/models/nobody", "/case/nobody/thumbnail.png"]
)
def test_what_is_not_there_is_a_page_that_says_so(url: str, path: str) -> None:
    answer = get(url + path)
    assert answer.status_code == 404
    assert path.endswith("..%2fetc") or 'role="alert"' in answer.text


def test_the_next_case_is_kept_for_the_reader_who_asked(url: str, app: MONAILabelApp) -> None:
    with requests.Session() as browser:
        browser.get(url, timeout=60)
        assert browser.cookies["slem_reader"]
        page = browser.post(f"{url}/next", data={"strategy": "first"}, timeout=60)
        assert page.url.endswith("/case/%3Cb%3Ex%20%26%20%27y%27")
        assert "In hand: you" in page.text
    assert app.serving.chooser.leases.holder(NASTY) == f"@{browser.cookies['slem_reader']}"
    assert "first" in app.serving.datastore.image_notes(NASTY)["strategy"]
    assert rows(get(url, params={"state": "held"}).text) == ["%3Cb%3Ex%20%26%20%27y%27"]
    assert "another browser" in get(url).text
    assert requests.post(f"{url}/next", data={"strategy": "nothing"}, timeout=60).status_code == 404


def test_a_model_page_tells_for_whom_it_is(url: str) -> None:
    assert 'href="/models/slem_brain"' in get(f"{url}/models").text
    text = get(f"{url}/models/slem_brain").text
    for part in (
        "Suitable for",
        "Not suitable for",
        "without a T1 after contrast",
        "Research use",
        "SHA-256",
    ):
        assert part in text


def test_learning_shows_rounds_with_their_curve(url: str, app: MONAILabelApp) -> None:
    assert "No round has run yet" in get(f"{url}/learning").text
    trainings = app.serving.trainings
    round_ = RoundFolder.make(trainings._job(app.serving.watchers["slem_brain"], TrainRequest()), {})
    round_.change(status=DONE, history=(0.5, 0.75), best_metric=0.75, reason="better <i>")
    text = get(f"{url}/learning").text
    assert 'points="0.0,40.0 320.0,20.0"' in text
    assert "better &lt;i&gt;" in text
    told = requests.get(f"{url}/slem/learning", timeout=30).json()
    assert (told["running"], told["round"]["model"], told["round"]["status"]) == (False, "slem_brain", "done")
    assert told["round"]["reason"] == "better <i>"


def test_a_round_is_started_from_the_page_of_learning(
    url: str, app: MONAILabelApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'action="/learning/start"' in get(f"{url}/learning").text
    begun: list[TrainRequest] = []
    trainer = app.serving.trainers["slem_brain"]
    monkeypatch.setattr(type(trainer), "start", lambda self, asked: begun.append(asked))
    form = {"data": {"model": "slem_brain"}, "timeout": 30, "allow_redirects": False}
    answer = requests.post(f"{url}/learning/start", **form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/learning")
    assert begun == [TrainRequest()]
    form["data"] = {"model": "nothing"}
    answer = requests.post(f"{url}/learning/start", **form)
    assert answer.status_code == 404
    assert "can be trained here" in answer.text


def test_operations_show_what_the_server_does(url: str) -> None:
    text = get(f"{url}/operations").text
    for part in ("works</span> store", "cpu", "Disk of the store", "Prepared images"):
        assert part in text
    assert re.search(r"<dt>Cases</dt><dd>3</dd>", text)


PATHS = ("/", "/case/A", "/models", "/models/slem_brain", "/learning", "/operations")


@pytest.mark.parametrize("path", PATHS)
def test_a_page_runs_no_script_and_loads_nothing_from_elsewhere(url: str, path: str) -> None:
    answer = get(url + path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    text = answer.text.replace(url, "")
    assert not re.search(r"<script|\sstyle=|\son[a-z]+=|https?://", text)


def test_reading_pages_writes_nothing_but_pictures(
    open_app: Callable, serve: Callable, heads: dict, models: Path, tmp_path: Path
) -> None:
    with open_app({"A": heads["A"]}, tmp_path, models_dir=str(models), models="slem_brain") as instance:
        store = tmp_path / "store"
        with serve(build(instance.serving)) as address:
            for path in ("/", "/case/A", "/case/A/thumbnail.png", "/models/slem_brain", "/learning"):
                assert get(address + path).ok
        written = {path.relative_to(store).parts[0] for path in store.rglob("*") if path.is_file()}
    assert written <= {"thumbnails", "audit", "server.lock", "scores", "writable"}


def test_a_dicom_study_is_opened_in_ohif(
    open_app: Callable, serve: Callable, heads: dict, models: Path, tmp_path: Path
) -> None:
    phantom.write_dicom(heads["A"], tmp_path / "studies", "one")
    with open_app({}, tmp_path, models_dir=str(models), models="slem_brain") as instance:
        [uid] = instance.serving.cases.dicom_studies()
        with serve(build(instance.serving)) as address:
            text = opened(address)
            page = get(f"{address}/case/one").text
    assert f'href="/ohif/slem-label?StudyInstanceUIDs={uid}"' in text
    assert f'href="/ohif/slem-label?StudyInstanceUIDs={uid}"' in page
    assert f'href="/ohif/monai-label?StudyInstanceUIDs={uid}"' in page  # the stock mode, second


def test_a_study_in_nifti_is_opened_in_ohif_too_or_the_page_says_why_not(
    open_app: Callable, serve: Callable, heads: dict, models: Path, tmp_path: Path
) -> None:
    for name in ("good", "four"):
        phantom.write_nifti(heads["A"], tmp_path / "studies", name)
    path = tmp_path / "studies/four/four-t1c.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.stack([image.get_fdata()] * 2, axis=-1), image.affine), path)
    with open_app({}, tmp_path, models_dir=str(models), models="slem_brain") as instance:
        uid = instance.serving.cases.view("good").study
        with serve(build(instance.serving)) as address:
            text = opened(address)
            page, bad = (get(f"{address}/case/{name}").text for name in ("good", "four"))
    assert f'href="/ohif/slem-label?StudyInstanceUIDs={uid}"' in text
    assert f'href="/ohif/slem-label?StudyInstanceUIDs={uid}"' in page
    assert f'href="/ohif/monai-label?StudyInstanceUIDs={uid}"' in page  # the stock mode, second
    assert "Not shown in OHIF" not in page
    assert "Not shown in OHIF: four-t1c.nii.gz is 4D" in bad


def test_a_reviewer_rejects_with_a_reason_and_everybody_sees_it(url: str, app: MONAILabelApp) -> None:
    store = app.datastore().store
    numbers = [version.number for version in store.versions("A", FINAL)]
    send = {"tag": "final", "version": numbers[-1], "state": "rejected"}
    for number in numbers[:-1]:
        app.datastore().decide("A", FINAL, number, Verdict("rejected", "an older one"))

    def post(**fields: object) -> requests.Response:
        return requests.post(f"{url}/case/A/decide", data=send | fields, timeout=60, allow_redirects=False)

    answer = post()
    assert answer.status_code == 400
    assert "say why the label is rejected" in answer.text
    try:
        assert post(why="the edema <i>is missing</i>").headers["location"] == "/case/A#labels"
        assert "the edema &lt;i&gt;is missing&lt;/i&gt;" in get(f"{url}/case/A").text
        text = opened(f"{url}/?state=rejected")
        assert rows(text) == ["A"]
        assert "the edema &lt;i&gt;is missing" in text
        assert "A" not in app.datastore().get_labeled_images()
    finally:
        for number in numbers:
            post(state="approved", why="after all", version=number)
    assert rows(opened(f"{url}/?state=approved")) == ["A"]
    assert post(version=99).status_code == 404


def test_a_draft_shows_where_the_model_doubts_itself(url: str, app: MONAILabelApp, folder: Path) -> None:
    datastore = app.datastore()
    grid = datastore.cases.find("B").series.grid
    i, j, k = (n // 2 for n in grid.shape)
    x, y, z = grid.to_world([i, j, k])
    place = Place("edema, left side: 0.4 ml, may be <i>no tumor</i>", 0.4, (x, y, z), "edema", "")
    trust = Trust((place,), Quality({"WT": 0.41}, {"WT": 0.2}, "do not use"))
    label = folder / "draft.nii.gz"
    array = np.zeros(grid.shape, np.uint8)
    array[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 2
    nibabel.save(nibabel.Nifti1Image(array, grid.affine), label)
    said = LabelSubmission({"model": "slem_brain"})
    datastore.save_result("B", label, "original", said, {"trust": trust.table()})
    text = get(f"{url}/case/B").text
    assert "may be &lt;i&gt;no tumor" in text
    assert "do not use" in text
    picture = Image.open(BytesIO(get(f"{url}/case/B/place/1.png").content))
    assert picture.size[0] > 50
    assert get(f"{url}/case/B/place/2.png").status_code == 404
    assert rows(opened(f"{url}/?sort=doubt"))[0] == "B"
    # a reader who changes it is no longer told what the model thought of its own
    array[i, j, k] = 0
    nibabel.save(nibabel.Nifti1Image(array, grid.affine), label)
    datastore.submit("B", label, FINAL, LabelSubmission({"model": "slem_brain", "client_id": "ann"}))
    assert "Check here" not in get(f"{url}/case/B").text
