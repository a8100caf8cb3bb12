"""Headers that no program writes, of what may be a segmentation."""

from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.errors import BadVolume
from slem_app.formats.seg_reader import read_seg
from slem_app.store.dicom_results import parse_result
from slem_app.weights import BRAIN_LABELS

KIND = b"\x08\x00\x16\x00UI"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    phantom.write_dicom(phantom.make(seed=1, shape=(10, 12, 8), spacing=(18.0,) * 3), tmp_path, "p")
    return sorted(tmp_path.rglob("*.dcm"))[0]


def test_a_class_of_an_unknown_kind_of_value_is_refused(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(KIND) == 1
    path.write_bytes(content.replace(KIND, KIND[:-2] + b"UA"))
    grid = phantom.make(seed=1, shape=(10, 12, 8), spacing=(18.0,) * 3).grid
    with pytest.raises(BadVolume):
        read_seg(path, grid, BRAIN_LABELS)
    with pytest.raises(BadVolume):
        parse_result(path.read_bytes())


def test_a_long_class_is_quoted_in_part(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(KIND) + len(KIND)
    size = int.from_bytes(content[at : at + 2], "little")
    path.write_bytes(content[:at] + (6000).to_bytes(2, "little") + b"1" * 6000 + content[at + 2 + size :])
    with pytest.raises(BadVolume) as raised:
        parse_result(path.read_bytes())
    assert len(str(raised.value)) < 500
    with pytest.raises(BadVolume) as raised:
        read_seg(path, phantom.make(seed=1, shape=(10, 12, 8), spacing=(18.0,) * 3).grid, BRAIN_LABELS)
    assert len(str(raised.value)) < 500
