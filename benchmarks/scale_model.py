"""A model on paper of archives of 100,000 studies and of 1,000 readers, drawn into `docs/images/scale.png`.

    python -m benchmarks.scale_model

Nothing is measured here. Each figure of `Costs` says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import table

PICTURE = Path(__file__).parents[1] / "docs/images/scale.png"
STUDIES = 100_000
GPUS = (1, 8, 64)
LINE = 1.25e9  # bytes/s of 10 Gb/s


@dataclass(frozen=True)
class Costs:
    """What one case and one click cost."""

    prepare: float = 0.45
    """CPU seconds to read and prepare a case (measured, results/speed.md)."""
    network: float = 0.1
    """Seconds of a GPU for a case (assumed)."""
    front: float = 0.081
    """CPU seconds of the process beside the store for a case in DICOM whose headers it reads for the first
    time (measured, results/scale_cluster_front.md).
    """
    front_again: float = 0.008
    """The same where the index knows the headers (measured, results/scale_listing.md and the page above)."""
    read: float = 10e6
    """Bytes of a case of four sequences, packed (assumed)."""
    click: float = 0.16
    """Seconds of a GPU for a further click (measured once on an H200, in one process)."""
    front_click: float = 0.040
    """CPU seconds of the server's process for a click beside the network: the request, the way to a process
    and back, the reply (measured in part, results/scale_cluster_front.md; assumed for the rest).
    """
    click_bytes: float = 9e6
    """Bytes that go to a process with a click: the label map that the reader sees, 240x240x155."""
    pause: float = 10.0
    """Seconds between two clicks of a reader at work (assumed)."""
    load: float = 0.5
    """Share of the time in which a GPU may be busy, so that clicks hardly wait (assumed)."""


def hours(gpus: int, each: int, costs: Costs, indexed: bool) -> tuple[float, str]:
    """Hours for all studies, and what limits them.

    Args:
        gpus: how many.
        each: processes for each; each prepares one case ahead on a core of its own.
        costs: of a case.
        indexed: the headers are in the index already.
    """
    rates = {  # cases a second
        "preparation": gpus * each / costs.prepare,
        "GPU": gpus / costs.network,
        "first process": 1 / (costs.front_again if indexed else costs.front),
        "a line of 10 Gb/s": LINE / costs.read,
    }
    slowest = min(rates, key=rates.__getitem__)
    return STUDIES / rates[slowest] / 3600, slowest


def readers(count: int, costs: Costs) -> dict[str, float]:
    """What so many readers at work need: GPUs, cores of the front, bytes a second from it."""
    clicks = count / costs.pause
    return {
        "GPUs": clicks * costs.click / costs.load,
        "cores of the first process": clicks * costs.front_click,
        "MB/s": clicks * costs.click_bytes / 1e6,
    }


def draw(costs: Costs) -> None:
    """Hours by GPUs, and what readers need."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    counts = [2**n for n in range(9)]
    for each, colour in ((1, "tab:blue"), (4, "tab:orange")):
        found = [hours(n, each, costs, indexed=True)[0] for n in counts]
        left.loglog(counts, found, "o-", color=colour, label=f"{each} process{'es' * (each > 1)} a GPU")
    limits = (
        (1 / costs.front, "headers read for the first time", "--"),
        (1 / costs.front_again, "headers from the index", "-."),
        (LINE / costs.read, "a line of 10 Gb/s", ":"),
    )
    for rate, name, style in limits:
        left.axhline(STUDIES / rate / 3600, color="grey", ls=style, lw=1, label=f"limit: {name}")
    left.set(xlabel="GPUs", ylabel="hours", title="100,000 studies, segmented (model)")
    left.set_xticks(counts, [str(n) for n in counts])
    left.legend()
    people = [10, 20, 50, 100, 200, 500, 1000]
    needs = [readers(n, costs) for n in people]
    right.loglog(people, [one["GPUs"] for one in needs], "o-", label="GPUs")
    right.loglog(
        people, [one["cores of the first process"] for one in needs], "s-", label="cores of the first process"
    )
    right.loglog(people, [one["MB/s"] / 125 for one in needs], "^-", label="lines of 1 Gb/s from it")
    right.axhline(1, color="grey", ls="--", lw=1, label="one of each")
    right.set(xlabel="readers who click every 10 s", title="Readers (model)")
    right.set_xticks(people, [str(n) for n in people])
    right.legend()
    for axes in (left, right):
        axes.grid(True, which="major", alpha=0.3)
        axes.minorticks_off()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Print the tables and draw them."""
    costs = Costs()
    rows = [
        (
            f"{each} a GPU, headers {'from the index' if indexed else 'read for the first time'}",
            *("{:.2f} ({})".format(*hours(gpus, each, costs, indexed)) for gpus in GPUS),
        )
        for each in (1, 4)
        for indexed in (False, True)
    ]
    head = ("hours, and what limits them", *(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS))
    print("\n".join(table(head, rows)), end="\n\n")
    needs = [(count, readers(count, costs)) for count in (40, 100, 1000)]
    rows = [(str(count), *(f"{value:.1f}" for value in need.values())) for count, need in needs]
    print("\n".join(table(("readers", *needs[0][1]), rows)))
    draw(costs)


if __name__ == "__main__":
    main()
