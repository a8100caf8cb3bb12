"""The command `slem`: one module a command, each with one dataclass whose fields are its options and whose
`run()` does the work.

A module `slem_app/cli/NAME.py` holds the class `Name` and thereby is the command `slem name`; nothing else
registers it. Only the chosen command's module is imported, so that `slem --help` answers at once although
some commands need torch.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from slem_app import __version__
from slem_app.errors import SlemError

__all__ = ["commands", "main"]


def commands() -> dict[str, str]:
    """Every command's name and its docstring's summary, read without importing it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == class_name(path.stem):
                summary = (ast.get_docstring(node) or "").partition("\n\n")[0]
                found[path.stem.replace("_", "-")] = " ".join(summary.split())
    return found


def class_name(module: str) -> str:
    """'predict' -> 'Predict', 'make_demo' -> 'MakeDemo'."""
    return "".join(word.capitalize() for word in module.split("_"))


def usage(found: dict[str, str]) -> str:
    """The text of `slem --help`."""
    width = max(len(name) for name in found) + 2
    rows = "\n".join(f"  {name:<{width}}{line}" for name, line in found.items())
    return (
        f"usage: slem COMMAND [options]\n       slem --version\n\n{rows}\n\n"
        "slem COMMAND --help explains the options of a command."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 2 something the caller can mend, 130 interrupted.

    Args:
        arguments: what follows `slem`; default: those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    found = commands()
    if not given or given[0] in ("-h", "--help"):
        print(usage(found))
        return 0 if given else 2
    if given[0] == "--version":
        print(__version__)
        return 0
    name, *rest = given
    if name not in found:
        print(f"slem: unknown command {name!r}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    stem = name.replace("-", "_")
    try:
        command = getattr(importlib.import_module(f"slem_app.cli.{stem}"), class_name(stem))
        import tyro  # half a second

        return tyro.cli(command, args=rest, prog=f"slem {name}").run() or 0
    except SlemError as error:
        print(f"slem {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"slem {name}: interrupted", file=sys.stderr)
        return 130
