"""The set-up: what is imported is declared and pinned, the pins answer to the ranges, and `make` finds a
Python or says what is missing.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slem_app import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
LOCKS = {  # file to the extras that it is for
    "requirements.txt": ("compressed", "seg", "serve", "viewer"),
    "requirements-monailabel.txt": ("compressed", "monailabel", "seg", "serve"),
    "requirements-test.txt": ("compressed", "monailabel", "pretrain", "seg", "serve", "test"),
    "requirements-train.txt": ("compressed", "pretrain"),
}
# what the wheel of MONAI Label asks for and never imports here
UNWANTED = {"itk", "mlflow", "pandas", "pyarrow", "sam2", "scikit-learn", "torchvision"}


def declared(*extras: str) -> list[Requirement]:
    """Requirements of the package itself and of some extras."""
    return [
        Requirement(text)
        for text in [
            *PROJECT["dependencies"],
            *(one for extra in extras for one in PROJECT["optional-dependencies"][extra]),
        ]
    ]


def pins(lock: str) -> list[Requirement]:
    """The lines of a lock file."""
    return [Requirement(line) for line in (ROOT / lock).read_text(encoding="utf-8").splitlines()]


def pinned(lock: str, python: str) -> dict[str, str]:
    """Package to version for one Python."""
    here = {"python_full_version": f"{python}.0", "python_version": python}
    chosen = [pin for pin in pins(lock) if pin.marker is None or pin.marker.evaluate(here)]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in chosen}
    assert len(versions) == len(chosen), f"a package is pinned twice for Python {python}"
    return versions


def imported(folder: Path) -> set[str]:
    """Top-level names of all absolute imports in a folder."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"slem_app"}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_every_range_is_pinned_within(lock: str, python: str) -> None:
    versions = pinned(lock, python)
    for wanted in declared(*LOCKS[lock]):
        assert versions[canonicalize_name(wanted.name)] in wanted.specifier, (
            f"{wanted} but {versions[canonicalize_name(wanted.name)]}"
        )


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_one_version_and_only_python_decides(lock: str) -> None:
    for pin in pins(lock):
        assert [part.operator for part in pin.specifier] == ["=="], str(pin)
        assert pin.url is None
        assert pin.marker is None or re.fullmatch(
            r"python_full_version (<|>=|==) \"3\.1[12](\.\*)?\"", str(Marker(str(pin.marker)))
        ), str(pin)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_agree(python: str) -> None:
    whole = pinned("requirements-test.txt", python)
    for lock in LOCKS:
        assert pinned(lock, python).items() <= whole.items(), lock


@pytest.mark.parametrize("lock", LOCKS)
def test_nothing_is_installed_that_only_the_wheel_of_monai_label_asks_for(lock: str) -> None:
    own = {"pyarrow"} if lock == "requirements-test.txt" else set()  # a table of an archive as Parquet
    assert not (UNWANTED - own) & {canonicalize_name(pin.name) for pin in pins(lock)}


def test_what_monai_label_imports_is_installed_only_for_its_own_command_line() -> None:
    needs = {
        canonicalize_name(Requirement(one).name) for one in PROJECT["optional-dependencies"]["monailabel"]
    }
    serving = pinned("requirements.txt", "3.13")
    assert "monailabel" in serving
    assert {"itk-core", "girder-client", "passlib"} <= needs - set(serving)
    assert needs <= set(pinned("requirements-monailabel.txt", "3.13"))


def test_a_training_machine_gets_nothing_of_the_server() -> None:
    assert not {"fastapi", "monailabel", "pytest"} & set(pinned("requirements-train.txt", "3.13"))


def test_the_package_declares_what_it_imports() -> None:
    brought = {"lib"}  # the app's own, as MONAI Label loads it
    by_name = {"cluster", "parquet", "test"}  # not there where nobody asks for them
    for wanted in declared(*(set(PROJECT["optional-dependencies"]) - by_name)):
        brought |= {file.parts[0].removesuffix(".py") for file in files(wanted.name) or ()}
    for name in imported(ROOT / "slem_app") | imported(ROOT / "apps"):
        assert name in brought, f"{name} is imported but pyproject.toml does not declare it"


def test_training_needs_nothing_of_the_server() -> None:
    server = {canonicalize_name(Requirement(one).name) for one in PROJECT["optional-dependencies"]["serve"]}
    both = {"scikit-image"}  # contours of the report's pictures there, supervoxels here
    assert server & {canonicalize_name(one.name) for one in declared("pretrain")} <= both
    assert {"torch", "numpy", "monai"} <= {one.name for one in declared()}


def test_nothing_needs_the_compiled_part_of_torchvision() -> None:
    assert "torchvision" not in imported(ROOT / "slem_app") | imported(ROOT / "apps")


def test_version_is_told_once() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert re.search(
        rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def find_python(folder: Path, **stand_ins: str) -> subprocess.CompletedProcess:
    """`make .venv/bin/python` where PATH has only these programs beside the shell's own; stand-ins are shell
    scripts.
    """
    shutil.copy(ROOT / "Makefile", folder)
    programs = folder / "bin"
    programs.mkdir()
    for tool in ("bash", "make", "mkdir", "touch", "cat"):
        (programs / tool).symlink_to(shutil.which(tool))
    for name, script in stand_ins.items():
        path = programs / name.replace("_", ".")
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)
    clean = {"PATH": str(programs), "HOME": str(folder)}
    return subprocess.run(
        [shutil.which("make"), ".venv/bin/python"],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stand_in(version: str, venv: bool = True) -> str:
    """A Python of that version as the Makefile sees it; it makes an environment by an empty file."""
    return f"""case "$*" in
      *version_info*) echo {version} ;;
      *"import ensurepip"*) {"true" if venv else "exit 1"} ;;
      "-m venv"*) mkdir -p .venv/bin && touch .venv/bin/python && echo {version} >made ;;
    esac"""


def test_make_takes_the_first_python_that_fits(tmp_path: Path) -> None:
    ended = find_python(
        tmp_path, python3=stand_in("3.15"), python3_12="exit 127", python3_11=stand_in("3.11")
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "made").read_text() == "3.11\n"


def test_make_says_which_python_is_needed(tmp_path: Path) -> None:
    ended = find_python(tmp_path, python3=stand_in("3.9"))
    assert ended.returncode != 0
    assert "Python 3.10 to 3.14 is needed; python3 is 3.9, so say where one is: make PYTHON=" in ended.stderr


def test_make_says_that_no_python_is_there(tmp_path: Path) -> None:
    assert "is needed; none was found, so say where one is" in find_python(tmp_path).stderr


def test_make_says_how_to_get_venv(tmp_path: Path) -> None:
    ended = find_python(tmp_path, python3=stand_in("3.10", venv=False))
    assert ended.returncode != 0
    assert "cannot make environments. Install its venv: sudo apt-get install python3.10-venv" in ended.stderr


@pytest.mark.parametrize(
    ("folder", "pins"), [(".ohif", "tests/e2e/ohif_app.sha512"), (".viewer", "clients/ohif/viewer.sha512")]
)
def test_a_viewer_that_is_not_the_pinned_one_is_not_taken(tmp_path: Path, folder: str, pins: str) -> None:
    file = (ROOT / pins).read_text(encoding="utf-8").split()[1]
    version = file.removeprefix("ohif-app-").removesuffix(".tgz")
    for name in ("Makefile", pins):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        f"#!{shutil.which('bash')}\n[ \"$*\" = 'pack --silent @ohif/app@{version}' ] && echo another "
        f">{file}\n"
    )
    npm.chmod(0o755)
    clean = {**os.environ, "PATH": f"{npm.parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["make", f"{folder}/.installed"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "checksum did NOT match" in ended.stderr
    assert not (tmp_path / folder / ".installed").exists()


def test_the_check_script_fails_when_a_step_fails(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text("check e2e:\n\t@true\ntest:\n\t@echo 1 failed; exit 1\n")
    (tmp_path / "dciodvfy").symlink_to(shutil.which("true"))  # so that nothing is to be installed
    clean = {**os.environ, "PATH": f"{os.environ['PATH']}:{tmp_path}"}
    ended = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "== make e2e" in ended.stdout
    assert "failed: test" in ended.stderr
