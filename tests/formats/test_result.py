"""The description of a result: plain JSON, names in order of value."""

import json
from pathlib import Path

import numpy as np

from slem_app.formats import result_json, write_result_json
from slem_app.labels import LabelSet


def test_holds_names_sequences_times_volumes_and_notes(labels: LabelSet) -> None:
    result = result_json(
        labels,
        used=("t1c", "t2f"),
        missing=("t1n",),
        timings={"read": 0.1, "network": np.float32(1.5)},
        volumes_ml={"edema": np.float64(12.34567)},
        notes=("t1n is missing",),
    )
    assert result == {
        "label_names": {"necrosis": 1, "edema": 2, "enhancing tumor": 3},
        "sequences_used": ["t1c", "t2f"],
        "sequences_missing": ["t1n"],
        "latencies": {"read": 0.1, "network": 1.5, "total": 1.6},
        "volumes_ml": {"edema": 12.346},
        "notes": ["t1n is missing"],
    }
    assert list(result["label_names"]) == ["necrosis", "edema", "enhancing tumor"]


def test_a_total_that_was_measured_is_kept_and_none_is_made_up(labels: LabelSet) -> None:
    assert result_json(labels, timings={"read": 1.0, "total": 3.0})["latencies"] == {
        "read": 1.0,
        "total": 3.0,
    }
    assert result_json(labels)["latencies"] == {}


def test_is_written_as_readable_json(tmp_path: Path, labels: LabelSet) -> None:
    path = write_result_json(result_json(labels, notes=["œdème"]), tmp_path / "a.json")
    assert json.loads(path.read_text(encoding="utf-8"))["notes"] == ["œdème"]
    assert "œdème" in path.read_text(encoding="utf-8")
