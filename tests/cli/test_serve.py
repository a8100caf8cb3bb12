"""`slem serve`: the command line of the server, the demo, what is said when it starts or does not."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.cli.serve import Serve, demo_studies, environment, reason_in, wait_until_ready
from slem_app.errors import BadSetting, NotFound, SlemError
from slem_app.grouping import group
from slem_app.studies import open_source
from slem_app.weights import find, load_card

ANSWERS = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path}).encode())
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_servers_command_line_says_it_all(tmp_path: Path) -> None:
    command = Serve(port=8123, host="0.0.0.0", store=tmp_path / "labels", conf={"threads": "2"}).command(
        str(tmp_path)
    )
    assert command[:3] == [sys.executable, "-m", "slem_app.serving"]
    pairs = dict(zip(command[3::2], command[4::2]))
    assert Path(pairs["--logs"]).name == "logs"
    assert (pairs["--studies"], pairs["--host"], pairs["--port"]) == (str(tmp_path), "0.0.0.0", "8123")
    assert command[-6:] == ["--conf", "threads", "2", "--conf", "store", str(tmp_path / "labels")]


def test_a_pacs_is_given_on_as_its_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    address = "http://pacs:8042/dicom-web"
    command = Serve(studies=address).command(address)
    assert command[command.index("--studies") + 1] == address
    assert str(tmp_path / "slem-label/pacs%3A8042%2Fdicom-web") in Serve(studies=address).advice(
        address, {"datastore": {"total": 1}, "models": {}}
    )


def test_certificate_and_key_go_to_uvicorn(tmp_path: Path) -> None:
    serve = Serve(host="0.0.0.0", ssl_certfile=tmp_path / "cert.pem", ssl_keyfile=tmp_path / "key.pem")
    pairs = dict(zip(serve.command(str(tmp_path))[3::2], serve.command(str(tmp_path))[4::2]))
    assert (pairs["--ssl-certfile"], pairs["--ssl-keyfile"]) == (
        str(tmp_path / "cert.pem"),
        str(tmp_path / "key.pem"),
    )
    assert serve.url == "https://127.0.0.1:8000"


def test_a_server_that_wants_a_log_in_is_ready(port: int) -> None:
    code = ANSWERS.replace("send_response(200)", "send_response(401)")
    with subprocess.Popen([sys.executable, "-c", code, str(port)]) as server:
        try:
            assert wait_until_ready(server, f"http://127.0.0.1:{port}", patience=30) is None
        finally:
            server.kill()


def test_listens_on_this_machine_alone_unless_told() -> None:
    assert Serve().host == "127.0.0.1"
    assert Serve().url == "http://127.0.0.1:8000"
    assert Serve(host="0.0.0.0").url == "http://127.0.0.1:8000"


def test_the_server_finds_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    found = environment()
    assert found["PYTHONPATH"].endswith(":/elsewhere")
    assert (Path(found["PYTHONPATH"].split(":")[0]) / "slem_app").is_dir()


def test_says_what_to_do_next(tmp_path: Path) -> None:
    info = {"datastore": {"total": 1}, "models": {"slem_brain": {}}}
    text = Serve().advice(str(tmp_path), info)
    for word in (
        "http://127.0.0.1:8000 with 1 case, models: slem_brain",
        "'Next Sample'",
        "'Submit Label'",
        str(tmp_path / ".slem"),
        "not for diagnostic use",
    ):
        assert word in text
    assert "asks for no password" not in text
    assert "asks for no password" in Serve(host="0.0.0.0").advice(str(tmp_path), info)
    text = Serve(host="0.0.0.0").advice(str(tmp_path), None)
    assert "ready at http://127.0.0.1:8000, readers log in." in text
    assert "travel unencrypted" in text
    assert "unencrypted" not in Serve(host="0.0.0.0", ssl_certfile=tmp_path / "c.pem").advice(
        str(tmp_path), None
    )
    assert str(tmp_path / "elsewhere") in Serve(store=tmp_path / "elsewhere").advice(str(tmp_path), info)


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_port_that_cannot_be_is_said_before_anything_is_made(port: int, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=f"--port {port}: a port is a number from 1 to 65535"):
        Serve(str(tmp_path), port=port).run()


def test_what_is_said_ends_with_the_three_addresses(tmp_path: Path) -> None:
    info = {"datastore": {"total": 1}, "models": {"slem_brain": {}}}
    lines = Serve(port=8123).advice(str(tmp_path), info).rstrip().splitlines()[-3:]
    assert [line.split()[-1] for line in lines] == [
        "http://127.0.0.1:8123/",
        "http://127.0.0.1:8123/ohif/",
        "http://127.0.0.1:8123",
    ]


@pytest.fixture
def small_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    head, abdomen = phantom.make, phantom.make_abdomen
    monkeypatch.setattr(
        phantom, "make", lambda **options: head(shape=(24, 28, 24), spacing=(6.0, 6.0, 6.0), **options)
    )
    monkeypatch.setattr(
        phantom, "make_abdomen", lambda **options: abdomen(spacing=(12.0, 12.0, 14.0), **options)
    )


def test_makes_each_demo_study_once(
    small_demo: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = demo_studies()
    assert open_source(folder).ids() == ("demo-1", "demo-2", "demo-abdomen")
    assert "Making demo-1, demo-2, demo-abdomen in" in capsys.readouterr().out
    shutil.rmtree(folder / "demo-abdomen")  # as after an older version, which had none
    monkeypatch.setattr(phantom, "make", lambda **options: pytest.fail("made twice"))
    assert demo_studies() == folder
    assert "Making demo-abdomen in" in capsys.readouterr().out
    assert demo_studies() == folder
    assert capsys.readouterr().out == ""
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


@pytest.mark.parametrize(
    ("case", "model"), [("demo-1", "slem_brain"), ("demo-2", "slem_brain"), ("demo-abdomen", "slem_abdomen")]
)
def test_each_demo_study_is_for_one_bundled_model(small_demo: None, case: str, model: str) -> None:
    found = set(group(open_source(demo_studies()).study(case)).sequences)
    cards = {name: load_card(find(name)) for name in ("slem_brain", "slem_abdomen")}
    assert [name for name, card in cards.items() if found & set(card.sequences)] == [model]
    assert found == set(cards[model].sequences)


def test_waits_until_the_server_answers(port: int) -> None:
    with subprocess.Popen([sys.executable, "-c", ANSWERS, str(port)]) as server:
        try:
            assert wait_until_ready(server, f"http://127.0.0.1:{port}", patience=30) == {"path": "/info/"}
        finally:
            server.kill()


SERVES = """
import os, sys
from dataclasses import dataclass
from pathlib import Path
from slem_app.cli import serve
serve.log_file = lambda: Path("serve.log").resolve()
@dataclass(frozen=True)
class Here(serve.Serve):
    def command(self, studies):
        return [sys.executable, "-c", os.environ["ANSWERS"], str(self.port)]
    def advice(self, studies, info):
        return "ready"
Here(studies=Path("."), port=int(sys.argv[1])).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_server_ends_with_the_command(number: signal.Signals, port: int, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    command, env = [sys.executable, "-c", SERVES, str(port)], {**environment(), "ANSWERS": ANSWERS}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as slem:
        try:
            while b"ready" not in slem.stdout.readline():
                assert slem.poll() is None
            slem.send_signal(number)
            slem.wait(20)
        finally:
            slem.kill()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        pass


def test_a_server_that_ends_is_told_with_its_reason(port: int, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "Traceback ...\nslem_app.errors.BadStudy: no studies found in x: seen "
        "holiday.txt\nApplication startup failed\n"
    )
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as server:
        server.wait()
        with pytest.raises(
            SlemError, match="the server ended while starting: no studies found in x: seen holiday.txt"
        ):
            wait_until_ready(server, f"http://127.0.0.1:{port}", log=tmp_path / "log")


def test_a_silent_server_is_given_up(port: int) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as server:
        try:
            with pytest.raises(SlemError, match="did not answer"):
                wait_until_ready(server, f"http://127.0.0.1:{port}", patience=0.5)
        finally:
            server.kill()


def test_the_reason_without_an_error_of_ours_is_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(map(str, range(20))))
    assert reason_in(tmp_path / "log").endswith("18\n19")
    assert reason_in(None) == "its output above says why"


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            BadSetting,
            match=f"cannot listen at 127.0.0.1:{port}: Address already in use; choose another with --port",
        ):
            Serve(port=port).run()


def test_a_folder_that_is_not_there_is_told(port: int, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder .*nowhere: give the folder that holds the studies"):
        Serve(studies=str(tmp_path / "nowhere"), port=port).run()


def test_never_imports_monai_label() -> None:
    code = (
        "import sys, json, slem_app.cli.serve; print(json.dumps([name for name in sys.modules if "
        "name.split('.')[0] in ('monailabel', 'torch', 'fastapi')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
