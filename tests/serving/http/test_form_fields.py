"""JSON in form fields: what is not JSON is refused with 400, as in bodies."""

import pytest

from slem_app.errors import SlemError
from slem_app.serving.http.form_fields import json_object, parse_fields


@pytest.mark.parametrize(
    "text", ['{"edema": [[NaN, 1, 2]]}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": "\\ud800"}', "{", "[]"]
)
def test_what_is_no_json_object_is_refused_with_400(text: str) -> None:
    for read in (parse_fields, lambda field: json_object(field, "info")):
        with pytest.raises(SlemError) as caught:
            read(text)
        assert caught.value.status == 400
