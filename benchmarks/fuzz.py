"""Files and texts that nobody would send, for every parser of what clients send.

Only the project's own errors may come of them, in bounded time and memory. Inputs are changed sound ones:
drawn at random from a seed or, with `--atheris` (`pip install atheris`), also chosen by what they reach in
the parsers' code. An input that brings another error, takes more than `SLOW` seconds of computing or raises
the memory by more than `RISE` is written to the current folder and named, once for each place in the code.

    python benchmarks/fuzz.py nifti --seconds 600 --atheris
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SLOW = 20.0  # seconds
RISE = 2**30  # bytes, from the first input on
LONGEST = 2**16  # bytes of an input
HEADER_SHARE = 0.8  # of the changes that meet the header
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
REALS = (float("nan"), float("inf"), -1.0, 0.0, 1e30, 1e-30)
INSTRUMENTED = ["slem_app", "nibabel", "pydicom", "nrrd", "zipfile", "json"]
TABLES = [f"pydicom.{name}" for name in ("_dicom_dict", "_private_dict", "_uid_dict")]
TABLES += [f"pydicom.sr.{name}" for name in ("_snomed_dict", "_concepts_dict", "_cid_dict")]
"""Nothing branches in them, and they take minutes to instrument."""
WORDS = (
    b"NaN",
    b"inf",
    b"-1",
    b"9" * 30,
    b"line skip: 9\n",
    b"\xfe\xff\x00\xe0",
    b"\\ud800",
    b"\n\n",
    b"PK\x05\x06",
)


class Watch:
    """Tries inputs on one parser, and keeps what may not be.

    Args:
        parser: one of `fuzz_parsers`.
        tag: ends the names of the files that are written.
    """

    def __init__(self, parser: Any, tag: str) -> None:
        self.parser, self.tag = parser, tag
        self.number, self.slowest, self.began = 0, 0.0, time.monotonic()
        self.first = self.highest = peak()
        self.found: dict[str, int] = {}

    def check(self, content: bytes) -> bool:
        """Try one input; True where nothing is wrong with what came of it."""
        self.number += 1
        start, place, why = time.process_time(), "", ""
        try:
            self.parser.parse(content)
        except Exception as error:  # noqa: BLE001 whatever it is, it is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place, why = f"{type(error).__name__} {frame.filename}:{frame.lineno}", traceback.format_exc(-4)
        took = time.process_time() - start
        self.slowest, rise = max(self.slowest, took), peak() - self.highest
        if not why and (took > SLOW or rise > RISE):
            place = why = f"{took:.0f} s, memory up by {rise / 2**20:.0f} MiB"
            self.highest += rise
        if why:
            self.found[place] = self.found.get(place, 0) + 1
            if self.found[place] == 1:
                path = Path(f"found-{type(self.parser).__name__.lower()}-{self.tag}-{self.number}")
                path.write_bytes(content)
                print(f"{path}: {why}", flush=True)
        return not why

    def row(self, outcomes: dict[str, int]) -> str:
        """What came of it, as a row of the table."""
        seconds, rise = time.monotonic() - self.began, (peak() - self.first) / 2**20
        refused = sum(count for name, count in outcomes.items() if name != "read")
        return (
            f"| {type(self.parser).__name__} | {self.number:,} | {seconds:.0f} | {refused:,} "
            f"| {outcomes.get('read', 0):,} | {self.slowest:.2f} | {rise:.0f} | {len(self.found)} |"
        )


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def changed(content: bytes, others: Sequence[bytes], draw: random.Random, head: int) -> bytes:
    """A content with some of it changed, most often in its first `head` bytes."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        reach = min(head, len(made)) if draw.random() < HEADER_SHARE else len(made)
        at, what = draw.randrange(reach + 1), draw.randrange(8)
        if what == 0 and made:
            made[at % len(made)] ^= 1 << draw.randrange(8)
        elif what == 1:
            size = draw.choice((1, 2, 4, 8))
            made[at : at + size] = draw.choice(NUMBERS).to_bytes(8, draw.choice(("little", "big")))[:size]
        elif what == 2:
            del made[at : at + draw.randrange(1, 64)]
        elif what == 3:
            made[at:at] = draw.choice(WORDS)
        elif what == 4:
            made[at:at] = made[at : at + draw.randrange(64)] * draw.randrange(1, 20)
        elif what == 5:
            other = draw.choice(others)
            begin = draw.randrange(len(other))
            made[at : at + 32] = other[begin : begin + 32]
        elif what == 6:
            at -= at % 4
            made[at : at + 4] = struct.pack(draw.choice(("<f", ">f")), draw.choice(REALS))
        else:
            made[at : at + 1] = bytes([draw.randrange(256)])
    return bytes(made[:LONGEST])


def at_random(watch: Watch, seeds: list[bytes], seconds: float, draw: random.Random) -> None:
    """Change inputs at random."""
    while time.monotonic() - watch.began < seconds:
        content = changed(draw.choice(seeds), seeds, draw, watch.parser.head)
        if watch.check(content) and draw.random() < 0.02 and len(seeds) < 500:
            seeds.append(content)  # changes of changes


def by_coverage(watch: Watch, seeds: list[bytes], seconds: float, report: Any) -> None:
    """Let atheris choose which inputs are changed further; the process ends with the time."""
    import atheris

    corpus = watch.parser.folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)

    def one(content: bytes) -> None:
        watch.check(content)
        if time.monotonic() - watch.began > seconds:
            report()
            os._exit(0)

    def change(content: bytes, longest: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if draw.random() < 0.3:
            return bytes(atheris.Mutate(content, longest))
        return changed(content or seeds[0], seeds, draw, watch.parser.head)[:longest]

    options = ["-timeout=600", "-rss_limit_mb=0", f"-max_len={LONGEST}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


def parsers(instrumented: bool) -> ModuleType:
    """The module `fuzz_parsers`; `instrumented`: all that it imports tells which branches are taken."""
    if not instrumented:
        return importlib.import_module("fuzz_parsers")
    import atheris

    with atheris.instrument_imports(INSTRUMENTED, TABLES, enable_loader_override=False):
        return importlib.import_module("fuzz_parsers")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parser", choices=("nifti", "nrrd", "dicom", "json", "zip", "blosc"))
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--atheris", action="store_true", help="by coverage")
    asked = words.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    np.seterr(all="ignore")
    module = parsers(asked.atheris)
    with tempfile.TemporaryDirectory() as folder:
        parser = module.PARSERS[asked.parser](Path(folder))
        seeds = parser.seeds()
        for content in seeds:
            parser.parse(content)
        print(f"{len(seeds)} sound inputs: {dict(module.OUTCOMES)}", flush=True)
        module.OUTCOMES.clear()
        watch = Watch(parser, f"{asked.seed}")

        def report() -> None:
            print(dict(module.OUTCOMES.most_common()))
            print(watch.row(module.OUTCOMES), flush=True)

        if asked.atheris:
            by_coverage(watch, seeds, asked.seconds, report)
        else:
            at_random(watch, seeds, asked.seconds, random.Random(asked.seed))
            report()


if __name__ == "__main__":
    main()
