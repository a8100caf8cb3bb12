"""Temporary files of a server that was killed are taken away by the next one."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from slem_app.serving.temporary import own_folder
own_folder()
tempfile.mkstemp(prefix="upload")
print(tempfile.gettempdir(), flush=True)
time.sleep(float(sys.argv[2]))
"""


def server(folder: Path, seconds: float) -> tuple[subprocess.Popen, Path]:
    command = [sys.executable, "-c", SERVER, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_server_left_is_swept_and_what_a_running_one_has_is_not(tmp_path: Path) -> None:
    killed, first = server(tmp_path, 600)
    running, second = server(tmp_path, 600)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(list(first.iterdir())) == 1
        third, folder = server(tmp_path, 0)
        third.wait()
        assert not first.exists()
        assert len(list(second.iterdir())) == 1
        assert not folder.exists()  # it ended by itself
        assert folder.parent == tmp_path
        assert tempfile.gettempdir() != str(folder)
    finally:
        for process in (killed, running, third):
            process.kill()
            process.wait()
            process.stdout.close()
