"""A whole hospital study of twelve series, from the PACS through OHIF to a stored SEG: how long it takes.

    python -m benchmarks.hospital_study OUT [--case Brats18_2013_2_1] [--vendor siemens]

Reads SLEM_DATA (`brats`, `head_labels`). A stripped case is made raw by the simulator (a head around it, 5 mm
slices, displaced, receive field), written as DICOM with what a scanner writes beside it, and sent to an
Orthanc. A server over that PACS is started, a reader opens the study in OHIF (Chromium), presses Run and
saves. `cold`: nothing of the study is known to the server. `again`: the same reader opens it once more.
Needs Orthanc, Chromium and playwright (tests/e2e). Writes a picture of the viewer into OUT, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from benchmarks.raw_studies import KINDS, disturbed, seed_of
from slem_app.phantom.heads import label_maps
from slem_app.phantom.raw import VENDORS, write_raw_dicom
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.weights import load_model
from tests.e2e import ohif
from tests.e2e.orthanc import Orthanc, orthanc_with

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0  # s for one step on a busy machine
SEQUENCE = "t1c"


def write_study(folder: Path, data: Path, case: str, vendor: str) -> None:
    """The twelve series."""
    maps = list(label_maps(data / "head_labels"))
    predictor = Predictor(load_model("slem_brain"))
    study = open_source(data / "brats").study(case)
    raw, _ = disturbed(study, KINDS["raw"], predictor, maps, seed_of(case))
    write_raw_dicom(raw, folder, case, vendor, whole=True)


@contextmanager
def server(pacs: str, store: Path) -> Iterator[str]:
    """The address of a server over a PACS."""
    port, logs = 18732, tempfile.mkdtemp(prefix="slem-logs-")
    words = ["-m", "slem_app.serving", "--studies", pacs, "--logs", logs, "--host", "127.0.0.1"]
    words += ["--port", str(port), "--conf", "store", str(store), "--conf", "score_load", "0"]
    process = subprocess.Popen([sys.executable, *words])
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if requests.get(f"{url}/info/", timeout=30).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def read(url: str, study: str, description: str, picture: Path) -> dict[str, float]:
    """A reader's session; seconds from the first request on until each step is done."""
    took = {}
    with ohif.viewer(url) as viewer:
        viewer.page.set_default_timeout(1000 * PATIENCE)
        begin = time.monotonic()
        viewer.open(study)
        viewer.show(description)
        took["shown"] = time.monotonic() - begin
        viewer.connect()
        viewer.tab("Auto-Segmentation")
        pressed = time.monotonic()
        viewer.run("Segmentation")
        took["run"] = time.monotonic() - pressed
        pressed = time.monotonic()
        print(f"  {viewer.save()}", flush=True)
        took["save"] = time.monotonic() - pressed
        print(f"  {viewer.sequences()}", flush=True)
        viewer.page.screenshot(path=picture)
    return took


def facts(url: str, study: str) -> dict[str, float]:
    """The server's own seconds of an automatic segmentation of the study, what it keeps being used."""
    start = time.monotonic()
    answer = requests.post(
        f"{url}/infer/slem_brain",
        params={"image": f"{study}/{SEQUENCE}", "output": "json"},
        timeout=PATIENCE,
    )
    answer.raise_for_status()
    return {**answer.json()["latencies"], "over HTTP": time.monotonic() - start}


def stored(pacs: Orthanc, study: str) -> int:
    """Segmentations that the PACS has of the study."""
    return len(pacs.client.search_for_series(study, search_filters={"Modality": "SEG"}))


def main() -> None:
    """Write, send, read, tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--case", default="Brats18_2013_2_1")
    parser.add_argument("--vendor", default="siemens", choices=list(VENDORS))
    chosen = parser.parse_args()
    studies = chosen.out / "studies"
    if not studies.is_dir():
        data = Path(os.environ.get("SLEM_DATA", ROOT.parent / "shared/data"))
        write_study(studies, data, chosen.case, chosen.vendor)
    print(f"{len(list((studies / chosen.case).iterdir()))} series", flush=True)
    (chosen.out / "orthanc").mkdir(exist_ok=True)
    with orthanc_with(studies, chosen.out / "orthanc") as pacs, tempfile.TemporaryDirectory() as store:
        study = pacs.study_of(chosen.case)
        with server(pacs.url, Path(store)) as url:
            description = VENDORS[chosen.vendor].names[SEQUENCE]
            for when in ("cold", "again"):
                load = os.getloadavg()[0]
                took = read(url, study, description, chosen.out / f"{when}.png")
                line = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in took.items())
                print(f"{when}: {line}; {sum(took.values()):.1f} s in all, {stored(pacs, study)} stored SEG")
                print(f"  load of the machine before: {load:.1f}", flush=True)
            told = facts(url, study)
            print(f"the server alone, cached: {told}", flush=True)
        with server(pacs.url, Path(store) / "another") as url:
            print(f"the server alone, cold: {facts(url, study)}", flush=True)


if __name__ == "__main__":
    main()
