"""A reader chooses by hand which series is which sequence: over HTTP and by the form of a case's page, kept
through a restart, and used by everything that looks at the case.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp

from slem_app import phantom
from slem_app.serving.cases.series_by_hand import choose_series
from slem_app.serving.http.application import build
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.store.case_labels import CaseLabels
from slem_app.store.drafts import Drafts
from slem_app.store.record import FINAL

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
SWAP = {"t1c": "t2f", "t2f": "t1c"}
MODELS = "slem_brain,slem_brain_clicks"


def ask(method: str, url: str, **fields: Any) -> requests.Response:
    return requests.request(method, url, timeout=300, headers={"Connection": "close"}, **fields)


def used(url: str, case: str = "A") -> dict[str, str]:
    rows = ask("GET", f"{url}/slem/series?image={case}").json()["used"]
    return {row["sequence"]: row["series"] for row in rows}


def choose(url: str, chosen: dict[str, str], case: str = "A") -> requests.Response:
    return ask("POST", f"{url}/slem/series?image={case}", json={"chosen": chosen})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def app(open_app: Callable, heads: dict, click_models: Path, folder: Path) -> Iterator[MONAILabelApp]:
    with open_app(heads, folder, models_dir=str(click_models), models=MODELS, score_load="0") as instance:
        yield instance


@pytest.fixture(scope="module")
def running(app: MONAILabelApp, serve: Callable) -> Iterator[str]:
    with serve(build(app.serving)) as address:
        yield address


@pytest.fixture
def url(running: str) -> Iterator[str]:
    """A server whose case A is as the rules have it, before and after."""
    yield running
    assert choose(running, {}).ok


def infer(url: str, image: str = "A", model: str = "slem_brain", **params: Any) -> dict[str, Any]:
    reply = ask("POST", f"{url}/infer/{model}?image={image}&output=json", data={"params": json.dumps(params)})
    assert reply.ok, reply.text
    return reply.json()


def test_what_there_is_to_choose_from_is_told(url: str) -> None:
    def fields() -> dict[str, dict[str, Any]]:
        told = ask("GET", f"{url}/slem/series?image=A").json()["fields"]
        return {one["sequence"]: one for one in told}

    before = fields()
    assert set(before) == set(SEQUENCES)  # no sequence of a model that the case is not for
    first, second, *series = before["t1c"]["options"]
    assert (first[0], second, before["t1c"]["value"]) == ("rules", ["none", "none of them"], "rules")
    assert first[1].startswith("automatic: ")
    assert {value for value, _ in series} == {f"id:{name}" for name in SEQUENCES}
    assert choose(url, {"t1c": "t2f", "t2f": ""}).ok
    after = fields()
    assert [after[name]["value"] for name in ("t1c", "t2f", "t1n")] == ["id:t2f", "none", "rules"]


def test_a_choice_counts_for_what_is_shown_and_segmented(url: str, folder: Path) -> None:
    before = infer(url)
    assert "chosen_by_hand" not in before["preparation"]
    told = choose(url, SWAP).json()
    assert used(url) == {"t1n": "t1n", "t1c": "t2f", "t2w": "t2w", "t2f": "t1c"}
    assert [row["by_hand"] for row in told["used"]] == [False, True, False, True]
    image = ask("GET", f"{url}/datastore/image?image=A/t1c").content
    assert image == (folder / "studies/A/A-t2f.nii.gz").read_bytes()
    after = infer(url)
    assert after["latencies"]["read"] > 0  # what was prepared of the other choice is not used
    assert after["preparation"]["chosen_by_hand"] == SWAP
    assert "t1c is series t2f, as chosen by hand" in after["notes"]
    assert after["volumes_ml"] != before["volumes_ml"]


def test_none_of_the_series_can_be_chosen(url: str) -> None:
    assert choose(url, {"t1c": ""}).ok
    reply = infer(url)
    assert reply["missing"] == ["t1c"]
    assert "no series is t1c, as chosen by hand" in reply["notes"]
    [row] = ask("GET", f"{url}/slem/series?image=A").json()["unused"]
    assert (row["series"], row["kind"]) == ("t1c", "by hand")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"chosen": {"t1c": "x"}}, 404, "has no series 'x' for t1c: it has t1c, t1n, t2f, t2w"),
        ({"chosen": {"t9": "t1c"}}, 400, "unknown sequence 't9'"),
        ({"chosen": {"t1c": "t2f", "t2w": "t2f"}}, 400, "an image is one sequence"),
        ({"chosen": {"t1c": 3}}, 422, "chosen"),
        ({"chosen": {}, "more": 1}, 422, "more"),
        ({}, 422, "chosen"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_changes_nothing(
    url: str, body: dict, status: int, says: str
) -> None:
    assert choose(url, {"t2w": ""}).ok
    reply = ask("POST", f"{url}/slem/series?image=A", json=body)
    assert (reply.status_code, says in reply.text) == (status, True), reply.text
    assert "t2w" not in used(url)


def test_a_series_that_is_no_volume_is_refused(url: str, folder: Path) -> None:
    path = folder / "studies/B/B-t1n.nii.gz"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:200])
        reply = choose(url, {"t1c": "t1n"}, "B")
        assert reply.status_code == 422
        assert "series 't1n' cannot be t1c" in reply.text
    finally:
        path.write_bytes(whole)


def test_clicks_begin_anew_and_what_was_shown_before_is_not_saved(url: str) -> None:
    first = infer(url, model="slem_brain_clicks", **{"edema": [[20, 24, 20]], "client_id": "ann"})
    assert first["prompts"]
    choose(url, SWAP)
    saved = ask("POST", f"{url}/slem/save?image=A&client_id=ann")
    assert saved.status_code == 422
    assert "another series was chosen" in saved.text
    again = infer(url, model="slem_brain_clicks", **{"edema": [[20, 24, 20]], "client_id": "ann"})
    assert again["latencies"]["read"] > 0
    assert again["latencies"].keys() == first["latencies"].keys(), (again, first)
    assert ask("POST", f"{url}/slem/save?image=A&client_id=ann").ok


def test_a_saved_label_says_so_and_is_found_by_its_series(url: str, app: MONAILabelApp, folder: Path) -> None:
    choose(url, SWAP)
    infer(url, client_id="bob")
    saved = ask("POST", f"{url}/slem/save?image=A&client_id=bob")
    assert saved.ok, saved.text
    store = app.serving.datastore.store
    version = store.latest("A", FINAL)
    assert version.record.chosen_by_hand == SWAP
    assert (version.sequence, version.series) == ("t1c", "t2f")
    choose(url, {})  # back: the label lies on what is t2f again
    labels = CaseLabels(str(folder / "studies"), folder / "store")
    assert labels.labelled("A").sequence == "t2f"
    page = ask("GET", f"{url}/case/A").text
    assert "The model saw another choice of series" in page


def test_drafts_and_rounds_go_by_the_choice(url: str, app: MONAILabelApp, folder: Path) -> None:
    card = app.serving.cards["slem_brain"]
    labels = CaseLabels(str(folder / "studies"), folder / "store")
    drafts = Drafts(labels, card.name, card.version, card.sha256, tag="made", which="all")
    infer(url, save_label=True, label_tag="made")
    assert not drafts.needs("A")
    choose(url, SWAP)
    assert drafts.needs("A")
    infer(url, save_label=True, label_tag="made")
    assert not drafts.needs("A")
    assert labels.images("A").sequences["t1c"].id == "t2f"
    truth = next((folder / "studies/A").glob("*seg.nii.gz"))
    app.datastore().save_label("A", str(truth), FINAL, {"model": "slem_brain", "client_id": "ann"})
    job = app.serving.trainings._job(app.serving.watchers["slem_brain"], TrainRequest())
    assert job.by_hand == {"A": SWAP}
    assert job.cases[0].version.endswith("(t1c is t2f, t2f is t1c)")


def test_the_form_of_a_page_chooses_and_gives_back(url: str, folder: Path) -> None:
    page = ask("GET", f"{url}/case/A").text
    assert '<option value="rules" selected>automatic: t1c</option>' in page
    fields = [
        ("sequence", "t1n"), ("series", "rules"), ("sequence", "t1c"), ("series", "id:t2f"),
        ("sequence", "t2w"), ("series", "none"), ("do", "choose"),
    ]  # fmt: skip
    reply = ask("POST", f"{url}/case/A/series", data=fields, allow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/case/A#series")
    assert used(url) == {"t1n": "t1n", "t1c": "t2f"}
    page = ask("GET", f"{url}/case/A").text
    assert re.search(r"Chosen by hand by 127\.0\.0\.1, \d{4}-", page)
    assert "t2w is none of them" in page
    assert ask("POST", f"{url}/case/A/series", data=[*fields[:-1], ("do", "automatic")]).ok
    assert used(url)["t1c"] == "t1c"
    log = next((folder / "store/audit").glob("*.jsonl")).read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["case"] for line in lines if line["do"] == "POST /case"][-2:] == ["A", "A"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([("sequence", "t1c"), ("series", "x")], "cannot be chosen for t1c"),
        ([("sequence", "t1c"), ("series", "id:x")], "no series"),
        ([("sequence", "t1c"), ("sequence", "t2w"), ("series", "none")], "one value for each sequence"),
        ([("sequence", "t1c"), ("sequence", "t1c"), ("series", "none"), ("series", "rules")], "one value"),
    ],
)
def test_a_form_that_is_not_ours_is_refused(url: str, fields: list, says: str) -> None:
    reply = ask("POST", f"{url}/case/A/series", data=fields)
    assert reply.status_code in (400, 404)
    assert says in reply.text
    assert used(url)["t1c"] == "t1c"


def test_a_choice_survives_a_restart(
    url: str, open_app: Callable, click_models: Path, tmp_path: Path, heads: dict
) -> None:
    conf = {"models_dir": str(click_models), "models": "slem_brain", "score_load": "0"}
    with open_app({"A": heads["A"]}, tmp_path, **conf) as first:
        choose_series(first.serving.cases, "A", SWAP)
    with open_app({}, tmp_path, **conf) as second:
        assert second.serving.cases.find("A/t1c").series.id == "t2f"
        [made] = second.serving.cases.choices.history("A")
        assert made.ts > 0


def test_a_volume_that_was_sent_can_be_named_by_hand(url: str, app: MONAILabelApp, tmp_path: Path) -> None:
    head = phantom.make(seed=5, shape=(24, 28, 20), spacing=(8.0, 8.0, 8.0))
    phantom.write_nifti(head, tmp_path, "C")
    app.serving.datastore.add_image("volume 7", str(tmp_path / "C/C-t2f.nii.gz"), {})
    [row] = ask("GET", f"{url}/slem/series?image=volume 7").json()["used"]
    assert row["why"] == "assumed: its name does not tell"
    assert not row["by_hand"]
    assert choose(url, {"t2f": row["series"]}, "volume 7").ok
    reply = infer(url, "volume 7")
    assert reply["used"] == ["t2f"]
    assert not [one for one in reply["warnings"] if one["code"] == "sequence-assumed"]
