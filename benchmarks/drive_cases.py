"""The reader's whole round, by the wheel's own 3D Slicer client, on every case of a studies folder: is each
reply on the image's grid, with the right names?

    python benchmarks/drive_cases.py --studies ../shared/data/brats

Starts the server as `slem serve` does, keeps its labels in a folder of its own, so that the studies stay as
they are, and writes results/drive_cases.md. Dice is against the case's own label map, where it has one: cases
that the model was trained on say little.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import requests
import tyro
from page import commit, write_page

from slem_app.cli.serve import Serve, environment, wait_until_ready
from slem_app.formats import read_label_file
from slem_app.labels import decide_coding
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.read import read_labels
from slem_app.weights import find, load_card

RESULTS = Path(__file__).parent / "results"
CLIENT = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"
STEPS = ("read", "prepare", "network", "restore", "write")


@dataclass(frozen=True)
class Row:
    """One case's round."""

    case: str
    sequences: str
    grid: str
    right: dict[str, bool]
    """What was checked: same grid, names, saved label read back, sibling on its own grid."""
    dice: dict[str, float]
    cold: dict[str, float]
    """Seconds of the first request, by step."""
    warm: dict[str, float]
    round_trip: float
    """Seconds of the second request as the client sees it."""


@dataclass(frozen=True)
class DriveCases:
    """Ask, download, segment, save: every case of a folder."""

    studies: Path = Path(os.environ.get("SLEM_DATA", "../shared/data")) / "brats"
    """The studies."""
    model: str = "slem_brain"
    """Name of the model."""
    models_dir: Path | None = None
    """Folder in which the model is looked for first."""
    coding: str | None = None
    """Label coding of the studies, where it cannot be decided."""
    conf: dict[str, str] = field(default_factory=dict)
    """More settings of the server."""
    out: Path = RESULTS / "drive_cases.md"
    """Where the table goes."""

    def run(self) -> None:
        """Start the server, drive it through every case, write the table."""
        with tempfile.TemporaryDirectory(prefix="slem-drive-") as folder:
            conf = (
                dict(self.conf)
                | {"store": f"{folder}/store"}
                | ({"models_dir": str(self.models_dir.resolve())} if self.models_dir else {})
            )
            serve = Serve(studies=self.studies, port=free_port(), conf=conf)
            start = time.monotonic()
            with subprocess.Popen(serve.command(self.studies), env=environment()) as server:
                try:
                    wait_until_ready(server, serve.url)
                    ready = time.monotonic() - start
                    rows = self.drive(serve.url, Path(folder))
                    memory = resident(server.pid)
                finally:
                    server.terminate()
        self.out.parent.mkdir(parents=True, exist_ok=True)
        print(write_page(self.out, self.report(rows, ready, memory)))

    def drive(self, url: str, folder: Path) -> list[Row]:
        """All cases, in the order in which the strategy `first` hands them out."""
        client = load_client().MONAILabelClient(url, tmpdir=str(folder), client_id="drive")
        info = client.info()
        labels = info["models"][self.model]["labels"]
        assert info["labels"] == sorted(labels, key=labels.get), info["labels"]
        rows = []
        while sample := client.next_sample("first", {}):
            rows.append(self.round(client, sample, folder))
            print(f"{len(rows)}/{info['datastore']['total']} {rows[-1].case}: {rows[-1].right}", flush=True)
        assert client.info()["datastore"]["completed"] == len(rows) == info["datastore"]["total"]
        return rows

    def round(self, client: object, sample: dict, folder: Path) -> Row:
        """One case: download, segment twice, segment a sibling, save, read back."""
        case, wanted = sample["id"], {"result_extension": ".nrrd", "result_dtype": "uint8"}
        card = load_card(self.models_dir / self.model if self.models_dir else find(self.model))
        image = download(client.get_server_url(), case, folder / sample["name"])
        array, grid, names, first = segment(client, self.model, case, wanted)
        begin = time.perf_counter()
        again, _, _, second = segment(client, self.model, case, wanted)
        round_trip = time.perf_counter() - begin
        sibling = sorted(sample["sequences"])[-1]
        side, side_grid, _, _ = segment(client, self.model, f"{case}/{sibling}", wanted)
        side_image = download(client.get_server_url(), f"{case}/{sibling}", folder / "sibling.nii.gz")
        right = {
            "same grid": grid.same_as(image),
            "names": names == dict(enumerate(card.labels.names, 1))
            and first["label_names"] == {n: v for v, n in names.items()},
            "same again": np.array_equal(array, again),
            "sibling": side_grid.same_as(side_image)
            and (not side_grid.same_as(grid) or np.array_equal(side, array)),
            "saved": self.save(client, case, array, grid, card.labels.names, folder),
        }
        used = ", ".join(first["used"])
        return Row(
            case,
            used,
            str(grid),
            right,
            self.dice(case, array, grid, card.labels),
            first["latencies"],
            second["latencies"],
            round_trip,
        )

    def save(
        self, client: object, case: str, array: np.ndarray, grid: Grid, names: tuple[str, ...], folder: Path
    ) -> bool:
        """Save the result as Slicer would with its segments in another order, and read it back."""
        path, order = folder / "label.nii.gz", list(reversed(names))
        values = np.array([0, *(order.index(name) + 1 for name in names)], np.uint8)
        nibabel.save(nibabel.Nifti1Image(values[array], grid.affine), path)
        client.save_label(
            case,
            str(path),
            params={"label_info": [{"name": name, "idx": k + 2} for k, name in enumerate(order)]},
        )
        stored, stored_grid, _ = read_label_file(Path(client.download_label(case, "final")))
        return stored_grid.same_as(grid) and np.array_equal(stored, array)

    def dice(self, case: str, array: np.ndarray, grid: Grid, labels: object) -> dict[str, float]:
        """Dice of each region with the case's own label map; {} if it has none on this grid."""
        study = open_source(self.studies, self.coding).study(case)
        if study.label is None:
            return {}
        truth, truth_grid = read_labels(study.label)
        if not truth_grid.same_as(grid):
            return {}
        truth = labels.remap(
            truth, decide_coding(np.unique(truth), study.layout, study.coding, labels.names).values
        )
        pairs = zip(labels.regions, labels.region_masks(array), labels.region_masks(truth), strict=True)
        return {
            region.name: 2.0 * (a & b).sum() / max(1, a.sum() + b.sum()) if (a.any() or b.any()) else 1.0
            for region, a, b in pairs
        }

    def report(self, rows: list[Row], ready: float, memory: tuple[float, float]) -> str:
        """The result file."""
        regions = list(rows[0].dice)
        good = sum(all(row.right.values()) for row in rows)
        outside = [
            sum(row.warm[step] for step in STEPS if step != "network") + row.round_trip - row.warm["total"]
            for row in rows
        ]
        head = [
            "case",
            "sequences",
            "grid",
            *rows[0].right,
            *(f"Dice {name}" for name in regions),
            "cold s",
            "warm s",
            "of it network",
        ]
        lines = [
            "# A reader's round on every case, by the wheel's own 3D Slicer client",
            "",
            (
                f"{date.today()}, commit {commit()}, {platform.machine()}, {os.cpu_count()} cores, Python "
                f"{platform.python_version()}."
            ),
            (
                f"Model {self.model}. Server ready after {ready:.1f} s, resident memory {memory[0]:.2f} GiB "
                f"at the end, {memory[1]:.2f} at most."
            ),
            f"{good} of {len(rows)} cases right in every point. Outside the network a warm request takes "
            f"{np.median(outside):.2f} s (median), "
            f"{max(outside):.2f} s at most, transfer and the client's reading included.",
            (
                "Dice shows that the result lies in the right place; where the weights were trained on these "
                "cases it is no measure of accuracy (see accuracy.md)."
            ),
            "",
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
        ]
        for row in rows:
            checks = ["yes" if good else "NO" for good in row.right.values()]
            dice = [f"{row.dice[name]:.3f}" if row.dice else "" for name in regions]
            times = [f"{row.cold['total']:.2f}", f"{row.round_trip:.2f}", f"{row.warm['network']:.2f}"]
            lines.append(
                "| " + " | ".join([row.case, row.sequences, row.grid, *checks, *dice, *times]) + " |"
            )
        means = [f"{np.mean([row.dice[name] for row in rows if row.dice]):.3f}" for name in regions]
        mean = [
            np.mean([row.cold["total"] for row in rows]),
            np.mean([row.round_trip for row in rows]),
            np.mean([row.warm["network"] for row in rows]),
        ]
        blank = [""] * (2 + len(rows[0].right))
        lines.append("| " + " | ".join(["mean", *blank, *means, *(f"{value:.2f}" for value in mean)]) + " |")
        return "\n".join([*lines, ""])


def load_client() -> ModuleType:
    """The plugin's client; it needs nothing of Slicer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports cgi
        spec = importlib.util.spec_from_file_location("monailabel_slicer_client", CLIENT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def download(url: str, key: str, path: Path) -> Grid:
    """Fetch an image as a viewer does; its grid."""
    answer = requests.get(f"{url}/datastore/image", params={"image": key}, timeout=120)
    answer.raise_for_status()
    path.write_bytes(answer.content)
    image = nibabel.load(path)
    return Grid(image.shape[:3], image.affine)


def segment(
    client: object, model: str, key: str, wanted: dict
) -> tuple[np.ndarray, Grid, dict[int, str] | None, dict]:
    """The reply: label map, its grid, the names that it carries, and its JSON."""
    path, params = client.infer(model, key, dict(wanted))
    array, grid, names = read_label_file(Path(path))
    return array, grid, names, params


def resident(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at most, GiB (Linux)."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return tuple(int(fields[name].split()[0]) / 2**20 for name in ("VmRSS", "VmHWM"))


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    tyro.cli(DriveCases).run()
