"""How urgent a request for the network is taken; the reach of prompts."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import nrrd
import numpy as np
import pytest
import requests
from requests_toolbelt import MultipartDecoder

from slem_app import phantom
from slem_app.serving.http.application import build
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.weights import load_model, save_model
from tests.untrained import noisy_editor

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


TOOL = "slem_brain_clicks"
CLICK, OTHER = [20, 24, 18], [26, 30, 20]


@pytest.fixture
def editing(
    open_app: Callable, click_models: Path, tmp_path: Path, serve: Callable
) -> Callable[[str], AbstractContextManager[str]]:
    """`with editing("first") as url`: a server whose model has an editor, which changes much."""
    plain = load_model(click_models / "slem_brain")
    card = replace(plain.card, editor="small_editor", file="", sha256="")
    save_model(tmp_path / "models/slem_brain", card, plain.network, editor=noisy_editor(bias=0.5))
    heads = {"ann": phantom.make(seed=1, shape=SHAPE, spacing=SPACING)}

    @contextmanager
    def start(name: str) -> Iterator[str]:
        conf = {"models_dir": str(tmp_path / "models"), "models": f"slem_brain,{TOOL}", "score_load": "0"}
        with open_app(heads, tmp_path / name, **conf) as app, serve(build(app.serving)) as url:
            yield url

    return start


def segmented(url: str, path: str = f"/infer/{TOOL}?image=ann", **fields: object) -> tuple[np.ndarray, dict]:
    """Label map and facts."""
    told = {"client_id": "ann", **fields}
    answer = requests.post(
        url + path, params={"output": "all"}, data={"params": json.dumps(told)}, timeout=300
    )
    assert answer.status_code == 200, answer.text
    parts = MultipartDecoder.from_response(answer).parts
    file = io.BytesIO(parts[1].content)
    return nrrd.read_data(nrrd.read_header(file), file), json.loads(parts[0].content)


def reach(voxel: list[int], label: str, by: float) -> dict[str, object]:
    return {"label": label, "voxel": voxel, "reach": by}


def test_more_and_less_replace_the_last_prompt_s_answer(editing: Callable) -> None:
    two = {"necrosis": [CLICK], "edema": [OTHER]}
    with editing("first") as url:
        automatic, _ = segmented(url)
        first, _ = segmented(url, necrosis=[CLICK])
        plain, facts = segmented(url, **two)
        assert facts["steps"] == 2
        shown = {by: segmented(url, **two, reaches=[reach(OTHER, "edema", by)]) for by in (0.5, 1, -1, -0.5)}
        sizes = [int((shown[by][0] == 2).sum()) for by in (-1, -0.5)]
        sizes += [int((plain == 2).sum()), *(int((shown[by][0] == 2).sum()) for by in (0.5, 1))]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2] < sizes[-1]
        for one, said in shown.values():
            assert one[tuple(OTHER)] == 2, "the prompt's voxel has its label"
            assert one[tuple(CLICK)] == 1, "the earlier prompt holds"
            assert (said["steps"], said["prompts"]) == (2, 2), "no step of its own"
        back, facts = segmented(url, f"/slem/undo/{TOOL}?image=ann&client_id=ann")
        assert facts["steps"] == 1
        np.testing.assert_array_equal(back, first)
        again, _ = segmented(url, f"/slem/redo/{TOOL}?image=ann&client_id=ann")
        np.testing.assert_array_equal(again, shown[-0.5][0])
        np.testing.assert_array_equal(segmented(url, **two)[0], plain)
        np.testing.assert_array_equal(segmented(url)[0], automatic)

    told = [reach(CLICK, "necrosis", 0.25), reach(OTHER, "edema", 1)]
    with editing("second") as url:
        at_once, _ = segmented(url, **two, reaches=told)
        segmented(url, start_over=True)
        segmented(url, necrosis=[CLICK], reaches=told[:1])
        one_by_one, _ = segmented(url, **two, reaches=told)
        np.testing.assert_array_equal(one_by_one, at_once)
        models = requests.get(f"{url}/info/", timeout=60).json()["models"]
        assert (models["slem_brain"]["reaches"], models[TOOL]["reaches"]) == (False, True)
    with editing("third") as url:
        np.testing.assert_array_equal(segmented(url, **two, reaches=told)[0], at_once)


def test_a_closed_stroke_means_what_it_encloses(editing: Callable) -> None:
    low, high, k = 18, 26, 18
    ring = [[low, low, k, high - low + 1], [low, high, k, high - low + 1]]
    ring += [[i, j, k, 1] for i in (low, high) for j in range(low + 1, high)]
    inside = (slice(low, high + 1), slice(low, high + 1), k)
    with editing("first") as url:
        runs = {"closed": ring, "line": ring, "open": [run for run in ring if run[1] != low]}
        shown = {}
        for name, told in runs.items():
            more = {"outline": False} if name == "line" else {}
            shown[name], _ = segmented(
                url, start_over=True, scribbles=[{"label": "necrosis", "runs": told, **more}]
            )
        automatic, _ = segmented(url, start_over=True, scribbles=[])
    assert (shown["closed"][inside] == 1).all()
    same = shown["closed"][:, :, k] == automatic[:, :, k]
    same[low : high + 1, low : high + 1] = True
    assert same.all(), "in its slice the label goes no farther"
    for name in ("line", "open"):
        assert all((shown[name][i : i + n, j, k] == 1).all() for i, j, k, n in runs[name])
        assert (shown[name] != shown["closed"]).any()


def test_a_reach_of_no_click_or_beyond_its_limits_is_refused(server: tuple[str, Path]) -> None:
    url, _ = server
    for told, sentence in (
        (reach(OTHER, "edema", 0.5), "not among the clicks"),
        (reach(CLICK, "edema", 2), "a number from -1"),
    ):
        params = json.dumps({"edema": [CLICK], "reaches": [told]})
        answer = requests.post(
            f"{url}/infer/{TOOL}", params={"image": "ann"}, data={"params": params}, timeout=300
        )
        assert answer.status_code == 422, answer.text
        assert sentence in answer.json()["detail"]
    assert requests.get(f"{url}/info/", timeout=60).json()["models"][TOOL]["reaches"]
