"""`slem predict`: segment cases from the command line."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field, replace
from itertools import count
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from slem_app.cli.predict_doubts import ENDINGS, beside, write_doubts
from slem_app.cli.predict_report import report, table
from slem_app.errors import BadSetting, StorageFailed
from slem_app.files import make_folder
from slem_app.store.record import DRAFT
from slem_app.weights.folders import model_folder

if TYPE_CHECKING:
    from slem_app.grouping import Grouping
    from slem_app.predict import Prediction, Predictor
    from slem_app.studies import Series, Study
    from slem_app.weights import Card

__all__ = ["Predict"]


@dataclass(frozen=True)
class Predict:
    """Segment a case and write the label map as NIfTI, DICOM SEG or RTSTRUCT.

    Prints the volumes in millilitres, the sequences that were used and missing, and where the time went. With
    --all every case of a folder that has no final label gets a draft in the label store of the server
    instead; call it again to go on after an interruption.
    """

    case: Annotated[Path, tyro.conf.Positional]
    """A case folder, or a folder of cases (then name IDS), or FOLDER/ID if a case has no folder of its own.
    """
    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Cases of that folder; `all` for every one."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path()
    """Folder for ID.nii.gz; or, for a single case, a file name that ends in .nii, .nii.gz or .dcm (a DICOM
    SEG, unless `format` says otherwise). Another result of that name in the folder is kept as
    ID.before1.nii.gz.
    """
    format: Literal["", "nifti", "seg", "rtstruct"] = ""
    """nifti; or, for a case in DICOM, seg or rtstruct, which refer to the series of the reference:
    ID.seg.dcm, ID.rtstruct.dcm.
    """
    model: str = "slem_brain"
    """Name of a model, or its folder. With --all, a name means the version that the server serves."""
    reference: str = ""
    """Sequence on whose grid the result lies, e.g. t2f. Default: the first of the model's order that the case
    has.
    """
    series: dict[str, str] = field(default_factory=dict)
    """Your own choice of series, if the names are not enough, by id, description or number, e.g. `t1c "Ax T1
    SE POST GD" t2f 7`.
    """
    register: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Register every sequence to the first of the model's order (rigid). Without it, only sequences of whole
    heads are registered, and those that clearly fit better elsewhere.
    """
    brain: Path | None = None
    """Your own brain mask for a single case: a NIfTI file, 1 in the brain, drawn on the first sequence of the
    model's order; e.g. one of `slem prepare`, corrected. Default: a network finds the brain of whole heads.
    """
    as_is: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Use the images as they are: nothing is registered, and the brain is not extracted."""
    mirror: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Average over mirror images along the axes that the card allows: up to eight times slower, slightly
    better.
    """
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""
    precision: str = "auto"
    """float32, bfloat16 or auto."""
    check_here: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write a map of where the result is likely wrong beside each file, from 0 (sure) to 1:
    ID.check_here.nii.gz, or for a DICOM format ID.check_here.dcm, a fractional segmentation.
    """
    preview: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write ID.png beside each file: the slice with most of the label in every sequence, outlined."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one line of JSON for each case instead of the report."""
    all: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Make drafts for the server's readers, for every case (or for IDS) that has neither a final label nor a
    draft by this model. CASE is the studies folder.
    """
    store: Path | None = None
    """With --all: the server's setting `store`. Default: .slem in the studies folder."""
    tag: str = DRAFT
    """With --all: the tag under which the drafts are kept; never `final`."""
    images: Literal["unlabeled", "labeled", "all"] = "unlabeled"
    """With --all: cases without a final label, those with one, or both."""
    coding: str = ""
    """With --all: label coding of the studies, if it cannot be determined."""
    processes: int = 0
    """With --all: processes that share the cases. Default: one for each GPU. A lost process is started again.
    """
    cluster: str = ""
    """With --all: make the drafts in processes of a Ray cluster: its address, `auto` (the one that runs here,
    else a new one) or `local` (a new one on this machine). The images must have the same paths on all its
    machines, or come from a PACS.
    """
    limit: int = 0
    """With --all: maximum number of cases; 0: all."""
    report: Path | None = None
    """With --all: JSON file for the progress and the cases that were left out."""
    table: Path | None = None
    """With --all: file for a table of all results, .csv or .parquet: volumes, warnings, what was left out."""
    hold_back: Literal["nothing", "do not use", "look closer"] = "nothing"
    """With --all: make no draft of results with this expected quality: those that the model says not to use,
    or also those to look closer at. They are listed with the reason, and the next call makes them again.
    """
    worker_of: str = ""
    """With --all: set by the process that starts this one: the run whose cases are made."""

    def run(self) -> int | None:
        """Segment, write and report."""
        if self.all:
            return self.make_drafts()
        self.segment()
        return None

    def segment(self) -> None:
        """Segment one case, write and report."""
        folder = model_folder(self.model)  # before anything that takes long to load, and so are the studies
        studies = self.studies()
        if self.brain and (len(studies) > 1 or self.as_is):
            raise BadSetting("--brain is the mask of a single case, and not used with --as-is")
        from slem_app.predict import Predictor
        from slem_app.weights import load_model

        model = load_model(folder)
        inference = (
            replace(model.card.inference, mirror=model.card.mirrors) if self.mirror else model.card.inference
        )
        conformed: Literal["auto", "none"] = "none" if self.as_is else "auto"
        predictor = Predictor(model, self.device, self.precision, inference, conformed)
        for study in studies:
            self.segment_study(study, predictor, self.target(study, len(studies)))

    def segment_study(self, study: Study, predictor: Predictor, path: Path) -> None:
        """Segment one case into a file.

        Raises:
            BadSetting: a DICOM format, and a case that is not in DICOM.
        """
        from slem_app.grouping import group
        from slem_app.predict import answer
        from slem_app.volumes.looks import settle
        from slem_app.volumes.read import read_brain

        card = predictor.model.card
        grouping = settle(group(study, chosen=self.series or None), card.sequences)
        chosen = {one.sequence: one.series.id for one in grouping.choices if one.by_hand}
        grouping = replace(grouping, by_hand=chosen)
        sequence = (
            grouping.resolve(self.reference) if self.reference else grouping.reference(card.reference_order)
        )
        series = grouping.sequences[sequence]
        if self.kind != "nifti" and series.format != "dicom":
            raise BadSetting(
                f"{study.id}: {sequence} is a {series.format} file, to which no DICOM "
                f"{self.kind.upper()} can refer: use --format nifti"
            )
        brain = read_brain(self.brain) if self.brain else None
        if self.check_here:
            prepared, read = predictor.prepare_case(grouping, sequence, self.register, brain)
            made, known = predictor.segment(prepared)
            result = answer(replace(made, timings=read | dict(made.timings)))
            write_doubts(prepared, known, card, series, self.kind, path)
        else:
            result = answer(predictor.predict_case(grouping, sequence, self.register, brain))
        before = None if path == self.out else copy_of(path)
        start = time.perf_counter()
        self.write(result, series, card, path)
        result = replace(result, timings={**result.timings, "write": time.perf_counter() - start})
        picture = self.picture(grouping, result, path) if self.preview else None
        if before is not None and before.read_bytes() == path.read_bytes():
            before.unlink()
            before = None
        if self.json:
            print(dumps(table(study.id, result, path, picture, before)))
            return
        print(report(study.id, result, path))
        if picture is not None:
            print(f"  preview    {picture}")
        if before is not None:
            print(f"  note       the earlier file, of this case or of another one, is now {before.name}")

    def picture(self, grouping: Grouping, result: Prediction, path: Path) -> Path:
        """The picture beside a file."""
        from slem_app.report.preview import write_preview

        used = {name: grouping.sequences[name] for name in result.used}
        return write_preview(used, result.array, result.grid, result.labels, beside(path, ".png"))

    def make_drafts(self) -> int:
        """Drafts of all cases that await one; returns the exit code.

        Raises:
            BadSetting: options that are for files.
        """
        # what trains and what labels, which one case does not need
        from slem_app.cli.predict_all import Archive, processes_for, queue_of, served_model
        from slem_app.store.archive_table import check_table
        from slem_app.store.case_labels import CaseLabels
        from slem_app.store.drafts import Drafts
        from slem_app.store.work_queue import WorkQueue
        from slem_app.studies.header_index import INDEX_FILE, INDEX_FOLDER, HeaderIndex
        from slem_app.studies.places import default_store

        files_only = (
            self.format,
            self.reference,
            self.series,
            self.brain,
            self.mirror,
            self.check_here,
            self.preview,
            self.json,
        )
        if any(files_only) or self.out != Path():
            raise BadSetting(
                "--all makes drafts in the label store: --out, --format, --reference, --series, --mirror, "
                "--brain, --check-here, --preview and --json are for files"
            )
        if self.table is not None:
            check_table(self.table)
        studies = str(self.case)
        if studies.startswith(("http:/", "https:/")) and "://" not in studies:
            studies = studies.replace(":/", "://", 1)  # a path has lost one of its slashes
        store = self.store or default_store(studies)
        model = served_model(self.model, store)
        index = HeaderIndex(store / INDEX_FOLDER / INDEX_FILE)
        labels = CaseLabels(studies, store, self.coding or None, index=index)
        drafts = Drafts(
            labels,
            model.card.name,
            model.card.version,
            model.card.sha256,
            self.tag,
            self.images,
            tuple(self.ids),
        )
        worst = "" if self.hold_back == "nothing" else self.hold_back
        if worst and not model.card.confidence.dice:
            raise BadSetting(
                f"--hold-back: the card of {model.card.name} has no lines for the expected quality "
                "(confidence.dice): omit this option"
            )
        archive = Archive(
            drafts,
            model,
            self.device,
            self.precision,
            self.register,
            self.report,
            self.table,
            worst,
            self.cluster,
        )
        if self.worker_of:
            archive.work(WorkQueue(queue_of(drafts)), self.worker_of)
            return 0
        labels.store.sweep()
        for case in self.ids:
            labels.study(case)  # says what is wrong with the name, if it is
        # torchrun has started as many as there shall be, and each of them leases cases
        processes = 1 if "LOCAL_RANK" in os.environ else processes_for(self.processes, self.device)
        processes = self.processes if self.cluster else processes
        return archive.make(self.limit, processes, ["predict", *self.arguments()])

    def arguments(self) -> list[str]:
        """The options of --all, for another process."""
        given = [
            "--all",
            "--model",
            self.model,
            "--tag",
            self.tag,
            "--images",
            self.images,
            "--device",
            self.device,
            "--precision",
            self.precision,
            "--hold-back",
            self.hold_back,
        ]
        given += ["--register"] if self.register else []
        given += [
            part
            for name in ("store", "coding")
            if getattr(self, name)
            for part in (f"--{name}", str(getattr(self, name)))
        ]
        return [str(self.case), *self.ids, *given]

    @property
    def kind(self) -> str:
        """What is written: the format that is asked for, else what the file's name says."""
        return self.format or ("seg" if self.out.name.endswith(".dcm") else "nifti")

    def write(self, result: Prediction, series: Series, card: Card, path: Path) -> None:
        """Write the result; a DICOM one refers to `series`, on whose grid it lies.

        Raises:
            BadSetting: what writes DICOM results is not installed.
        """
        from slem_app.formats import write_nifti
        from slem_app.formats.provenance import Provenance, remarks

        if self.kind == "nifti":
            write_nifti(result.array, result.grid, result.labels, path)
            return
        try:
            from slem_app.formats.rtstruct import write_rtstruct  # an optional part, and slow to import
            from slem_app.formats.seg import write_seg
        except ImportError as error:
            raise BadSetting(
                f"--format {self.kind} needs {error.name}: pip install 'slem-label[seg]', or write NIfTI"
            ) from error
        provenance = Provenance(
            "AUTOMATIC",
            card.name,
            card.version,
            f"{card.name} {card.version} automatic",
            remarks=remarks(result.warnings, result.report.notes()),
        )
        (write_seg if self.kind == "seg" else write_rtstruct)(
            result.array, result.grid, result.labels, series, provenance, path
        )

    def studies(self) -> list[Study]:
        """The studies that `case` and `ids` name.

        Raises:
            BadStudy: several cases and none named.
        """
        from slem_app.studies.chosen import chosen

        source, ids = chosen(self.case, self.ids)
        return [source.study(one) for one in ids]

    def target(self, study: Study, count: int) -> Path:
        """The file for one result; its folder is made if it is not there.

        Raises:
            BadSetting: one file for several cases.
            StorageFailed: the folder cannot be made.
        """
        if self.out.name.endswith((".nii", ".nii.gz", ".dcm")):
            if self.out.name.endswith(".dcm") == (self.kind == "nifti"):
                raise BadSetting(
                    f"--out {self.out} does not end like a file of --format {self.kind} (.nii, .nii.gz; .dcm "
                    "for seg and rtstruct)"
                )
            if count > 1:
                raise BadSetting(
                    f"--out {self.out} is one file but {count} cases are to be segmented: give a folder"
                )
            path = self.out
        else:
            path = self.out / f"{study.id.replace('/', '_')}{ENDINGS[self.kind]}"
        make_folder(path.parent, "--out")
        return path


def copy_of(path: Path) -> Path | None:
    """A copy of a file beside it, as NAME.before1.ENDING, with the first free number; None where there is no
    such file.

    Raises:
        StorageFailed: the disk refused.
    """
    if not path.is_file():
        return None
    ending = next(one for one in ENDINGS.values() if path.name.endswith(one))
    stem = path.name.removesuffix(ending)
    free = next(n for n in count(1) if not path.with_name(f"{stem}.before{n}{ending}").exists())
    copy = path.with_name(f"{stem}.before{free}{ending}")
    try:
        shutil.copyfile(path, copy)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be copied to {copy.name}: {error.strerror or error}") from error
    return copy
