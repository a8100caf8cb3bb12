"""The command line's frame: quick, and errors that a person can read."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slem_app import __version__, cli
from slem_app.cli import commands, main
from slem_app.errors import BadStudy

PROJECT = Path(__file__).parents[2]
# each command's help, and what it is the first to load of what a help text needs not
HELPS = """
import contextlib, io, json, sys
from slem_app.cli import commands, main
seen, told = set(), {}
for name in commands():
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([name, "--help"])
    heavy = {"torch", "nibabel", "monai", "scipy", "pydicom", "numpy", "tqdm"} & set(sys.modules)
    told[name] = text.getvalue().strip(), sorted(heavy - seen)
    seen |= heavy
print(json.dumps(told))
"""


def test_every_command_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "predict" in commands()
    for name, line in commands().items():
        assert line.endswith("."), name
        assert f"  {name}" in out
        assert line in out


def test_without_a_command_tells_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: slem COMMAND" in capsys.readouterr().out


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from slem_app.cli import main; main(['--help']); sys.exit(bool({'torch', "
        "'nibabel', 'monai', 'scipy'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True).returncode == 0
    assert time.perf_counter() - start < 5  # seconds on a busy machine; 0.2 on an idle one


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predlct"]) == 2
    assert "unknown command 'predlct'; there are: " in capsys.readouterr().err


def test_a_users_mistake_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "fail_here.py").write_text(
        '"""A command."""\n'
        "from dataclasses import dataclass\n"
        "from slem_app.errors import BadStudy\n\n\n"
        "@dataclass\nclass FailHere:\n"
        '    """Fail."""\n\n'
        '    how: str = "badly"\n'
        '    """In which manner."""\n\n'
        '    def run(self):\n        raise BadStudy(f"went {self.how}") if self.how != "stop" else '
        "KeyboardInterrupt\n"
    )
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    assert commands() == {"fail-here": "Fail."}
    assert main(["fail-here", "--how", "wrong"]) == 2
    out, err = capsys.readouterr()
    assert err == "slem fail-here: went wrong\n"
    assert out == ""
    assert main(["fail-here", "--how", "stop"]) == 130
    assert issubclass(BadStudy, Exception)


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "somewhere", "--colour", "red"])
    assert stop.value.code == 2
    assert "colour" in capsys.readouterr().err


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slem_app.cli", "nothing"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown command 'nothing'" in done.stderr


def test_the_help_of_every_command_loads_nothing_heavy() -> None:
    ended = subprocess.run([sys.executable, "-c", HELPS], cwd=PROJECT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert set(told) == set(commands())
    for command, (text, heavy) in told.items():
        assert text.startswith(f"usage: slem {command}")
        assert not heavy, f"loaded for the help of {command}"


def test_a_wrong_model_is_named_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from slem_app.cli import main\n"
        f"code = main(['predict', {str(tmp_path)!r}, '--model', 'slem_brian'])\n"
        "assert not {'torch', 'nibabel', 'monai', 'scipy', 'pydicom'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "no model 'slem_brian'; known: " in ended.stderr
    assert "slem_brain" in ended.stderr


def test_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
