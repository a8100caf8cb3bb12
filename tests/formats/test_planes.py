"""Headers of which no plane can be made."""

from pathlib import Path

import pytest

from slem_app import phantom
from slem_app.errors import BadVolume
from slem_app.formats.planes import frame_plane, open_dicom


@pytest.mark.parametrize("kind", [b"DW", b"XX", b"SQ"])
def test_a_position_of_another_kind_of_value_is_refused(tmp_path: Path, kind: bytes) -> None:
    phantom.write_dicom(phantom.make(seed=1, shape=(10, 12, 8), spacing=(18.0,) * 3), tmp_path, "p")
    path = sorted(tmp_path.rglob("*.dcm"))[0]
    content, position = path.read_bytes(), b"\x20\x00\x32\x00"
    assert content.count(position + b"DS") == 1
    path.write_bytes(content.replace(position + b"DS", position + kind))
    with pytest.raises(BadVolume, match="no readable|not a readable DICOM file"):
        frame_plane(open_dicom(path))
