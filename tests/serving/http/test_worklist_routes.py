"""The worklist as programs get it, and taking a case from it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from slem_app.serving.http.application import build
from slem_app.store.record import FINAL


@pytest.fixture(scope="module")
def url(
    open_app: Callable,
    serve: Callable,
    heads: dict,
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    folder, cases = tmp_path_factory.mktemp("app"), {"A": heads["A"], "B": heads["B"]}
    with open_app(cases, folder, models_dir=str(models), models="slem_brain", score_load="0") as app:
        (folder / "studies/B/B-t1c.nii.gz").unlink()
        truth = next((folder / "studies/A").glob("*seg.nii.gz"))
        app.datastore().save_label("A", str(truth), FINAL, {"model": "slem_brain", "client_id": "ann"})
        with serve(build(app.serving)) as address:
            yield address


def ask(url: str, method: str = "GET", path: str = "", **params: object) -> requests.Response:
    address = f"{url}/slem/worklist{path}"
    return requests.request(method, address, params=params, timeout=60, headers={"Connection": "close"})


def rows(url: str, **params: object) -> dict[str, dict]:
    """The rows once all cases are opened."""
    for _ in range(60):
        told = ask(url, **params).json()
        if not told["pending"]:
            break
        time.sleep(0.5)
    return {row["case"]: row for row in told["rows"]}


def test_rows_have_state_and_sequences(url: str) -> None:
    told = rows(url)
    assert {case: row["state"] for case, row in told.items()} == {"A": "submitted", "B": "new"}
    assert (told["A"]["missing"], told["B"]["missing"]) == ([], ["t1c"])
    assert list(rows(url, state="new")) == ["B"]
    assert ask(url, state="odd").status_code == 422


def test_a_case_is_in_one_reader_s_hands(url: str) -> None:
    def take(client_id: str) -> dict:
        return ask(url, "POST", "/take", image="B", client_id=client_id).json()

    assert take("ann") == {"case": "B", "holder": "you"}
    assert take("ben") == {"case": "B", "holder": "ann"}
    assert rows(url, client_id="ann")["B"]["holder"] == "you"
    assert rows(url, client_id="ben")["B"]["holder"] == "ann"
    answer = ask(url, "POST", "/take", image="nobody")
    assert (answer.status_code, "no case 'nobody'" in answer.json()["detail"]) == (404, True)


def test_models_tell_the_colours_of_their_labels(url: str) -> None:
    models = requests.get(f"{url}/info/", timeout=60, headers={"Connection": "close"}).json()["models"]
    colors = models["slem_brain"]["colors"]
    assert set(colors) == set(models["slem_brain"]["labels"])
    assert colors["enhancing tumor"] == [230, 97, 0]
