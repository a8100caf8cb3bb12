"""The documents tell the truth: commands exist, named files exist, code blocks run, the table of layers is
the one that is checked.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            path
            for folder in ("apps", "benchmarks", "docs", "pretrained")
            for path in (ROOT / folder).rglob("*.md")
        ),
    ]
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    """Every fenced block of that language, with the document as its test id."""
    found = []
    for document in DOCUMENTS:
        for number, (written, text) in enumerate(FENCE.findall(document.read_text(encoding="utf-8")), 1):
            if written == language:
                found.append(pytest.param(text, id=f"{document.relative_to(ROOT)}:{number}"))
    return found


def table(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    text = (ROOT / document).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    first = re.search(r"(?:^\|.+\|\n)+", text.partition("\n## ")[0], re.MULTILINE)
    rows = first[0].splitlines()[2:] if first else []
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(
        re.findall(r"^([a-z0-9]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_commands_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(block for _, block in FENCE.findall(text))])
    assert set(re.findall(r"\bmake ([a-z0-9]+)", code)) <= targets()


def test_readme_names_the_commands_to_serve_and_to_test() -> None:
    commands = re.findall(r"\bmake ([a-z0-9]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"serve", "test"} <= set(commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_slem_commands_exist(document: Path) -> None:
    commands = set(re.findall(r"`(?:\.venv/bin/)?slem ([a-z][a-z-]*)", document.read_text(encoding="utf-8")))
    assert all(
        (ROOT / "slem_app" / "cli" / f"{command.replace('-', '_')}.py").is_file() for command in commands
    ), commands


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_place_to_change_something_exists() -> None:
    rows = table("docs/architecture.md", "To change X, open Y")
    assert len(rows) > 10
    for change, places in rows:
        paths = [path for path in re.findall(r"`([^`]+)`", places) if path != "card.yaml"]
        assert paths or "card.yaml" in places, change
        assert [path for path in paths if not (ROOT / path).exists()] == [], change


def test_table_of_layers_is_the_one_that_is_checked() -> None:
    told: dict[int, set[str]] = {}
    for layer, modules, _purpose in table("docs/architecture.md", "Layers"):
        told.setdefault(int(layer), set()).update(re.findall(r"`(\w+)`", modules))
    modules = modules_in(ROOT / "slem_app")
    layers = enumerate(checked_layers("LAYERS"), 1)
    assert told == {layer: names & modules for layer, names in layers if names & modules}


def test_table_of_the_rooms_of_serving_is_the_one_that_is_checked() -> None:
    told: dict[int, set[str]] = {}
    for layer, rooms, _purpose in table("docs/architecture.md", "The rooms of `serving`"):
        told.setdefault(int(layer), set()).update(re.findall(r"`(\w+)`", rooms))
    assert told == dict(enumerate(checked_layers("SERVING"), 1))


def checked_layers(name: str) -> list[set[str]]:
    """A table of `test_architecture.py`."""
    source = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    return next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )


def modules_in(folder: Path) -> set[str]:
    """Names of a package's own modules."""
    return {
        path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"__init__"}


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, tmp_path: Path) -> None:
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_first_screen_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = [block for language, block in FENCE.findall(text) if language == "python"]
    assert len(code.strip().splitlines()) <= 10
    assert len(text.splitlines()) <= 60
