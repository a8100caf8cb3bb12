"""A round is followed as it goes: the page's rounds come again when they change, in streams that are few and
end.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from monailabel.interfaces.app import MONAILabelApp

from slem_app.rounds.job import DONE, RUNNING, RoundFolder
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.serving.pages import learning_feed
from slem_app.store.record import FINAL


@pytest.fixture(scope="module")
def app(
    open_app: Callable, heads: dict, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MONAILabelApp]:
    folder = tmp_path_factory.mktemp("app")
    conf = {"models_dir": str(models), "models": "slem_brain", "score_load": "0"}
    with open_app({"A": heads["A"]}, folder, **conf) as instance:
        truth = next((folder / "studies/A").glob("*seg.nii.gz"))
        instance.datastore().save_label("A", str(truth), FINAL, {"model": "slem_brain", "client_id": "ann"})
        yield instance


@pytest.fixture
def running(app: MONAILabelApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[RoundFolder]:
    """A round that runs, as its status says, without a process."""
    trainings = app.serving.trainings
    folder = RoundFolder.make(trainings._job(app.serving.watchers["slem_brain"], TrainRequest()), {})
    monkeypatch.setattr(learning_feed, "EVERY", 0.05)
    monkeypatch.setattr(trainings, "running", lambda: None if folder.status().status == DONE else folder)
    folder.change(history=(0.5,), stage="training")
    yield folder
    folder.change(status=DONE)  # else a stream would go on


def follow(url: str) -> requests.Response:
    headers = {"Connection": "close"}
    return requests.get(f"{url}/learning/events", stream=True, timeout=60, headers=headers)


def event(lines: Iterator[str]) -> tuple[str, str]:
    """The next event: its name and its text."""
    name, text = "", []
    for line in lines:
        if not line:
            return name, "\n".join(text)
        kind, _, rest = line.partition(": ")
        name = rest if kind == "event" else name
        text += [rest] if kind == "data" else []
    raise AssertionError("the stream has ended")


def test_the_rounds_come_again_when_they_change_until_the_round_has_ended(
    url: str, running: RoundFolder
) -> None:
    with closing(follow(url)) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines(decode_unicode=True)
        name, text = event(lines)
        assert (name, "A round is running" in text, "<polyline" in text) == ("rounds", True, False)
        running.change(history=(0.5, 0.75), best_metric=0.75, reason="<script>x")
        name, text = event(lines)
        while "0.750" not in text:
            name, text = event(lines)
        assert 'points="0.0,40.0 320.0,20.0"' in text
        assert "&lt;script&gt;x" in text
        assert "<script" not in text
        running.change(status=DONE)
        while name != "over":
            name, text = event(lines)
        assert list(lines) == []  # it is closed


def test_the_page_runs_its_script_only_while_a_round_runs(url: str, running: RoundFolder) -> None:
    page = requests.get(f"{url}/learning", timeout=60)
    assert '<script src="/pages/learning.js" defer></script>' in page.text
    assert "script-src 'self'; connect-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    script = requests.get(f"{url}/pages/learning.js", timeout=60)
    assert script.headers["content-type"].startswith("text/javascript")
    running.change(status=DONE)
    page = requests.get(f"{url}/learning", timeout=60)
    assert "<script" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]


def test_a_round_that_began_just_after_a_look_is_followed(
    url: str, running: RoundFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_feed, "EVERY", 60.0)
    running.change(status=DONE)
    with closing(follow(url)) as stream:
        assert "event: over" in stream.text
    running.change(status=RUNNING)
    with closing(follow(url)) as stream:
        _, text = event(stream.iter_lines(decode_unicode=True))
        assert "A round is running" in text


def test_streams_are_few_and_a_closed_one_makes_room(url: str, running: RoundFolder) -> None:
    open_ones = [follow(url) for _ in range(learning_feed.READERS)]
    refused = follow(url)
    assert (refused.status_code, "load the page again" in refused.text) == (503, True)
    assert requests.get(f"{url}/info/", timeout=60).ok  # they hold no thread
    open_ones.pop().close()
    end = time.monotonic() + 30
    while (again := follow(url)).status_code == 503 and time.monotonic() < end:
        running.change(epoch=int(time.monotonic()))  # a stream notices when it next writes
        time.sleep(0.1)
    assert again.ok
    for one in (*open_ones, again):
        one.close()


def test_a_stream_ends_after_a_while_and_when_the_server_does(
    url: str, running: RoundFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:
        short.setattr(learning_feed, "LASTS", 0.2)
        with closing(follow(url)) as stream:
            assert "over" not in stream.text
    with closing(follow(url)) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        event(lines)
        told = threading.Timer(0.2, lambda: monkeypatch.setattr(learning_feed, "is_ending", lambda: True))
        told.start()
        assert "event: over" not in list(lines)
        told.join()
