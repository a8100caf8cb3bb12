"""How long does a reader wait for a click, where does the time go, and how does that compare with MONAI
Label's own DeepEdit?

Both servers are started and asked as `benchmarks/speed.py` does, on one and the same case: a first click,
cold, then further ones, warm. The clicks lie on a fixed set of places inside the head and are listed in full
each time, by label, as 3D Slicer lists them. A request's time ends when the client has decoded the label map.

Steps, in seconds: read, prepare, network (the whole volume once, then the editor), restore, merge (into what
was there), memory (the way back), write, transfer (all that the client waits beyond these: HTTP, sending,
decoding). `outside` is everything but the network.

    python benchmarks/clicks_speed.py --studies DIR
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import requests
import tyro
from page import commit, write_page
from requests_toolbelt.multipart.decoder import MultipartDecoder
from speed import ASKED, PATIENCE, PROJECT, STOCK_MULTIPLE, Server, machine, serving, stack

from slem_app.formats import read_label_file
from slem_app.grouping import group
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.weights import Card, load_model

STEPS = ("read", "prepare", "network", "restore", "merge", "memory", "write", "transfer")


@dataclass(frozen=True)
class ClickSpeed:
    """Measure and write the table."""

    studies: Path = Path(os.environ.get("SLEM_DATA", PROJECT.parent / "shared" / "data")) / "brats"
    """Folder of cases."""
    case: str = ""
    """The case; default: the first one."""
    clicks: int = 10
    """Clicks after the first one."""
    model: str = "slem_brain"
    """Model to serve."""
    device: str = "cpu"
    """Where our network runs."""
    threads: int = 0
    """CPU threads of either server; 0: as they choose."""
    stock: bool = True
    """Measure MONAI Label's DeepEdit too."""
    stock_clicks: int = 3
    """Its clicks after the first one: each is as slow as the first."""
    seed: int = 0
    """Of the places."""
    out: Path = PROJECT / "benchmarks" / "results" / "clicks_speed.md"
    """Where the table goes."""

    def run(self) -> None:
        source = open_source(self.studies)
        case = self.case or source.ids()[0]
        grouping = group(source.study(case))
        with tempfile.TemporaryDirectory(prefix="slem-click-speed-") as folder:
            work = Path(folder)
            card = load_model(self.model).card
            grid = grouping.sequences[grouping.reference(card.reference_order)].grid
            ours = places(grid, card.labels.names, 1 + self.clicks, self.seed)
            conf = {
                "store": str(work / "store"),
                "device": self.device,
                "threads": str(self.threads),
            }
            with serving(
                PROJECT / "apps" / "slem", self.studies, conf, work / "ours.log", self.threads
            ) as server:
                rows = {
                    "SLeM Label": [click(server, f"{self.model}_clicks", case, listed) for listed in ours]
                }
            if self.stock:
                studies = work / "stock_studies"
                studies.mkdir()
                size = stack(grouping, card, studies / f"{case}.nii.gz")
                size = tuple(-(-n // step) * step for n, step in zip(size, STOCK_MULTIPLE))
                # the server writes into it
                app = shutil.copytree(PROJECT / "benchmarks" / "stock_app", work / "stock_app")
                conf = {"size": ",".join(map(str, size)), "clicks": "true"}
                with serving(app, studies, conf, work / "stock.log", self.threads) as server:
                    name = f"MONAI Label's DeepEdit, DynUNet on {'x'.join(map(str, size))}"
                    rows[name] = [
                        click(server, "stock", case, listed) for listed in ours[: 1 + self.stock_clicks]
                    ]
        self.out.parent.mkdir(parents=True, exist_ok=True)
        print(write_page(self.out, report(rows, card, grid, self)))


def places(grid: Grid, labels: Sequence[str], count: int, seed: int) -> list[dict[str, list[list[int]]]]:
    """What the client lists at each of `count` clicks: places in the middle half of the image, all labels and
    background in turn.
    """
    names, random = [*labels, "background"], np.random.default_rng(seed)
    listed: dict[str, list[list[int]]] = {name: [] for name in names}
    found = []
    for n in range(count):
        listed[names[n % len(names)]].append([int(v) for v in (0.25 + 0.5 * random.random(3)) * grid.shape])
        found.append({name: list(points) for name, points in listed.items()})
    return found


def click(server: Server, model: str, case: str, listed: Mapping[str, list[list[int]]]) -> dict[str, float]:
    """Ask once; seconds by step until the label map is decoded, with `total` and `outside`."""
    params = json.dumps({**ASKED, **listed, "client_id": "benchmark"})
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        answer = requests.post(
            f"{server.url}/infer/{model}",
            params={"image": case, "output": "all"},
            data={"params": params},
            timeout=PATIENCE,
        )
        if not answer.ok:
            raise SystemExit(f"the server refused {case}: {answer.status_code} {answer.text}")
        parts = {
            part.headers[b"Content-Disposition"]: part
            for part in MultipartDecoder.from_response(answer).parts
        }
        content = next(part.content for head, part in parts.items() if b'name="image"' in head)
        path = Path(folder) / "reply.nrrd"
        path.write_bytes(content)
        read_label_file(path)
        total = time.perf_counter() - start
    reply = json.loads(next(part.text for head, part in parts.items() if b'name="params"' in head))
    steps = split(reply["latencies"])
    steps["transfer"] = total - sum(steps.values())
    return {**steps, "total": total, "outside": total - steps["network"], "bytes": float(len(content))}


def split(latencies: Mapping[str, object]) -> dict[str, float]:
    """The steps of either server's own account."""
    if "infer" not in latencies:
        steps = {step: float(latencies.get(step, 0.0)) for step in STEPS if step != "transfer"}
        return {**steps, "write": steps["write"] + float(latencies.get("facts", 0.0))}
    load = float(latencies["transform"]["pre"].get("LoadImaged", 0.0))
    return {
        **dict.fromkeys(("view", "merge", "memory"), 0.0),
        "read": load,
        "prepare": float(latencies["pre"]) - load,
        "network": float(latencies["infer"]),
        "restore": float(latencies["invert"]) + float(latencies["post"]),
        "write": float(latencies["write"]),
    }


def report(
    rows: Mapping[str, Sequence[Mapping[str, float]]], card: Card, grid: Grid, asked: ClickSpeed
) -> str:
    """The page with the table."""
    packages = ("torch", "monai", "monailabel")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    lines = [
        "# Speed of a click",
        "",
        f"- command: `python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`",
        f"- date: {datetime.date.today().isoformat()}, commit {commit()}",
        (
            f"- machine: {machine()}, our network on {asked.device}; threads: "
            f"{asked.threads or 'as chosen by torch'}; load average {os.getloadavg()[0]:.1f}"
        ),
        f"- versions: {versions}; model {card.name} {card.version}",
        f"- case: {grid}, {len(card.sequences)} sequences",
        "",
        (
            "Seconds as the client sees them, to the decoded label map. How each step is defined stands "
            "at the top of `benchmarks/clicks_speed.py`."
        ),
        "",
        f"| server | click | n | median | 95 % | outside the network | {' | '.join(STEPS)} | reply |",
        f"|---|---|---|---|---|---|{'---|' * len(STEPS)}---|",
    ]
    for name, clicks in rows.items():
        for kind, found in (("first", clicks[:1]), ("further", clicks[1:])):
            if found:
                lines.append(row(name, kind, found))
    return "\n".join(lines) + "\n"


def row(name: str, kind: str, found: Sequence[Mapping[str, float]]) -> str:
    """One line of the table: medians, and the 95th percentile of the total."""
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    slow = float(np.percentile([one["total"] for one in found], 95))
    cells = " | ".join(f"{middle[step]:.3f}" for step in STEPS)
    return (
        f"| {name} | {kind} | {len(found)} | **{middle['total']:.2f}** | {slow:.2f} | "
        f"{middle['outside']:.2f} | {cells} | {middle['bytes'] / 1024:.0f} KiB |"
    )


if __name__ == "__main__":
    tyro.cli(ClickSpeed).run()
