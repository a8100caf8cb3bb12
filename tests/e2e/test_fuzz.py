"""Requests that nobody would send, made by schemathesis from the server's own description, against a real
server: none is answered by a failure.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from slem_app import phantom

SMALL = {"shape": (32, 36, 24), "spacing": (6.0, 6.0, 6.0)}
REAL = {
    "model": ["slem_brain", "slem_brain_clicks"],
    "image": ["ann", "ann/t2f", "ben"],
    "label": ["ann"],
    "id": ["ann"],
    "tag": ["final"],
    "strategy": ["first"],
}
WORK = ("/train", "/batch", "/scoring", "/slem/adapt")  # they start processes for every request that is right
CAUSES = {501, 503, 504, 507}  # not offered, too busy, took too long, disk full: told by their own text
SLOW = 60.0  # seconds


@pytest.fixture(scope="module")
def url(start_server: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    studies = tmp_path_factory.mktemp("studies")
    for number, name in enumerate(("ann", "ben"), 1):
        phantom.write_dicom(phantom.make(seed=number, **SMALL), studies, name)
    server = start_server(studies, "--conf", "score_load", "0")
    yield server.url
    assert server.process.poll() is None
    assert "Traceback" not in Path(server.log).read_text()


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "count", [pytest.param(500, marks=pytest.mark.e2e), pytest.param(5000, marks=pytest.mark.slow)]
)
def test_no_request_is_answered_by_a_failure(url: str, count: int) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [one.ok() for one in schema.get_all_operations()]
    operations = [one for one in operations if one.method.upper() == "GET" or not one.path.startswith(WORK)]
    assert len(operations) > 30
    told: dict[int, int] = {}
    for number, operation in enumerate(operations):
        each = -(-count // len(operations))

        @seed(number)
        @settings(
            max_examples=each,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(
            case=operation.as_strategy(), real=st.sets(st.sampled_from(sorted(REAL))), pick=st.integers(0, 5)
        )
        def ask(case: schemathesis.Case, real: set[str], pick: int) -> None:
            for name in real:  # some of the fields are right, so that the others are looked at
                for fields in (case.path_parameters, case.query):
                    if isinstance(fields, dict) and name in fields:
                        fields[name] = REAL[name][pick % len(REAL[name])]
            start = time.monotonic()
            answer = case.call(timeout=2 * SLOW)
            told[answer.status_code] = told.get(answer.status_code, 0) + 1
            assert answer.status_code < 500 or answer.status_code in CAUSES, (
                f"{case.method} {case.formatted_path} {case.query}: {answer.text}"
            )
            assert time.monotonic() - start < SLOW
            if answer.status_code >= 400 and case.method.upper() != "HEAD":
                assert set(json.loads(answer.text)) == {"error", "detail"}

        ask()
    sys.stderr.write(f"{sum(told.values())} requests, by status: {dict(sorted(told.items()))}\n")
    assert sum(told.values()) >= count * 0.8
    assert told.get(200, 0) > 20  # some were understood
    assert requests.get(f"{url}/info/", timeout=60).ok
