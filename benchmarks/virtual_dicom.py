"""What it costs that a study in NIfTI is opened in a DICOM viewer, beside the same study as DICOM files.

    .venv/bin/python -m benchmarks.virtual_dicom

Each kind in a process of its own: the list of studies, the metadata of four series, all their frames, as OHIF
asks for them. Processor seconds, so that others on the machine count little; the median of the rounds.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 2
SHAPE = (96, 112, 84)
STEPS = ("list", "metadata", "frames", "frames again")


def write(folder: Path) -> None:
    """One head, in both formats."""
    from slem_app import phantom

    head = phantom.make(seed=1, shape=SHAPE)
    phantom.write_nifti(head, folder / "nifti", "one")
    phantom.write_dicom(head, folder / "dicom", "one")


def measure(folder: Path) -> dict[str, float]:
    """Processor seconds of each step of opening the one study, and MiB that it adds to the process."""
    from slem_app.serving.cases.catalogue import Cases
    from slem_app.serving.dicom.qido_wado import DicomArchive
    from slem_app.studies.dicom_query import Query

    archive = DicomArchive(Cases(folder, folder.parent / "uploads"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, float] = {}

    def step(name: str, work: Callable[[], object]) -> None:
        start = time.process_time()
        work()
        found[name] = time.process_time() - start

    everything = Query({})
    step("list", lambda: archive.studies(everything))
    [study] = archive.cases.dicom_studies()
    series = [one["0020000E"]["Value"][0] for one in archive.series(everything, study)]
    instances: list[tuple[str, str]] = []

    def metadata() -> None:
        for uid in series:
            every = archive.find(study, uid)
            instances.extend((uid, one.uid) for one in every)
            for one in every:
                len(one.json)

    def frames() -> None:
        for uid, instance in instances:
            archive.find(study, uid, instance)[0].frames([1])

    step("metadata", metadata)
    step("frames", frames)
    step("frames again", frames)
    found["MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        rows: dict[str, list[dict[str, float]]] = {"dicom": [], "nifti": []}
        for _ in range(ROUNDS):
            for kind, found in rows.items():
                command = [sys.executable, "-m", "benchmarks.virtual_dicom", f"{folder}/{kind}"]
                told = subprocess.run(command, check=True, capture_output=True, text=True)
                found.append(json.loads(told.stdout.splitlines()[-1]))
    print("| | DICOM files | NIfTI | ratio |\n|---|---|---|---|")
    for name in (*STEPS, "MiB"):
        files, image = (statistics.median(one[name] for one in rows[kind]) for kind in ("dicom", "nifti"))
        ratio = f"{image / files:.2f}" if files else "-"  # a process may not grow beyond its beginning
        print(f"| {name} | {files:.3f} | {image:.3f} | {ratio} |")


if __name__ == "__main__":
    main()
