"""How urgent a request for the network is taken."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from slem_app import phantom
from slem_app.serving.http.application import build
from slem_app.serving.models.queue import Kind, RequestQueue

SHAPE, SPACING = (44, 52, 38), (2.4, 2.4, 2.4)


@pytest.fixture
def server(
    open_app: Callable, click_models: Path, tmp_path: Path, serve: Callable
) -> Iterator[tuple[str, Path]]:
    """The server's address, and its studies folder."""
    heads = {"ann": phantom.make(seed=1, shape=SHAPE, spacing=SPACING)}
    with (
        open_app(
            heads,
            tmp_path,
            models_dir=str(click_models),
            models="slem_brain,slem_brain_clicks",
            score_load="0",
        ) as instance,
        serve(build(instance.serving)) as url,
    ):
        yield url, tmp_path / "studies"


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[Kind]:
    """Of all requests, in their order."""
    seen: list[Kind] = []
    run = RequestQueue.run

    async def noting(self: RequestQueue, *args: object) -> object:
        seen.append(args[-1])
        return await run(self, *args)

    monkeypatch.setattr(RequestQueue, "run", noting)
    return seen


def ask(url: str, path: str, **fields: object) -> None:
    data = {"params": json.dumps({"result_extension": ".nrrd", "client_id": "ann", **fields})}
    answer = requests.post(url + path, data=data, timeout=300, headers={"Connection": "close"})
    assert answer.status_code == 200, answer.text


def test_a_click_is_urgent_once_its_case_is_begun_and_what_is_only_saved_can_wait(
    server: tuple[str, Path], kinds: list[Kind]
) -> None:
    url, studies = server
    tool = "/infer/slem_brain_clicks"
    ask(url, "/infer/slem_brain?image=ann")
    ask(url, "/infer/slem_brain?image=ann", save_label=True)
    ask(url, f"{tool}?image=ann", edema=[[20, 20, 20]])
    ask(url, f"{tool}?image=ann", edema=[[20, 20, 20], [24, 20, 20]])
    ask(url, "/slem/undo/slem_brain_clicks?image=ann&client_id=ann")
    image = next(studies.rglob("*t1c*.nii.gz"))
    with image.open("rb") as file:
        sent = requests.put(f"{url}/session/", files={"files": (image.name, file)}, timeout=60).json()
    ask(url, f"{tool}?session_id={sent['session_id']}", edema=[[20, 20, 20]])
    ask(url, f"{tool}?session_id={sent['session_id']}", edema=[[20, 20, 20], [24, 20, 20]])
    assert kinds == [
        *(Kind.AUTOMATIC, Kind.BACKGROUND, Kind.FIRST_CLICK, Kind.CLICK, Kind.CLICK),
        *(Kind.FIRST_CLICK, Kind.CLICK),
    ]
