"""The audit log: whole lines only, and nothing is changed while none can be written."""

import errno
import json
import os
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slem_app.errors import StorageFailed
from slem_app.serving.auth import audit
from slem_app.serving.auth.audit import AuditLog, AuditMiddleware


def lines(folder: Path) -> list[dict]:
    [path] = folder.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit")
    log.note(None, "10.0.0.1", "PUT /datastore/label", "A", 200)
    return log


def test_a_line_is_written_whole_or_not_at_all(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(audit.os, "write", lambda handle, line: write(handle, line[:20]))
        with pytest.raises(StorageFailed, match=os.strerror(errno.ENOSPC)):
            log.note(None, "10.0.0.1", "PUT /datastore/label", "B", 200)
    log.note(None, "10.0.0.1", "PUT /datastore/label", "C", 200)
    assert [line["case"] for line in lines(log.folder)] == ["A", "C"]


def test_a_line_that_a_crash_has_torn_takes_no_other_with_it(log: AuditLog) -> None:
    [path] = log.folder.glob("*.jsonl")
    with path.open("a") as file:
        file.write('{"time": "2026')
    log.note(None, "10.0.0.1", "PUT /datastore/label", "C", 200)
    assert [json.loads(line)["case"] for line in path.read_text().splitlines() if line.endswith("}")] == [
        "A",
        "C",
    ]


def test_nothing_is_changed_while_the_log_cannot_be_written(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, changed = FastAPI(), []
    app.add_middleware(AuditMiddleware, log=log)
    app.put("/datastore/label")(lambda: changed.append(1))
    app.get("/datastore/label")(lambda: "read")
    web = TestClient(app)
    assert web.put("/datastore/label").status_code == 200
    monkeypatch.setattr(audit, "SPARE", 2**60)
    answer = web.put("/datastore/label")
    assert (answer.status_code, answer.json()["error"]) == (507, "StorageFailed")
    assert web.get("/datastore/label").status_code == 200
    assert changed == [1]
    monkeypatch.setattr(audit, "SPARE", 0)
    assert web.put("/datastore/label").status_code == 200
    assert len(changed) == 2
