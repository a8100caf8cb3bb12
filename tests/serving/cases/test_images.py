"""Ids of uploaded images: none that is a path, hidden, or an option of a command."""

from pathlib import Path

import pytest

from slem_app.errors import BadSetting
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.images import keep_upload


@pytest.mark.parametrize(
    "name", ["--tag=final", "-x", ".hidden", "../a", "a/b", "a\\b", "a\nb", "", "x" * 900_000]
)
def test_an_id_that_is_a_path_or_an_option_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "studies").mkdir()
    cases = Cases(tmp_path / "studies", tmp_path / "uploads")
    with pytest.raises(BadSetting, match="neither a dot nor a hyphen at the start") as caught:
        keep_upload(cases, name, tmp_path / "a.nii.gz")
    assert len(str(caught.value)) < 500
