"""The site: its generated pages are current, its navigation is whole, and the notebook runs."""

import contextlib
import io
import json
import runpy
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[1]


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name Python objects."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)


def navigation(entry: object) -> list[str]:
    """The pages of an entry of mkdocs.yml's `nav`, and of those below it."""
    if isinstance(entry, str):
        return [entry]
    below = entry.values() if isinstance(entry, dict) else entry
    return [page for one in below for page in navigation(one)]


def test_the_settings_page_is_what_the_settings_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "site" / "generated.py"))
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == made["settings_page"]()


def test_every_setting_is_on_the_settings_page() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for key in ("models", "store", "upload_mb", "oidc_passwords"):
        assert f"| `{key}` |" in text


def test_the_models_page_has_every_bundled_model_and_its_figures() -> None:
    text = runpy.run_path(str(ROOT / "docs" / "site" / "generated.py"))["models_page"]()
    for folder in (path for path in (ROOT / "pretrained").iterdir() if path.is_dir()):
        assert f"\n## {folder.name} " in text
    card = yaml.safe_load((ROOT / "pretrained/slem_brain/card.yaml").read_text(encoding="utf-8"))
    assert card["figures"]
    for name in card["figures"]:
        assert f"| {name} |" in text


def test_every_page_is_in_the_navigation() -> None:
    listed = navigation(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"])
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    results = {f"project/{path.relative_to(ROOT)}" for path in (ROOT / "benchmarks").rglob("*.md")}
    assert (pages | results) - set(listed) == set()
    assert len(listed) == len(set(listed))


@pytest.mark.e2e
def test_the_notebook_runs_and_tells_what_it_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names: dict[str, object] = {}
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(compile("".join(cell["source"]), f"cell {number} of tutorial.ipynb", "exec"), names)
        for output in cell["outputs"]:
            if output["output_type"] == "stream" and "voxels changed" not in "".join(output["text"]):
                assert told.getvalue() == "".join(output["text"])
    torch.set_num_threads(threads)
    assert names["unseen"].array.shape == names["heads"][2].labels.shape
    assert names["corrected"].prediction.array[tuple(names["voxel"])] == 2
    assert (tmp_path / "tutorial/run/model/card.yaml").is_file()
