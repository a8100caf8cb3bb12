"""What a reader sees of studies that are none, or less than they seem: pictures of both clients.

    python -m benchmarks.odd_studies OUT [--clients ohif slicer] [--cases ct bottle]

Reads SLEM_DATA (`brats`, `open_ms`). Writes the studies into OUT/studies and the pictures into OUT/ohif and
OUT/slicer, and prints what each client says. OHIF needs Chromium and playwright, the module for 3D Slicer
`.venv-slicer`, which `make e2e` makes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import requests

from benchmarks.result_warnings import BOTTLE, bottles, last_of
from slem_app.phantom import make_abdomen, write_nifti
from slem_app.volumes.levels import Volume
from tests.e2e import ohif

ROOT = Path(__file__).parents[1]
KINDS = ("ms", "one-t1", "four-t1", "ct", "abdomen", "bottle", "empty", "upside-down")
PATIENCE = 300.0  # s for one answer
SAID = """() => {
    const bar = document.querySelector('#slem-save');
    const shown = [...document.querySelectorAll('[data-sonner-toast]')];
    return [bar?.innerText ?? '', ...shown.map(one => one.innerText)].join(' | ');
}"""


def write_studies(folder: Path, data: Path) -> None:
    """One folder of NIfTI files a study."""
    glioma, sclerosis = last_of(data / "brats"), last_of(data / "open_ms")
    made = {name.rpartition(" ")[2]: array for name, array in bottles().items()}
    studies: dict[str, Mapping[str, Volume]] = {
        "ms": sclerosis,
        "one-t1": {"t1n": sclerosis["t1n"]},
        "four-t1": dict.fromkeys(glioma, glioma["t1n"]),
        "upside-down": {name: Volume(one.array[:, :, ::-1], one.grid) for name, one in glioma.items()},
        "ct": {"t1c": Volume(made["CT"], BOTTLE)},
        "bottle": {"t1c": Volume(made["water"], BOTTLE), "t2f": Volume(made["water"][::-1] * 0.8, BOTTLE)},
        "empty": {"t1c": Volume(made["view"], BOTTLE)},
    }
    for case, images in studies.items():
        (folder / case).mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            array = np.rint(image.array).astype(np.int16)
            nibabel.save(
                nibabel.Nifti1Image(array, image.grid.affine), folder / case / f"{case}-{name}.nii.gz"
            )
    write_nifti(make_abdomen(seed=1), folder, "abdomen", "nifti", labels=False)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server on these studies."""
    port, logs = 18731, tempfile.mkdtemp(prefix="slem-logs-")
    words = ["-m", "slem_app.serving", "--studies", str(folder), "--logs", logs, "--host", "127.0.0.1"]
    process = subprocess.Popen([sys.executable, *words, "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if requests.get(f"{url}/info/", timeout=30).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def in_ohif(url: str, cases: list[str], out: Path) -> None:
    """Open each study in OHIF, press Run, and take a picture of what it says."""
    out.mkdir(parents=True, exist_ok=True)
    with ohif.viewer(url) as viewer:
        viewer.page.set_default_timeout(1000 * PATIENCE)
        for case in cases:
            if (out / f"{case}.png").is_file():
                continue
            found = requests.get(f"{url}/dicom-web/studies", params={"PatientID": case}, timeout=PATIENCE)
            if not found.json():
                print(f"ohif    {case}: it is not listed", flush=True)
                continue
            viewer.open(found.json()[0]["0020000D"]["Value"][0])
            viewer.connect()
            viewer.tab("Auto-Segmentation")
            with viewer.page.expect_response(lambda one: "/infer/" in one.url):
                viewer.page.click("button[title='Run Segmentation']:visible")
            viewer.page.wait_for_timeout(4000)
            viewer.page.screenshot(path=out / f"{case}.png")
            print(f"ohif    {case}: {viewer.page.evaluate(SAID)}", flush=True)


def in_slicer(url: str, cases: list[str], out: Path) -> None:
    """The same with the project's module, on Slicer's own code off screen."""
    out.mkdir(parents=True, exist_ok=True)
    script = ROOT / "tests/e2e/slicer/odd.py"
    words = [str(ROOT / ".venv-slicer/bin/python"), str(script), "--server", url, "--out", str(out)]
    subprocess.run([*words, "--cases", *cases], check=True, env=os.environ | {"QT_QPA_PLATFORM": "offscreen"})
    for case, said in json.loads((out / "seen.json").read_text()).items():
        print(f"slicer  {case}: {said}", flush=True)


def main() -> None:
    """Write, open and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clients", nargs="+", default=["ohif", "slicer"], choices=["ohif", "slicer"])
    parser.add_argument("--cases", nargs="+", default=list(KINDS), choices=list(KINDS))
    chosen = parser.parse_args()
    data = Path(os.environ.get("SLEM_DATA", ROOT.parent / "shared/data"))
    studies = chosen.out / "studies"
    if not studies.is_dir():
        write_studies(studies, data)
    with server(studies) as url:
        for client in chosen.clients:
            {"ohif": in_ohif, "slicer": in_slicer}[client](url, chosen.cases, chosen.out / client)


if __name__ == "__main__":
    main()
