"""`slem followup`: a patient's visits and what changed between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from slem_app.errors import BadSetting
from slem_app.files import make_folder, write_json

if TYPE_CHECKING:
    from slem_app.report.followup import FollowUp

__all__ = ["Followup"]


@dataclass(frozen=True)
class Followup:
    """Compare a patient's visits: volumes, changes of lesions, the category of RANO 2.0; PDF and JSON.

    Which studies are of one patient is told by PatientID, by names of folders, or by the key `patients` in
    slem.yaml. The label of a visit is its final one that counts, else its newest draft.
    """

    studies: Annotated[str, tyro.conf.Positional]
    """The studies folder (or the address of a PACS), as the server was given it."""
    patient: Annotated[str, tyro.conf.Positional]
    """A case id: what changed up to that case; or a patient: up to the last visit that has a label."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path()
    """Folder for CASE.followup.pdf and CASE.followup.json."""
    store: Path | None = None
    """The server's setting `store`. Default: .slem in the studies folder."""
    experts: tuple[str, ...] = ()
    """Readers whose final label counts before the newest one, as in the server's setting."""
    coding: str | None = None
    """Label coding of the studies, if it cannot be determined."""
    model: str = "slem_brain"
    """The model whose labels these are, if they do not say."""

    def run(self) -> None:
        """Compare, write, print."""
        try:
            from slem_app.report.followup import compose_followup
            from slem_app.report.followup_page import write_followup_pdf
        except ImportError as error:
            raise BadSetting(f"a report needs {error.name}: pip install 'slem-label[report]'") from error
        from slem_app.store.case_labels import CaseLabels
        from slem_app.studies.patients import find_patient
        from slem_app.studies.places import default_store

        labels = CaseLabels(
            self.studies, self.store or default_store(self.studies), self.coding, self.experts
        )
        patient = find_patient(labels.source, self.patient)
        labelled = [one.case for one in patient.visits if labels.store.tags(one.case)]
        case = self.patient if self.patient in labels.source.ids() else ["", *labelled][-1]
        if not case:
            raise BadSetting("none of this patient's visits has a label: segment and save one first")
        found = compose_followup(labels, case, self.model)
        make_folder(self.out, "--out")
        name = case.replace("/", "_")
        written = [
            write_followup_pdf(found, self.out / f"{name}.followup.pdf"),
            write_json(found.table(), self.out / f"{name}.followup.json"),
        ]
        print(summary(found))
        for path in written:
            print(f"  {path}")


def summary(found: FollowUp) -> str:
    """What is printed."""
    lines = [f"{found.case}: visit {len(found.visits)}{', DRAFT' if found.draft else ''}"]
    for one in found.visits:
        structure = one.found.structures
        sizes = "  ".join(f"{each.name} {each.volume_ml:.2f} ml" for each in structure)
        lines.append(f"  {one.visit.when or one.visit.case:<12} {sizes}")
    for number, change in enumerate(found.changes, 1):
        before, now = change.volumes_ml
        lines.append(f"  lesion {number}: {change.pair.kind:<9} {before:8.2f} -> {now:8.2f} ml")
    if found.response:
        lines.append(f"  RANO 2.0, images alone: {found.response.category.name}")
        lines += [f"    {text}" for text in found.response.reasons]
    return "\n".join([*lines, *(f"  WARNING: {text}" for text in found.doubts)])
