"""The learning loop by OHIF's panel in Chromium: one click on Update Model is one fine-tuning, the new model
then answers, and is taken back.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.e2e import ohif
from tests.e2e.learning_server import learning_server
from tests.waiting import wait_until

PATIENCE = 400  # s for a round of some seconds
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    ohif.NEEDED,
]


@pytest.fixture
def url(start_server: Callable, tmp_path: Path) -> str:
    return learning_server(start_server, tmp_path)


def study_of(url: str, patient: str) -> str:
    [study] = requests.get(f"{url}/dicom-web/studies", params={"PatientID": patient}, timeout=60).json()
    return study["0020000D"]["Value"][0]


def info(url: str) -> dict:
    return requests.get(f"{url}/info/", timeout=60).json()


def segmented(viewer: ohif.Viewer) -> np.ndarray:
    """What the viewer shows after Run in the open tab Auto-Segmentation."""
    viewer.run("Segmentation")
    return viewer.shown().names


def test_update_model_starts_one_fine_tuning_and_the_viewer_shows_what_comes_of_it(url: str) -> None:
    with ohif.viewer(url) as viewer:
        viewer.open(study_of(url, "dan"))
        viewer.connect()
        viewer.tab("Auto-Segmentation")
        before = segmented(viewer)

        sent: list[str] = []
        viewer.page.on(
            "request",
            lambda request: (
                sent.append(f"{request.method} {request.url.removeprefix(url)}")
                if "/train" in request.url
                else None
            ),
        )
        viewer.set_options("train", "slem_brain", max_epochs=2, epoch_steps=8)
        viewer.tab("Active Learning")
        viewer.press("Update Model")
        viewer.page.wait_for_selector("button.actionInput:visible:text-is('Stop Training')")
        assert sent.count("POST /train/") == 1
        [task] = requests.get(f"{url}/train/", params={"all": True}, timeout=60).json()
        assert (task["request"]["model"], task["request"]["max_epochs"]) == ("slem_brain", 2)
        wait_until(
            lambda: (
                requests.get(f"{url}/train/", params={"check_if_running": True}, timeout=60).status_code
                == 404
            ),
            PATIENCE,
            pause=0.3,
        )
        [done] = requests.get(f"{url}/train/", params={"all": True}, timeout=60).json()
        assert (done["status"], done["published"]) == ("DONE", 1), done
        wait_until(lambda: info(url)["models"]["slem_brain"]["version"] == "test+1", PATIENCE, pause=0.3)

        viewer.page.click(".settingsTable button.actionButton")  # takes the figures anew
        accuracy = f"{round(100 * info(url)['train_stats']['slem_brain']['best_metric'])}%"
        viewer.page.wait_for_selector(f"td[title='{accuracy} is current best metric']", state="attached")
        viewer.tab("Auto-Segmentation")
        after = segmented(viewer)
        assert (after != before).any()

        viewer.tab("Active Learning")
        viewer.press("Next Sample")
        # the only one without a label
        viewer.page.wait_for_selector(f".nextSampleForm >> text='{study_of(url, 'dan')}'")
        viewer.page.keyboard.press("Escape")
        viewer.page.wait_for_selector(".nextSampleForm", state="detached")

        assert requests.post(f"{url}/slem/versions/slem_brain/serve", timeout=60).json()["served"] == 0
        viewer.tab("Auto-Segmentation")
        np.testing.assert_array_equal(segmented(viewer), before)
