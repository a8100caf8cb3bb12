"""Versions over HTTP: listed with their figures, served and taken back."""

from pathlib import Path

import pytest

from slem_app.serving.http.version_routes import version_router
from slem_app.serving.models.versions import VersionWatcher
from slem_app.weights import load_model
from slem_app.weights.published import Published
from tests.serving.web import served


@pytest.fixture
def watcher(models: Path, tmp_path: Path) -> VersionWatcher:
    return VersionWatcher(Published(tmp_path / "models", "slem_brain", models / "slem_brain"))


def test_versions_are_listed_served_and_taken_back(watcher: VersionWatcher) -> None:
    model = load_model(watcher.published.bundled)
    for mean in (0.6, 0.7, 0.1):
        watcher.published.publish(
            model.card, model.network, {"mean": mean}, {"mean": 0.5}, labels={"A": "final 1"}, trusted=True
        )
    with served(version_router({"slem_brain": watcher})) as ask:
        told = ask("GET", "/slem/versions/slem_brain").json()
        assert (told["model"], told["served"], told["note"]) == ("slem_brain", 0, "")  # nobody has looked yet
        assert [(row["number"], row["version"], row["served"]) for row in told["versions"]] == [
            (0, "test", False),
            (1, "test+1", False),
            (2, "test+2", True),
        ]
        assert (
            told["versions"][2]["figures"],
            told["versions"][2]["before"],
            told["versions"][2]["trusted"],
        ) == ({"mean": 0.7}, {"mean": 0.5}, True)
        assert told["refused"][0]["reason"].startswith("refused: mean 0.1000")
        assert ask("POST", "/slem/versions/slem_brain/serve").json()["served"] == 1  # the one before
        assert (watcher.number, watcher.served.now.card.version) == (1, "test+1")
        assert ask("POST", "/slem/versions/slem_brain/serve", params={"number": 0}).json()["served"] == 0
        missing = ask("POST", "/slem/versions/slem_brain/serve", params={"number": 9})
        assert (missing.status_code, missing.json()["detail"]) == (
            404,
            "slem_brain has no version 9; there are 0, 1, 2",
        )
        assert ask("GET", "/slem/versions/other").status_code == 404
