"""Our mode over a real PACS, in MONAI Label's viewer and in the newest `@ohif/app`: what is seen is what is
stored, here and as a DICOM segmentation in the PACS.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from slem_app import phantom
from slem_app.weights import BRAIN_LABELS
from tests.e2e import ohif
from tests.e2e.ohif_mode import label_mode, work_through
from tests.e2e.orthanc import NEEDED, Orthanc, oblique_head, orthanc_with
from tests.e2e.seg import read_by_highdicom

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), NEEDED, ohif.NEEDED]
NEWEST = Path(__file__).parents[2] / ".viewer"
SMALL = {"shape": (64, 72, 56), "spacing": (2.5, 2.5, 2.5)}
NAMES = np.array(["", *BRAIN_LABELS.names])


@pytest.fixture(scope="module", params=["of MONAI Label", "newest"])
def place(
    request: pytest.FixtureRequest, start_server: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Orthanc]]:
    """A server with that viewer, over a PACS with two studies."""
    options = ["--conf", "store", str(tmp_path_factory.mktemp("store")), "--conf", "score_load", "0"]
    if request.param == "newest":
        if not (NEWEST / "index.html").is_file():
            pytest.skip("no .viewer: `make e2e` fetches it")
        options += ["--conf", "ohif", str(NEWEST)]
    studies = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(oblique_head(), studies, "oblique")
    sagittal = phantom.reorient_phantom(phantom.make(seed=3, **SMALL), "PIR")
    phantom.write_dicom(sagittal, studies, "sagittal")
    with orthanc_with(studies, tmp_path_factory.mktemp("orthanc")) as pacs:
        yield start_server(pacs.url, *options).url, pacs


@pytest.mark.parametrize("case", ["oblique", "sagittal"])
def test_what_is_seen_is_stored_here_and_in_the_pacs(
    place: tuple[str, Orthanc], case: str, tmp_path: Path
) -> None:
    url, pacs = place
    study = pacs.study_of(case)
    with label_mode(url) as mode:
        seen, grid = work_through(mode, study, tmp_path)
        assert mode.errors == []
        foreign = {urlsplit(asked).netloc for asked in mode.asked if asked.startswith("http")}
        assert foreign == {urlsplit(url).netloc}
    [found] = pacs.client.search_for_series(study, search_filters={"Modality": "SEG"})
    [seg] = pacs.client.retrieve_series(study, found["0020000E"]["Value"][0])
    np.testing.assert_array_equal(read_by_highdicom(seg, grid), NAMES[seen])
