"""The table of `--conf` as typed settings."""

from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.settings import Environment, Settings, parse_settings, read_environment


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


def test_the_environment_is_read_in_monai_labels_words(tmp_path: Path) -> None:
    empty = read_environment({})
    assert (empty.session_expiry, empty.origins) == (3600, ())
    assert empty.sessions == Path.home() / ".cache/monailabel/sessions"
    given = {"SESSION_PATH": str(tmp_path), "SESSION_EXPIRY": "60", "CORS_ORIGINS": '["https://a.example/"]'}
    found = read_environment({f"MONAI_LABEL_{name}": value for name, value in given.items()})
    assert found == Environment(tmp_path, 60, ("https://a.example",))


@pytest.mark.parametrize(
    ("name", "value"),
    [("CORS_ORIGINS", "https://a.example"), ("CORS_ORIGINS", "[1]"), ("SESSION_EXPIRY", "soon")],
)
def test_a_variable_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"MONAI_LABEL_{name} must be"):
        read_environment({f"MONAI_LABEL_{name}": value})
