"""Two servers never share a store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.store.lock import StoreLock

SERVE = (
    "import sys; from pathlib import Path; from slem_app.store.lock import StoreLock; "
    "StoreLock(Path(sys.argv[1])).take(); print('serves', flush=True); sys.stdin.read()"
)


def test_a_second_server_is_refused_and_told_whose_store_it_is(tmp_path: Path) -> None:
    first, second = StoreLock(tmp_path / "store"), StoreLock(tmp_path / "store")
    assert not first.held()
    first.take()
    first.take()  # its own
    assert second.held()
    with pytest.raises(BadSetting, match=f"process {os.getpid()} on .* already serves the store .*store DIR"):
        second.take()
    StoreLock(tmp_path / "another").take()
    first.release()
    second.take()


def test_a_server_that_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "serves\n"
        with pytest.raises(BadSetting, match=f"process {server.pid}"):
            StoreLock(tmp_path).take()
    finally:
        server.kill()
        server.communicate()
    StoreLock(tmp_path).take()
