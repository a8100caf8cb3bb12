"""The pages that are made from the code and the cards: settings of the server, models.

    python docs/site/generated.py          writes docs/settings.md
    python docs/site/generated.py --check  ends with 1 where that page is not what it would write

A test calls the second, so the page is never older than the settings. The models' page is made while the site
is built (`docs/site/hook.py`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "slem_app" / "serving" / "settings.py"

SETTINGS_HEAD = """# Settings of the server

Give a setting with `--conf KEY VALUE`, as often as needed:

```text
slem serve --studies DIR --conf threads 4 --conf experts eva,tom
```

The server refuses to start with an unknown key or a value that it cannot read, and says which it takes.
This page is made from `slem_app/serving/settings.py` by `docs/site/generated.py`.

| key | default | meaning |
|---|---|---|
"""

MODELS_HEAD = """# Models

The models that come with the project, each as its card describes it. The card lies beside the weights in
`pretrained/NAME`; a weight file that does not match its card is refused. This page is made from the cards by
`docs/site/generated.py`.
"""


def settings_page() -> str:
    """A row for each field of `Settings`, in the order of the source."""
    tree = ast.parse(SETTINGS.read_text(encoding="utf-8"))
    (settings,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    rows = []
    for field, text in zip(settings.body, settings.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert field.value is not None, f"{field.target.id} has no default"
            rows.append(
                f"| `{field.target.id}` | {_default(ast.literal_eval(field.value))} | {_docstring(text)} |"
            )
    return SETTINGS_HEAD + "\n".join(rows) + "\n"


def _docstring(node: ast.stmt) -> str:
    assert isinstance(node, ast.Expr), "a field without a docstring"
    assert isinstance(node.value, ast.Constant), "a field without a docstring"
    return " ".join(str(node.value.value).split()).replace("|", "\\|")


def _default(value: object) -> str:
    if value in (None, "", ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def models_page() -> str:
    """A section for each folder of `pretrained`."""
    sections = []
    for path in sorted((ROOT / "pretrained").glob("*/card.yaml")):
        sections.append(_segmenter(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent))
    for path in sorted((ROOT / "pretrained").glob("*/detail.yaml")):
        sections.append(_segmenter(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent))
    for path in sorted((ROOT / "pretrained").glob("*/encoder.yaml")):
        sections.append(_encoder(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent))
    for path in sorted((ROOT / "pretrained").glob("*/mask.yaml")):
        sections.append(_brain_mask(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent))
    for path in sorted((ROOT / "pretrained").glob("*/names.yaml")):
        sections.append(_names(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent))
    for path in sorted((ROOT / "pretrained").glob("*/editor.yaml")):
        sections.append(_editor(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent))
    return MODELS_HEAD + "".join(sections)


def _segmenter(card: Mapping[str, Any], folder: Path) -> str:
    labels = ", ".join(f"{label['name']} ({label['value']})" for label in card["labels"]["labels"])
    network = card["network"]
    rows = [
        ("segments", labels),
        ("sequences", ", ".join(f"`{name}`" for name in card["sequences"])),
        ("grid of the network", f"{' x '.join(f'{size:g}' for size in card['preparation']['spacing'])} mm"),
        ("network", f"channels {_listed(network['channels'])}; context block: {network['context']}"),
        ("clicks and scribbles", "yes" if network["prompts"] else "no"),
        ("trained from", card["parent"] or "scratch"),
        ("training data", card["data"]),
        ("terms", card["terms"]),
        ("training", card["training"]),
        ("use", card["use"]),
    ]
    return _section(folder.name, card, rows) + _figures(card["figures"])


def _encoder(card: Mapping[str, Any], folder: Path) -> str:
    rows = [
        ("what", "an encoder without a segmentation head: a start for `slem finetune --parent`"),
        ("sequences", ", ".join(f"`{name}`" for name in card["sequences"])),
        ("training data", card["data"]),
        ("terms", card["terms"]),
        ("training", card["training"]),
    ]
    return _section(folder.name, card, rows) + _figures(card.get("figures", {}))


def _brain_mask(card: Mapping[str, Any], folder: Path) -> str:
    rows = [
        ("what", "the brain mask with which a study of a whole head is prepared for the models"),
        ("network", card["name"]),
        ("training data", card["data"]),
        ("terms", card["terms"]),
        ("training", card["training"]),
    ]
    return _section(folder.name, card, rows) + _figures(card["figures"])


def _names(card: Mapping[str, Any], folder: Path) -> str:
    rows = [
        ("what", "names a sequence by its looks, where names and headers leave it open"),
        ("training data", card["data"]),
        ("terms", card["terms"]),
        ("training", card["training"]),
    ]
    return _section(folder.name, card, rows) + _figures(card["figures"])


def _editor(card: Mapping[str, Any], folder: Path) -> str:
    rows = [
        ("what", "an editor: answers the clicks of a model whose card names it"),
        ("sequences", ", ".join(f"`{name}`" for name in card["sequences"])),
        ("training data", card["data"]),
        ("terms", card["terms"]),
        ("training", card["training"]),
    ]
    return _section(folder.name, card, rows) + _figures(card["figures"])


def _section(name: str, card: Mapping[str, Any], rows: Sequence[tuple[str, str]]) -> str:
    table = "\n".join(f"| {what} | {' '.join(str(text).split())} |" for what, text in rows if text)
    description = " ".join(card.get("description", "").split())
    return f"\n## {name} {card['version']}\n\n{description}\n\n| | |\n|---|---|\n{table}\n"


def _figures(figures: Mapping[str, Any]) -> str:
    if not figures:
        return ""
    rows = "\n".join(f"| {name} | {value:g} |" for name, value in figures.items())
    return f"\n| figure | value |\n|---|---|\n{rows}\n"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def main(words: Sequence[str]) -> int:
    """Write the page of the settings, or with `--check` say whether it is old."""
    path, text = ROOT / "docs" / "settings.md", settings_page()
    if "--check" not in words:
        path.write_text(text, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{path.relative_to(ROOT)} is old: run python docs/site/generated.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
