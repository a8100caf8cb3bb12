"""`slem labels`: what readers have saved, who agrees with whom, and a training set of it for
other programs.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean
from time import localtime, strftime, time
from typing import TYPE_CHECKING, Annotated, Literal, cast

import tyro

from slem_app.errors import BadGrid, SlemError, StorageFailed
from slem_app.store.record import FINAL, LabelRecord

if TYPE_CHECKING:
    import numpy as np

    from slem_app.evaluate.interrater import Agreement
    from slem_app.labels import LabelSet
    from slem_app.store.case_labels import CaseLabels
    from slem_app.store.labels import LabelVersion
    from slem_app.types import Grid

__all__ = ["Labels"]

ORDER = ("t1c", "t2f", "t2w", "t1n")  # the image that a label belongs to where it fits several


@dataclass(frozen=True)
class _Store:
    """Where the labels are."""

    studies: Annotated[str, tyro.conf.Positional]
    """The studies folder (or the address of a PACS), as the server was given it."""
    store: Path | None = None
    """The server's setting `store`. Default: .slem in the studies folder."""
    experts: tuple[str, ...] = ()
    """Readers whose final label counts before the newest one, as in the server's setting."""
    coding: str | None = None
    """Label coding of the studies, if it cannot be determined."""

    @property
    def labels(self) -> CaseLabels:
        """The labels with their cases."""
        from slem_app.store.case_labels import CaseLabels
        from slem_app.studies.places import default_store

        return CaseLabels(self.studies, self.store or default_store(self.studies), self.coding, self.experts)


@dataclass(frozen=True)
class List(_Store):
    """One line a case: how many drafts and final labels it has, of whom, and which one counts."""

    def run(self) -> int:
        """Print the table; 0 if there is a final label."""
        labels = self.labels
        rows = [_line(labels, case) for case in labels.store.cases()]
        print_table(("CASE", "FINAL", "DRAFTS", "READERS", "COUNTS", "OF", "SAVED"), rows)
        done = sum(row[1] != "0" for row in rows)
        print(f"{len(rows)} cases with labels in {labels.root}, {done} with a final one")
        return 0 if done else 1


@dataclass(frozen=True)
class History(_Store):
    """Every version of a case's labels, as they were saved."""

    case: str = ""
    """Case id; default: all cases."""

    def run(self) -> None:
        """Print the table."""
        labels = self.labels
        cases = [self.case] if self.case else labels.store.cases()
        if self.case:
            labels.study(self.case)  # says what is wrong with the name, if it is
        head = ("CASE", "TAG", "VERSION", "COUNTS", "SAVED", "READER", "CLIENT", "MODEL", "SECONDS", "CLICKS")
        print_table(head, [row for case in cases for row in _rows(labels, case)])


@dataclass(frozen=True)
class Export(_Store):
    """Write the final labels that count, with their images, as a training set for other programs.

    BraTS and nnU-Net demand one grid a case: images on another grid than the label are resampled to it. BIDS
    keeps every image as it is.
    """

    layout: Literal["brats", "nnunet", "bids"] = "brats"
    """brats: folders in the names of BraTS; nnunet: version 2's raw format; bids: BIDS with the labels as
    derivatives.
    """
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("labels")
    """Folder to make; for nnunet it needs a name like Dataset042_Glioma."""
    values: str = ""
    """How labels are numbered, for brats: brats2023 (default; names t1n, t1c, t2w, t2f) or brats2018
    (enhancing tumor is 4; names t1, t1ce, t2, flair).
    """

    def run(self) -> int:
        """Write; 0 if every case with a final label is in it."""
        from tqdm import tqdm

        from slem_app.store.export.training_set import export

        labels = self.labels
        cases, lost = [], {}
        for case in labels.store.cases():
            if not labels.store.has_final(case):
                continue
            try:
                cases.append(labels.labelled(case))
            except SlemError as error:
                lost[case] = str(error)
        with tqdm(total=len(cases), desc="exporting", unit="case") as bar:
            report = export(cases, self.layout, self.out, self.values, lambda _: bar.update())
        for case, names in report.resampled.items():
            print(f"resampled to the label's grid: {case}: {', '.join(names)}")
        for case, reason in (lost | dict(report.skipped)).items():
            print(f"left out {case}: {reason}")
        print(f"{len(report.written)} cases in {report.folder}")
        return 0 if report.written and not report.skipped and not lost else 1


@dataclass(frozen=True)
class AgreementOf(_Store):
    """How far readers agree: for each pair of readers of a case, Dice, 95 % Hausdorff distance and volumes of
    every label and region.

    Each reader's newest final label is compared.
    """

    model: str = "slem_brain"
    """Whose regions are compared, beside the labels."""
    drafts: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also compare with the model's newest drafts, as with another reader."""
    csv: Path | None = None
    """Write every comparison into this file."""

    def run(self) -> int:
        """Print the means; 0 if there is a case with several readers."""
        from slem_app.weights import find, load_card

        labels = self.labels
        found: list[Agreement] = []
        regions = load_card(find(self.model)).labels
        for case in labels.store.cases():
            found += _compared(labels, case, regions, self.drafts)
        if not found:
            print(f"no case in {labels.root} has final labels of two readers")
            return 1
        print_table(
            ("PART", "READER", "OTHER", "CASES", "DICE", "HD95 MM", "ML", "OTHER ML"), list(_means(found))
        )
        print(
            f"{len({one.case for one in found})} cases with several readers; HD95 over those in which "
            f"both found something"
        )
        if self.csv is not None:
            _write_csv(found, self.csv)
        return 0


@dataclass(frozen=True)
class Import(_Store):
    """Take segmentations that are there already into the store, as final labels of a named reader.

    They belong to the cases of the same names. One that the same reader has in the store already, voxel for
    voxel, is not taken again.
    """

    source: Path | None = None
    """Folder of segmentations in any layout that `slem inspect` understands. Default: those beside the images
    in the studies folder.
    """
    reader: str = "imported"
    """Who made them."""
    model: str = "slem_brain"
    """Whose labels they are: values are matched to its names by the coding."""

    def run(self) -> int:
        """Import; 0 if nothing that has a segmentation was left out."""
        from tqdm import tqdm

        from slem_app.finetune.cases import truth
        from slem_app.studies import open_source
        from slem_app.weights import find, load_card

        labels, wanted = self.labels, load_card(find(self.model)).labels
        source = open_source(self.source or self.studies, self.coding)
        tally: Counter[str] = Counter()
        for case in tqdm(source.ids(), desc="importing", unit="case"):
            try:
                study = source.study(case)
                if study.label is None:
                    continue
                tally[
                    "imported"
                    if self.take(labels, case, *truth(study, wanted), wanted)
                    else "were there already"
                ] += 1
            except StorageFailed:
                raise
            except SlemError as error:
                tally["left out"] += 1
                tqdm.write(f"left out {case}: {error}")
        print(
            ", ".join(f"{count} {what}" for what, count in tally.items())
            or f"no segmentation in {source.root}"
        )
        return 0 if tally and not tally["left out"] else 1

    def take(self, labels: CaseLabels, case: str, array: np.ndarray, grid: Grid, wanted: LabelSet) -> bool:
        """Keep one label; False if it was there.

        Raises:
            NotFound: no such case among the studies.
            BadGrid: it lies on none of the case's images.
        """
        import numpy as np

        from slem_app.formats import read_label_file, write_nifti

        grouping = labels.images(case)
        fits = [
            name
            for name in dict.fromkeys((*ORDER, *grouping.sequences))
            if name in grouping.sequences and grouping.sequences[name].grid.same_as(grid)
        ]
        if not fits:
            raise BadGrid(
                f"{case}: its segmentation lies on {grid}, but none of its images does: resample it to one "
                "of them first"
            )
        mine = [
            version for version in labels.store.versions(case, FINAL) if version.record.who == self.reader
        ]
        if mine and np.array_equal(read_label_file(mine[-1].label)[0], array):
            return False
        meta = {
            "sequence": fits[0],
            "series": grouping.sequences[fits[0]].id,
            "label_names": {name: value for value, name in enumerate(wanted.names, 1)},
            "present": [wanted.names[value - 1] for value in np.unique(array) if value],
            "ts": int(time()),
            **LabelRecord(time(), f"{self.reader}@", "slem labels import").to_meta(),
        }
        labels.store.save(case, FINAL, partial(write_nifti, array, grid, wanted), meta)
        return True


@dataclass(frozen=True)
class Labels:
    """List readers' labels, show a case's history, export a training set, import segmentations, compare
    readers.
    """

    do: tyro.conf.OmitSubcommandPrefixes[
        Annotated[List, tyro.conf.subcommand("list", prefix_name=False)]
        | Annotated[History, tyro.conf.subcommand("history", prefix_name=False)]
        | Annotated[Export, tyro.conf.subcommand("export", prefix_name=False)]
        | Annotated[Import, tyro.conf.subcommand("import", prefix_name=False)]
        | Annotated[AgreementOf, tyro.conf.subcommand("agreement", prefix_name=False)]
    ]
    """What to do."""

    def run(self) -> int | None:
        """Do it."""
        return self.do.run()


def _line(labels: CaseLabels, case: str) -> tuple[str, ...]:
    """The row of a case."""
    history = labels.store.history(case)
    final = [version for version in history if version.tag == FINAL]
    readers = ", ".join(sorted({version.record.who for version in history if not version.record.automatic}))
    counted = labels.store.has_final(case)
    shown = labels.store.counting(case, labels.experts) if counted else history[-1]
    counts = f"{shown.tag} {shown.number}" if counted else "none"
    return (
        case,
        str(len(final)),
        str(len(history) - len(final)),
        readers,
        counts,
        shown.record.who,
        clock(shown.record.ts),
    )


def _rows(labels: CaseLabels, case: str) -> Iterator[tuple[str, ...]]:
    """The rows of a case's versions."""
    counting = labels.store.counting(case, labels.experts).folder if labels.store.has_final(case) else None
    for version in labels.store.history(case):
        one = version.record
        seconds = "" if one.seconds is None else f"{one.seconds:.0f}"
        clicks = "" if one.clicks is None else str(one.clicks)
        counts = "yes" if version.folder == counting else ""
        who = "(automatic)" if one.automatic else one.who
        yield (
            case,
            version.tag,
            str(version.number),
            counts,
            clock(one.ts),
            who,
            one.client,
            f"{one.model} {one.model_version}".strip(),
            seconds,
            clicks,
        )


def _compared(labels: CaseLabels, case: str, regions: LabelSet, drafts: bool) -> tuple[Agreement, ...]:
    """All pairs of readers of a case; a label that cannot be read is told and left out."""
    from slem_app.evaluate.interrater import agreements
    from slem_app.formats import read_label_file

    newest: dict[str, LabelVersion] = {}
    for version in labels.store.history(case):
        if version.tag == FINAL or (drafts and version.record.automatic):
            newest[version.record.who] = version
    if len(newest) < 2:
        return ()
    names = [tuple(cast(Iterable[str], one.meta.get("label_names", ()))) for one in newest.values()]
    if len(set(names)) > 1:
        print(
            f"left out {case}: its readers' labels have different names: "
            f"{'; '.join(', '.join(each) for each in sorted(set(names)))}"
        )
        return ()
    try:
        maps = {who: read_label_file(version.label)[:2] for who, version in newest.items()}
        return agreements(case, maps, names[0], regions if regions.names == names[0] else None)
    except SlemError as error:
        print(f"left out {case}: {error}")
        return ()


def _means(found: Sequence[Agreement]) -> Iterator[tuple[str, ...]]:
    """One row a part and pair of readers, means over cases."""
    groups: dict[tuple[str, str, str], list[Agreement]] = {}
    for one in found:
        groups.setdefault((one.part, one.one, one.other), []).append(one)
    for (part, reader, other), rows in groups.items():
        distances = [row.hd95 for row in rows if row.hd95 is not None]
        volumes = (f"{fmean(row.one_ml for row in rows):.2f}", f"{fmean(row.other_ml for row in rows):.2f}")
        yield (
            part,
            reader,
            other,
            str(len(rows)),
            f"{fmean(row.dice for row in rows):.3f}",
            f"{fmean(distances):.2f}" if distances else "",
            *volumes,
        )


def _write_csv(found: Sequence[Agreement], path: Path) -> None:
    from slem_app.evaluate.interrater import Agreement
    from slem_app.files import atomic_file, make_folder

    make_folder(path.parent, "--csv")
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Agreement)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in found)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode("utf-8"))


def clock(seconds: float) -> str:
    """As people read it."""
    return strftime("%Y-%m-%d %H:%M", localtime(seconds)) if seconds else ""


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
