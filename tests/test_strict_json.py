"""JSON of others: what could not be written out again is refused."""

import json

import pytest

from slem_app.errors import BadSetting, TooLarge
from slem_app.strict_json import DEEPEST, LARGEST, parse, parse_object


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        '{"a": [Infinity]}',
        "-Infinity",
        "1e999",
        "-1e999",
        "9" * 5000,
        "-" + "9" * 21,
        "0." + "1" * 200,
        r'"\ud800"',
        r'{"\udfff": 1}',
        r'[{"a": ["\ud83d"]}]',
        "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2),
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": 1, "a": 2}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        "",
        "{} {}",
        "{'a': 1}",
        '\ufeff"a"',
    ],
)
def test_what_cannot_be_written_out_again_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadSetting, match=r"^the field `params` "):
        parse(text, "the field `params`")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": [1, -2.5, None, True, "ä😀"]},
        [[1, 2, 3]] * 1000,
        2**63 - 1,
        -(2**63),
        1e308,
        0.1 + 0.2,
        "\x00\n",
    ],
)
def test_what_clients_send_is_read(value: object) -> None:
    assert parse(json.dumps(value), "it") == value
    assert parse(json.dumps(value, ensure_ascii=False).encode(), "it") == value


def test_levels_up_to_the_limit_are_read() -> None:
    text = "[" * DEEPEST + "]" * DEEPEST
    assert parse(text, "it") == json.loads(text)


def test_a_long_text_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match="the body has more than 4096 KiB: 4096 KiB came"):
        parse('"' + "a" * LARGEST, "the body")


def test_only_objects_where_one_is_needed() -> None:
    assert parse_object("", "it") == {}
    with pytest.raises(BadSetting, match="it must be a JSON object, got a list"):
        parse_object("[]", "it")


def test_error_texts_show_little_of_a_long_value() -> None:
    with pytest.raises(BadSetting) as caught:
        parse(json.dumps({"a": "\ud800" + "b" * 10_000}), "it")
    assert len(str(caught.value)) < 300
