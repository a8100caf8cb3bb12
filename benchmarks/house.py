"""How the sources are kept, before and now: rooms, cycles, types, lines, names, docstrings, size, and
how many files a request passes.

    python benchmarks/house.py --types --walks

Everything is counted from the sources of two commits, by the same code. `--types` runs mypy on both, with
today's settings. `--walks` starts a server of each and does four things with it; a file counts where a
function of it ran between the request and its answer (Python's own profiler says so, in every thread). Each
request is made twice, and what ran both times counts, so that background work is not in it.
"""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import tyro
from packaging.requirements import Requirement
from page import commit, table, where, write_page
from walks import Walk, walked

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "slem_app"
LONG_LINE, LONG_FILE, LONG_FUNCTION = 110, 400, 60
SHOWN = 12  # packages in the table of sizes


@dataclass(frozen=True)
class House:
    """Count both states and write the page."""

    before: str = "4f26672"
    """The older commit: by default, the one that the review of the sources was made at."""
    types: bool = False
    """Whether mypy is run, which takes minutes."""
    walks: bool = False
    """Whether servers are started and followed."""
    out: Path = PROJECT / "benchmarks" / "results" / "house.md"
    """Where the page goes."""

    def run(self) -> None:
        """Count, and write."""
        with tempfile.TemporaryDirectory(prefix="slem-house-") as folder:
            older = unpacked(self.before, Path(folder, "before"))
            trees = {f"before ({self.before})": older, f"now ({commit()})": PROJECT}
            parts = {name: Sources.read(tree / PACKAGE) for name, tree in trees.items()}
            lines = [*summary(parts, {n: type_errors(t) for n, t in trees.items()} if self.types else {})]
            lines += ["", "## Rooms", "", *rooms(parts)]
            if self.walks:
                lines += ["", "## Four walks", "", *walks({n: walked(t) for n, t in trees.items()})]
        lines += ["", "## Installed to serve", "", *installed(PROJECT / "requirements.txt")]
        head = [
            "# The house: how the sources are kept",
            "",
            f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {where()}.",
            "What is counted stands at the top of `benchmarks/house.py`.",
            "",
        ]
        print(write_page(self.out, "\n".join([*head, *lines]) + "\n"))


@dataclass(frozen=True)
class Sources:
    """All Python files of a package."""

    root: Path
    """The package's folder."""
    texts: dict[str, str]
    """Path below the root to content."""
    trees: dict[str, ast.Module]
    """Path below the root to syntax."""

    @classmethod
    def read(cls, root: Path) -> Sources:
        """The files below a folder."""
        texts = {
            path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(root.rglob("*.py"))
        }
        return cls(root, texts, {name: ast.parse(text) for name, text in texts.items()})

    def lines(self) -> list[str]:
        """Of all files."""
        return [line for text in self.texts.values() for line in text.splitlines()]

    def rooms(self) -> Counter[str]:
        """Files in each room: a folder, or a folder in `serving`; the rest is '(files)'."""
        return Counter(room(name) for name in self.texts)

    def functions(self) -> list[int]:
        """Lines of each function, without its decorators and docstring."""
        return [length(node) for tree in self.trees.values() for node in ast.walk(tree) if is_function(node)]

    def undocumented(self) -> tuple[int, int]:
        """Public modules, classes and functions without a docstring, and public methods without one."""
        names = methods = 0
        for path, tree in self.trees.items():
            if not path.endswith("__init__.py") or tree.body:
                names += ast.get_docstring(tree) is None
            for node in tree.body:
                if is_public(node):
                    names += ast.get_docstring(node) is None
                if isinstance(node, ast.ClassDef) and is_public(node):
                    methods += sum(is_public(m) and ast.get_docstring(m) is None for m in node.body)
        return names, methods

    def twice(self) -> tuple[list[str], list[str]]:
        """Public class names and file names that stand for more than one thing."""
        classes = Counter(
            node.name
            for tree in self.trees.values()
            for node in tree.body
            if isinstance(node, ast.ClassDef) and is_public(node)
        )
        files = Counter(Path(name).name for name in self.texts if not Path(name).name.startswith("__"))
        return tuple(sorted(n for n, count in found.items() if count > 1) for found in (classes, files))

    def untyped(self, *, beyond_http: bool = False) -> int:
        """Places that say `dict[str, Any]`; beyond HTTP: those in `serving`, but not in the rooms that speak
        with clients in JSON.
        """
        speaks = ("serving/http/", "serving/monai/", "serving/nninteractive/")
        return sum(
            len(re.findall(r"\b[Dd]ict\[str, Any\]", text))
            for name, text in self.texts.items()
            if not beyond_http or (name.startswith("serving/") and not name.startswith(speaks))
        )

    def imports(self, nodes: Callable[[ast.AST], Iterable[ast.AST]] | None = None) -> dict[str, set[str]]:
        """Which files each imports, lazily or not; without those for type checking alone, unless `nodes`
        gives them.
        """
        modules, nodes = {dotted(name): name for name in self.texts}, nodes or running
        return {name: set(imported(nodes(tree), modules)) - {name} for name, tree in self.trees.items()}


def summary(parts: dict[str, Sources], errors: dict[str, int]) -> list[str]:
    """The table of figures."""
    rows: list[list[str]] = []
    for told in parts.values():
        names, methods = told.undocumented()
        classes, files = told.twice()
        arrows = told.imports()
        functions, widths = told.functions(), [len(line) for line in told.lines()]
        near: dict[str, set[str]] = {}
        for file, others in arrows.items():
            near.setdefault(subject(file), set()).update({*map(subject, others)} - {subject(file)})
        figures = {
            "files": len(told.texts),
            "lines": len(widths),
            "files in the fullest room": told.rooms().most_common(1)[0][1],
            f"files of more than {LONG_FILE} lines": sum(
                len(text.splitlines()) > LONG_FILE for text in told.texts.values()
            ),
            f"lines longer than {LONG_LINE} characters": sum(n > LONG_LINE for n in widths),
            "longest line": max(widths),
            "functions": len(functions),
            "lines of a function, median": int(statistics.median(functions)),
            f"functions of more than {LONG_FUNCTION} lines": sum(n > LONG_FUNCTION for n in functions),
            "files in circles of imports": circles(arrows),
            "the same, imports for type checking included": circles(told.imports(ast.walk)),
            "rooms in circles of imports": circles(near),
            "`dict[str, Any]`": told.untyped(),
            "the same in `serving`, beyond the rooms that speak JSON": told.untyped(beyond_http=True),
            "public modules, classes, functions without docstring": names,
            "public methods without docstring": methods,
            "public class names with two meanings": f"{len(classes)}",
            "file names that stand twice": f"{len(files)}",
        }
        rows = rows or [[name] for name in figures]
        for row, value in zip(rows, figures.values(), strict=True):
            row.append(str(value))
    if errors:
        rows.append(["errors of mypy with today's settings", *map(str, errors.values())])
    return table(["", *parts], rows)


def rooms(parts: dict[str, Sources]) -> list[str]:
    """Files in each room, before and now."""
    counts = [told.rooms() for told in parts.values()]
    names = sorted(set().union(*counts))
    return table(
        ["room", *parts], [[f"`{name}`", *(str(one[name] or "-") for one in counts)] for name in names]
    )


def walks(found: dict[str, dict[str, Walk]]) -> list[str]:
    """How many files each thing passes, and which rooms they lie in."""
    lines = []
    first = next(iter(found.values()))
    rows = [[thing, *(str(len(one[thing].files)) for one in found.values())] for thing in first]
    lines += table(["files that it passes", *found], rows)
    now = list(found.values())[-1]
    for thing, walk in now.items():
        lines += ["", f"**{thing}**, now: " + ", ".join(f"`{name}`" for name in walk.files) + "."]
    return lines


def installed(lock: Path) -> list[str]:
    """Size of what a lock names, by package, as it lies in this environment."""
    sizes: dict[str, int] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate():
            try:
                files = distribution(pin.name).files or []
            except PackageNotFoundError:
                continue
            places = [Path(str(file.locate())) for file in files]
            sizes[f"{pin.name} {distribution(pin.name).version}"] = sum(
                place.stat().st_size for place in places if place.is_file()
            )
    largest = sorted(sizes.items(), key=lambda pair: -pair[1])
    rows = [[name, f"{size / 1e6:.0f}"] for name, size in largest[:SHOWN]]
    rest = sum(size for _, size in largest[SHOWN:])
    rows += [
        [f"{len(sizes) - SHOWN} others", f"{rest / 1e6:.0f}"],
        [f"**all {len(sizes)}**", f"**{sum(sizes.values()) / 1e6:.0f}**"],
    ]
    return table(["package of `requirements.txt`", "MB"], rows)


def type_errors(tree: Path) -> int:
    """How many errors mypy finds, with today's settings."""
    words = ["-m", "mypy", "--config-file", str(PROJECT / "pyproject.toml"), "--no-error-summary"]
    done = subprocess.run([sys.executable, *words], cwd=tree, capture_output=True, text=True, check=False)
    if done.stderr.strip():
        raise SystemExit(f"mypy failed in {tree}: {done.stderr.strip()}")
    return sum(": error: " in line for line in done.stdout.splitlines())


def unpacked(state: str, folder: Path) -> Path:
    """The sources of a commit, in a folder."""
    folder.mkdir(parents=True)
    with (folder.parent / "archive.tar").open("wb") as archive:
        subprocess.run(["git", "archive", state], cwd=PROJECT, stdout=archive, check=True)
    with tarfile.open(folder.parent / "archive.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


def room(path: str) -> str:
    """'finetune', 'serving/http', or '(files)'."""
    parts = path.split("/")[:-1]
    return "/".join(parts[: 2 if parts[0] == "serving" else 1]) if parts else "(files)"


def subject(path: str) -> str:
    """The room, or the file where it lies in none: 'finetune', 'serving/http', 'types'."""
    parts = path.removesuffix(".py").split("/")
    return "/".join(parts[: 2 if parts[0] == "serving" else 1])


def dotted(path: str) -> str:
    """'studies/open.py' as 'slem_app.studies.open'."""
    parts = [PACKAGE, *path.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(nodes: Iterable[ast.AST], modules: dict[str, str]) -> Iterator[str]:
    """The files that one imports."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if found := modules.get(name) or modules.get(name.rpartition(".")[0]):
                yield found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from running(child)


def circles(arrows: dict[str, set[str]]) -> int:
    """How many nodes lead back to themselves."""
    return sum(start in reached(start, arrows) for start in arrows)


def reached(start: str, arrows: dict[str, set[str]]) -> set[str]:
    """All nodes that can be reached by one arrow or more."""
    seen: set[str] = set()
    waiting = list(arrows[start])
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += arrows.get(node, ())
    return seen


def is_function(node: ast.AST) -> bool:
    """A `def`, asynchronous or not."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def is_public(node: ast.AST) -> bool:
    """A class or function whose name has no underscore in front."""
    return (is_function(node) or isinstance(node, ast.ClassDef)) and not node.name.startswith("_")


def length(node: ast.FunctionDef) -> int:
    """Lines of a function's body but for its docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    tyro.cli(House).run()
