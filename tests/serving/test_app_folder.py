"""The app's folder: one class a file, found by its base."""

from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.app_folder import APP, model_configs

CLASS = """
from slem_app.serving.server import ModelConfig

class {name}(ModelConfig):
    def infer(self):
        return self.name
"""


def app_with(folder: Path, **files: str) -> Path:
    (folder / "lib/configs").mkdir(parents=True)
    for name, text in files.items():
        (folder / "lib/configs" / f"{name}.py").write_text(text)
    return folder


def test_each_file_configures_the_model_of_its_name(tmp_path: Path) -> None:
    text = CLASS.format(name="First")
    found = model_configs(app_with(tmp_path, slem_b=text, slem_a=text, __init__=""))
    assert list(found) == ["slem_a", "slem_b"]
    assert found["slem_a"](None, "slem_a").infer() == "slem_a"
    assert found["slem_a"](None, "slem_a").trainer() is None


@pytest.mark.parametrize(("text", "count"), [("", 0), (CLASS.format(name="A") + CLASS.format(name="B"), 2)])
def test_a_file_without_one_class_is_told(text: str, count: int, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=rf"slem_a.py must have one class .* it has {count}"):
        model_configs(app_with(tmp_path, slem_a=text))


def test_the_bundled_app_offers_both_models_and_their_tools() -> None:
    models = ("slem_abdomen", "slem_brain")
    assert list(model_configs(APP)) == [
        f"{name}{tool}" for name in models for tool in ("", "_clicks", "_scribbles")
    ]
