"""What does the order of the queue alone do to a click's wait? The queue of one or several source trees, with
work that only sleeps as long as the network takes, so that neither the machine nor other work counts.

Thirty readers: some click every three seconds, most ask for automatic segmentations one after the other. The
lengths are those of `clicks_speed.md` and `serving.md` on two cores; `--speed` makes all times shorter alike.

    git worktree add /tmp/before COMMIT
    python benchmarks/queue_policy.py --trees before=/tmp/before after=.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro
from page import commit, write_page
from serving import PROJECT, at

REFUSED = "refused"


@dataclass(frozen=True)
class QueuePolicy:
    """Measure and write the table."""

    trees: tuple[str, ...] = ("after=.",)
    """NAME=FOLDER of each source tree."""
    minutes: float = 10.0
    """Of load, before `speed`."""
    clickers: int = 10
    """Readers that click."""
    askers: int = 20
    """Readers that ask for automatic segmentations."""
    click: float = 0.2
    """Seconds that a click takes."""
    automatic: float = 1.5
    """Seconds that an automatic segmentation takes."""
    think: float = 3.0
    """Seconds between two clicks."""
    speed: float = 10.0
    """How many times shorter everything is."""
    out: Path = PROJECT / "benchmarks" / "results" / "queue_policy.md"
    """Where the table goes."""

    def run(self) -> None:
        """Each tree in turn."""
        rows, p95 = [], {}
        for name, tree in (one.split("=", 1) for one in self.trees):
            waits = asyncio.run(self.load(module_of(Path(tree))))
            for what in ("click", "automatic"):
                times = [seconds * self.speed for seconds in waits[what]]
                rows.append(
                    f"| {name} | {what} | {len(times)} | {at(times, 0.5):.2f} | {at(times, 0.95):.2f} "
                    f"| {max(times):.2f} | {len(waits[f'{what} {REFUSED}'])} |"
                )
                p95[name, what] = at(times, 0.95)
        first, last = self.trees[0].split("=")[0], self.trees[-1].split("=")[0]
        how = f"--trees {' '.join(self.trees)} --minutes {self.minutes:g} --speed {self.speed:g}"
        who = f"{self.clickers} readers click and think {self.think:g} s, {self.askers} ask for segmentations"
        work = f"a click {self.click:g} s, a segmentation {self.automatic:g} s"
        text = f"""# What the order of the queue alone does to a click's wait

- command: `python benchmarks/queue_policy.py {how}`
- date: {datetime.datetime.now(tz=datetime.timezone.utc):%Y-%m-%d}, commit {commit()}
- {who} one after the other
- work that sleeps: {work}; all {self.speed:g} times shorter

Seconds from the request to its answer, as if nothing were shorter.

| tree | request | n | median | p95 | most | refused |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

p95 of a click: {first} is {p95[first, "click"] / p95[last, "click"]:.1f} times {last}.
"""
        print(write_page(self.out, text))

    async def load(self, module: ModuleType) -> dict[str, list[float]]:
        """All readers at once, until the time is over."""
        queue = getattr(module, "RequestQueue", None) or module.Turns
        kinds = getattr(module, "Kind", None)
        line = queue(patience=120.0 / self.speed)
        end = time.monotonic() + 60 * self.minutes / self.speed
        waits: dict[str, list[float]] = defaultdict(list)
        ask = partial(self.ask, line, waits, end)
        clicks = {"kind": kinds.CLICK} if kinds else {}
        readers = [ask(f"clicker {n}", "click", self.click, self.think, clicks) for n in range(self.clickers)]
        readers += [ask(f"asker {n}", "automatic", self.automatic, 0.0, {}) for n in range(self.askers)]
        await asyncio.gather(*readers)
        return waits

    async def ask(
        self,
        line: Any,
        waits: dict[str, list[float]],
        end: float,
        reader: str,
        what: str,
        takes: float,
        think: float,
        kind: dict[str, Any],
    ) -> None:
        """One reader."""
        chance = random.Random(reader)
        await asyncio.sleep(chance.random() * 3 / self.speed)
        work: Callable[[], None] = partial(time.sleep, takes / self.speed)
        while time.monotonic() < end:
            begin = time.monotonic()
            try:
                await line.run(reader, work, **kind)
                waits[what].append(time.monotonic() - begin)
            except Exception as error:
                waits[f"{what} {REFUSED}"].append(time.monotonic() - begin)
                if type(error).__name__ != "TooMany":
                    raise
            await asyncio.sleep(think * (0.5 + chance.random()) / self.speed)


def module_of(tree: Path) -> ModuleType:
    """The queue of a source tree."""
    path = tree.resolve() / "slem_app/serving/models/queue.py"
    found = importlib.util.spec_from_file_location(f"queue_of_{abs(hash(path))}", path)
    if found is None or found.loader is None:
        raise SystemExit(f"no queue in {tree}")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


if __name__ == "__main__":
    tyro.cli(QueuePolicy).run()
