"""Two servers on one store: the second says whose it is and does not start, the first notices nothing."""

import gzip
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from slem_app import phantom
from tests.e2e.conftest import PATIENCE, PROJECT, server_command
from tests.e2e.slicer_client import untrained

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_a_second_server_does_not_start_before_the_first_is_gone(
    start_server: Callable, tmp_path: Path
) -> None:
    studies, made = tmp_path / "studies", phantom.make(seed=1, shape=(32, 36, 24), spacing=(6.0,) * 3)
    phantom.write_nifti(made, studies, "A", labels=False)
    models = ("--conf", "models_dir", str(untrained(tmp_path / "models")), "--conf", "models", "slem_brain")
    options = (*models, "--conf", "score_load", "0")
    first = start_server(studies, *options)
    held = (studies / ".slem/server.lock").read_text()
    second = subprocess.run(
        server_command(studies, 0, *options),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        check=False,
    )
    assert second.returncode != 0
    said = second.stdout + second.stderr
    assert (
        f"another server (process {first.process.pid} on {os.uname().nodename}) already serves the store "
        f"{studies / '.slem'}: stop it, or give this one another folder with `--conf store DIR`"
    ) in said, said[-3000:]
    assert (studies / ".slem/server.lock").read_text() == held
    label = gzip.compress(nibabel.Nifti1Image(made.labels.astype(np.uint8), made.grid.affine).to_bytes())
    answer = requests.put(
        f"{first.url}/datastore/label?image=A", files={"label": ("label.nii.gz", label)}, timeout=120
    )
    assert answer.status_code == 200, answer.text
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    third = start_server(studies, *options)
    assert f"process {third.process.pid} on" in (studies / ".slem/server.lock").read_text()
    assert len(requests.get(f"{third.url}/slem/labels", timeout=60).json()) == 1
