"""`slem report`: a case's numbers and its page to sign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from slem_app.errors import BadSetting
from slem_app.files import make_folder, write_json

if TYPE_CHECKING:
    from slem_app.report.contents import Contents

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """Measure a case's label and write a report: PDF, JSON, and for a DICOM study a segmentation and a
    structured report (TID 1500) that refers to it.

    The label is the final one that counts, else the newest draft, else what the model makes now. What no
    reader has confirmed is marked DRAFT.
    """

    studies: Annotated[str, tyro.conf.Positional]
    """The studies folder (or the address of a PACS), as the server was given it."""
    case: Annotated[str, tyro.conf.Positional]
    """Case id."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path()
    """Folder for CASE.report.pdf, CASE.report.json, CASE.seg.dcm and CASE.sr.dcm."""
    store: Path | None = None
    """The server's setting `store`. Default: .slem in the studies folder."""
    experts: tuple[str, ...] = ()
    """Readers whose final label counts before the newest one, as in the server's setting."""
    coding: str | None = None
    """Label coding of the studies, if it cannot be determined."""
    model: str = "slem_brain"
    """The model whose labels these are; it also segments a case that has no label."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto; if a case must be segmented."""
    send: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also store the DICOM files in the PACS that STUDIES names: segmentation, structured report, the page as
    encapsulated PDF and as secondary capture. A draft says that it is one on each page.
    """

    def run(self) -> None:
        """Measure, write, print the numbers."""
        from slem_app.studies.places import default_store, is_address

        if self.send and not is_address(self.studies):
            raise BadSetting("--send stores in a PACS: give its address instead of a folder, or omit --send")
        try:
            from slem_app.report.compose import compose
            from slem_app.report.page import write_pdf
        except ImportError as error:
            raise BadSetting(f"a report needs {error.name}: pip install 'slem-label[report]'") from error
        from slem_app.store.case_labels import CaseLabels

        root = self.store or default_store(self.studies)
        labels = CaseLabels(self.studies, root, self.coding, self.experts)
        report = compose(labels, self.case, self.model, self.device)
        make_folder(self.out, "--out")
        name = self.case.replace("/", "_")
        written = [
            write_pdf(report.contents, self.out / f"{name}.report.pdf"),
            write_json(report.contents.table(), self.out / f"{name}.report.json"),
        ]
        if report.series.format == "dicom":
            written += report.write_dicom(self.out, name)
        if self.send:
            for instance in report.instances.values():
                labels.send(instance)
        print(_summary(report.contents))
        for path in written:
            print(f"  {path}")
        if self.send:
            print(f"  {len(report.instances)} of them are in the PACS, too")


def _summary(contents: Contents) -> str:
    """What is printed."""
    width = max(len(one.name) for one in contents.found.structures)
    lines = [f"{contents.case}: {contents.status}"]
    for one in contents.found.structures:
        pair = one.diameters
        size = f"  {pair.long:.1f} x {pair.short:.1f} mm" if pair else ""
        lines.append(f"  {one.name:<{width}} {one.volume_ml:9.2f} ml  {len(one.lesions)} lesions{size}")
    lines += [f"  {text}" for text in contents.doubts]
    return "\n".join([*lines, *(f"  WARNING: {one.text}" for one in contents.warnings)])
