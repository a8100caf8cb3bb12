"""The pages for users with an organ or data of their own, followed word by word in an empty folder."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from slem_app.cli import main

ROOT = Path(__file__).parents[1]
STEP = re.compile(r"(?:`([\w./-]+)`[^`\n]*:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], list[str]]]:
    """Write the files and run the commands of a page, in their order; returns what each command printed."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(command: str) -> str:
        words = shlex.split(command)
        if words[:2] == [
            ".venv/bin/slem",
            "serve",
        ]:  # runs until it is stopped; what it serves is tested in tests/serving/test_two_models.py
            return command
        if words[0] != ".venv/bin/slem":
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout
        code = main(words[1:])
        told = capsys.readouterr()
        assert code == 0, f"{command}\n{told.out}\n{told.err}"
        return told.out

    def whole(page: str) -> list[str]:
        said = []
        for name, language, text in STEP.findall((ROOT / page).read_text(encoding="utf-8")):
            if language == "yaml":
                assert name, f"a file without a name: {text[:60]}"
                Path(name).write_text(text, encoding="utf-8")
            for line in text.splitlines() if language == "sh" else ():
                said += [run(part.strip()) for part in line.split(" && ")]
        return said

    yield whole
    torch.set_num_threads(threads)


def test_your_own_organ(follow: Callable[[str], list[str]], tmp_path: Path) -> None:
    _, before, after, trained, _, evaluated, *_ = follow("docs/your_own_organ.md")
    assert "3 shown: 3 with t2;" in before
    assert "an ADC map" in before
    assert "3 shown: 3 with t2 adc dwi; 3 with a label" in after
    assert "on 1 patients not trained on" in trained
    assert "peripheral zone" in evaluated
    assert (tmp_path / "results/demo-1.nii.gz").is_file()
    assert (tmp_path / "models/my_prostate/card.yaml").is_file()


def test_your_own_data(follow: Callable[[str], list[str]], tmp_path: Path) -> None:
    *_, inspected, trained, _, predicted = follow("docs/your_own_data.md")
    assert "3 shown: 3 with t1_in t1_out t2; 3 with a label" in inspected
    assert "sequences  t1_in t1_out t2" in predicted
    assert "on 1 patients not trained on (2):" in trained
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 2 * 4


def test_a_page_has_files_with_names_and_commands_that_are_known() -> None:
    for page in ("docs/your_own_organ.md", "docs/your_own_data.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for _, language, code in STEP.findall(text):
            for line in code.splitlines() if language == "sh" else ():
                first = shlex.split(line)[0]
                assert first == ".venv/bin/slem" or shutil.which(first), line
