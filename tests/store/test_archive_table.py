"""The table of an archive: a row for each case, as CSV or Parquet."""

import csv
from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.store.archive_table import check_table, write_table
from slem_app.store.case_labels import CaseLabels
from slem_app.store.drafts import Drafts
from slem_app.store.labels import LabelStore
from slem_app.store.provenance import PROVENANCE
from slem_app.store.record import LabelRecord
from slem_app.store.work_queue import Counts
from slem_app.trust import LOOK_CLOSER, Quality, Trust

CASES = ("a", "b", "c", "d")


@pytest.fixture
def drafts(tmp_path: Path) -> Drafts:
    """One draft by this model, one by another, one case that was left out, one that is another model's."""
    store = LabelStore(tmp_path / "store")
    for case, sha in (("a", "this"), ("b", "other")):
        trust = Trust(quality=Quality({"WT": 0.75}, {"WT": 0.5}, LOOK_CLOSER))
        record = LabelRecord(
            5.0, "", "slem predict", "small", "2", sha, automatic=True, trust=trust
        ).to_meta()
        meta = {**record, PROVENANCE: {"code": "0.1", "volumes_ml": {"edema": 2.5}}}
        store.save(case, "original", lambda path: path.write_bytes(b"label"), meta)
    return Drafts(CaseLabels("", tmp_path / "store"), "small", "2", "this", cases=CASES)


def test_a_table_has_a_row_for_each_case_of_this_model(drafts: Drafts, tmp_path: Path) -> None:
    counts = Counts(4, 1, ("d",), {"c": "c is broken, all of it"})
    assert write_table(tmp_path / "new/table.csv", drafts, counts) == 3
    with (tmp_path / "new/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["state"]) for row in rows] == [
        ("a", "made"),
        ("c", "quarantined"),
        ("d", "foreign"),
    ]
    assert (rows[0]["edema_ml"], rows[0]["code"], rows[0]["weights_sha256"]) == ("2.5", "0.1", "this")
    assert (rows[0]["quality"], rows[0]["WT_dice"]) == ("look closer", "0.75")
    assert rows[1]["reason"] == "c is broken, all of it"


def test_a_parquet_table_holds_the_same(drafts: Drafts, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'parquet'")
    write_table(tmp_path / "table.parquet", drafts, Counts(4, 1, ("d",), {"c": "broken"}))
    rows = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [(row["case"], row["edema_ml"]) for row in rows] == [("a", 2.5), ("c", None), ("d", None)]
    assert [row["WT_dice"] for row in rows] == [0.75, None, None]


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    check_table(tmp_path / "table.csv")
    with pytest.raises(BadSetting, match=r"its name must end in \.csv or \.parquet"):
        check_table(tmp_path / "table.xlsx")
