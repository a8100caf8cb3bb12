"""Does the memory of a learning round grow with the number of labelled cases? Peak of the process with few
and with many phantom cases.

    python -m benchmarks.learning_memory --cases 16 500 -o benchmarks/results

Cases are links to the same few files, since only their number matters here; each is prepared and cached by
itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.page import table, where, write_page
from slem_app.formats import write_nifti
from slem_app.phantom import make
from slem_app.phantom import write_nifti as write_case
from slem_app.rounds.job import Job, Labelled, RoundFolder
from slem_app.weights import BRAIN_LABELS, find

SHAPE, SPACING, DISTINCT = (40, 48, 40), (2.0, 2.0, 2.0), 4
RUN = """
import resource, sys
from slem_app.rounds.worker import main
code = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def studies(folder: Path, count: int) -> tuple[Labelled, ...]:
    """`count` cases, hard links to a few."""
    cases, heads = [], []
    for n in range(min(DISTINCT, count)):
        head = make(seed=n + 1, shape=SHAPE, spacing=SPACING)
        write_case(head, folder / "heads", f"head{n}")
        write_nifti(head.labels, head.grid, BRAIN_LABELS, folder / f"label{n}.nii.gz")
        heads.append(sorted((folder / "heads" / f"head{n}").iterdir()))
    for n in range(count):
        name, source = f"case{n:04d}", n % len(heads)
        (folder / "studies" / name).mkdir(parents=True)
        for path in heads[source]:
            os.link(path, folder / "studies" / name / path.name.replace(f"head{source}", name))
        cases.append(Labelled(name, str(folder / f"label{source}.nii.gz"), "t1c", "final 1"))
    return tuple(cases)


def peak(count: int, epochs: int, steps: int) -> tuple[float, float]:
    """MiB at most, and seconds, of a round with `count` cases."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        job = Job(
            model="slem_brain",
            served=str(find("slem_brain")),
            bundled=str(find("slem_brain")),
            models=str(folder / "models"),
            root=str(folder / "training"),
            studies=str(folder / "studies"),
            cases=studies(folder, count),
            device="cpu",
            max_epochs=epochs,
            epoch_steps=steps,
            most_cases=count,
            settings={"patch": [48, 48, 48], "interact": {"share": 0.0}},
        )
        order, begun = RoundFolder.make(job, {}), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(order.path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(
                f"the round with {count} cases failed: {order.status().reason or done.stderr[-500:]}"
            )
        line = next(line for line in done.stdout.splitlines() if line.startswith("PEAK"))
        return int(line.split()[1]) / 1024, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs="+", default=[16, 500])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    found = {count: peak(count, options.epochs, options.steps) for count in options.cases}
    rows = [(str(count), f"{mib:.0f}", f"{seconds:.0f}") for count, (mib, seconds) in found.items()]
    spread = max(mib for mib, _ in found.values()) - min(mib for mib, _ in found.values())
    text = [
        "# Memory of a learning round",
        "",
        (
            f"Phantoms of {'x'.join(map(str, SHAPE))} voxels, {options.epochs} epochs of {options.steps} "
            f"steps, all cases taking part;"
        ),
        "`slem_brain`, one process on the CPU.",
        f"{where()}; `python -m benchmarks.learning_memory`.",
        "",
        *table(("labelled cases", "peak resident memory, MiB", "seconds, preparation included"), rows),
        "",
        f"Difference: {spread:.0f} MiB (to stay below 200).",
        "",
    ]
    print(write_page(options.out / "learning_memory.md", "\n".join(text)))


if __name__ == "__main__":
    main()
