import json
import re
from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.result_warning import OF_ONE_RESULT, WARNINGS, ResultWarning, lasting, read_warnings


def test_a_warning_survives_json() -> None:
    given = (ResultWarning("nothing-found", "nothing"), ResultWarning("sequence-cut", "t2f is cut"))
    assert read_warnings(json.loads(json.dumps([one.table() for one in given]))) == given


@pytest.mark.parametrize(
    ("code", "text"), [("", "x"), ("Two Words", "x"), ("two--hyphens", "x"), ("nothing-found", " ")]
)
def test_a_warning_without_code_or_text_is_refused(code: str, text: str) -> None:
    with pytest.raises(BadSetting, match="a warning needs a code"):
        ResultWarning(code, text)


@pytest.mark.parametrize("rows", [[{}], [3], [{"code": "nothing-found"}], 7])
def test_rows_that_are_no_warnings_are_refused(rows: object) -> None:
    with pytest.raises(BadSetting, match="warnings"):
        read_warnings(rows)


def test_what_speaks_of_one_result_ends_with_it() -> None:
    assert set(WARNINGS) > OF_ONE_RESULT
    study = ResultWarning("edema-not-assessable", "no edema")
    assert lasting((ResultWarning("small-result", "small"), study)) == (study,)


def test_the_documentation_lists_every_code() -> None:
    text = (Path(__file__).parents[1] / "docs/warnings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", text, re.MULTILINE))
    assert {code: rows.get(code) for code in WARNINGS} == dict(WARNINGS)
