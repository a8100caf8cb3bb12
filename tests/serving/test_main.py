"""How the server is started: what uvicorn is told."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from slem_app.errors import BadSetting
from slem_app.serving import __main__
from slem_app.serving.http.connections import Limits


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`started("--conf", ...)`: what uvicorn would be told."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: told.update(options, app=app))

    def start(*options: str) -> dict[str, Any]:
        __main__.main(["--studies", str(tmp_path), "--logs", str(tmp_path / "logs"), *options])
        return told

    return start


def test_no_proxy_is_believed_that_was_not_named(started: Any) -> None:
    assert started()["proxy_headers"] is False
    told = started("--conf", "proxies", "127.0.0.1, 10.1.0.0/16")
    assert (told["proxy_headers"], told["forwarded_allow_ips"]) == (True, ["127.0.0.1", "10.1.0.0/16"])
    assert told["http"].limits.is_exempt("10.1.2.3")
    assert not told["http"].limits.is_exempt("10.2.2.3")


def test_our_application_is_served_with_limits_and_an_end(started: Any) -> None:
    told = started("--conf", "connections", "7")
    assert isinstance(told["app"], Starlette)
    assert (told["ws"], told["server_header"], told["http"].limits.connections) == ("none", False, 7)
    assert 0 < told["timeout_graceful_shutdown"] < 10


@pytest.mark.parametrize("form", ["text", "json"])
def test_uvicorn_takes_what_it_is_told(started: Any, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told, configured = started("--conf", "log", form), []
    monkeypatch.setattr("logging.config.dictConfig", configured.append)
    uvicorn.Config(told.pop("app"), **told)
    assert configured == [told["log_config"]]
    assert ("pythonjsonlogger" in str(configured)) is (form == "json")


@pytest.mark.parametrize("files", [64, 1024, 10**6])
def test_connections_leave_files_for_the_work(files: int) -> None:
    limits = __main__.limits_of(__main__.Settings(), files)
    assert limits.all_connections <= max(10, files // 2)
    assert limits.connections <= limits.all_connections <= Limits.all_connections


@pytest.mark.parametrize("setting", [("proxies", "my-proxy"), ("connections", "0"), ("log", "xml")])
def test_a_setting_that_cannot_be_is_told_before_anything_starts(started: Any, setting: tuple) -> None:
    with pytest.raises(BadSetting, match=setting[0]):
        started("--conf", *setting)


def test_a_wrong_setting_is_told_before_what_is_slow_to_import(tmp_path: Path) -> None:
    code = "import sys; from slem_app.serving.__main__ import main\n"
    code += "try:\n    main(sys.argv[1:])\nexcept Exception as error:\n"
    code += "    print(error, *{'torch', 'numpy', 'fastapi'} & set(sys.modules), sep=' | ')"
    given = ["--studies", str(tmp_path), "--logs", str(tmp_path), "--conf", "thread", "2"]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True)
    assert "thread" in done.stdout
    assert "|" not in done.stdout  # none of them was loaded


def test_a_server_is_loaded_without_what_it_seldom_needs() -> None:
    seldom = {"monai", "scipy.stats", "scipy.spatial", "highdicom", "fpdf", "authlib", "SimpleITK", "zxcvbn"}
    code = "import sys; sys.modules['monailabel'] = None\n"
    code += f"import slem_app.serving.__main__, slem_app.serving.asgi; print(*{seldom} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
