"""What the site has beyond the pages of `docs`.

The project's other pages (CHANGELOG.md, benchmarks/results/...) are put under `project/`, the models are told
as in their cards, and the notebook becomes a page with its saved output. Links between all of them are turned
to where they are in the site. A link to a file that is no page, such as a source file, becomes its plain
path: the site holds no sources.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import runpy
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "apps/slem/README.md",
    "benchmarks/*.md",
    "benchmarks/folds/*.md",
    "benchmarks/results/*.md",
    "pretrained/README.md",
)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|`[^`]*`)*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of `docs`, and the models."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            name = f"project/{path.relative_to(ROOT).as_posix()}"
            files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    made = runpy.run_path(str(Path(__file__).with_name("generated.py")))
    files.append(File.generated(config, "models.md", content=made["models_page"]()))
    text, pictures = notebook(ROOT / "docs" / "tutorial.ipynb")
    files.append(File.generated(config, "tutorial.md", content=text))
    for name, data in pictures.items():
        files.append(File.generated(config, name, content=data))
    return files


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook's cells with their saved output as Markdown, and the pictures that it shows."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![what the cell shows]({name})")
            else:
                told = "".join(output.get("text") or data["text/plain"])
                parts.append(f"```text\n{told.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of one page, but for those in blocks of code."""
    here = in_project(page.file.src_uri)
    known = {in_project(file.src_uri): file.src_uri for file in files.documentation_pages()}
    known["docs/tutorial.ipynb"] = "tutorial.md"

    def turned(found: re.Match[str]) -> str:
        picture, text, address = found.groups()
        target, _, part = address.partition("#")
        if picture or "://" in address or not target or address.startswith("mailto:"):
            return found[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if wanted not in known:
            return text if wanted.endswith(text.strip("`")) else f"{text} (`{wanted}`)"
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"[{text}]({posixpath.relpath(known[wanted], start)}{'#' + part if part else ''})"

    parts, last = [], 0
    for block in CODE.finditer(markdown):
        parts += [LINK.sub(turned, markdown[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*parts, LINK.sub(turned, markdown[last:])])


def in_project(uri: str) -> str:
    """Where a page of the site lies in the project."""
    return uri.removeprefix("project/") if uri.startswith("project/") else f"docs/{uri}"
