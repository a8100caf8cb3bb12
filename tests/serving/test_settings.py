"""The table of `--conf` as typed settings."""

from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.settings import Settings, parse_settings


def test_no_settings_are_the_defaults() -> None:
    assert parse_settings({}) == Settings()


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    conf = {
        "models": "a, b",
        "store": str(tmp_path),
        "threads": "2",
        "cache_mb": "64",
        "register": "true",
        "device": "cpu",
        "server_mode": "true",
    }
    settings = parse_settings(conf)
    assert parse_settings({"experts": "eva, tom"}).experts == ("eva", "tom")
    assert settings == Settings(
        models=("a", "b"), store=tmp_path, threads=2, cache_mb=64, register=True, device="cpu"
    )


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"spleen": "yes"}, "unknown settings spleen; known: models, models_dir, store"),
        ({"threads": "many"}, "setting threads cannot be 'many'"),
        ({"register": "perhaps"}, "setting register cannot be 'perhaps': expected true or false"),
        ({"cache_mb": "-1"}, "must not be negative"),
    ],
)
def test_bad_settings_are_named(conf: dict[str, str], text: str) -> None:
    with pytest.raises(BadSetting, match=text):
        parse_settings(conf)
