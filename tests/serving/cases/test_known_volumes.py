"""Volumes that clients send are recognised by their voxels."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app import phantom
from slem_app.serving.cases import known_volumes
from slem_app.serving.cases.axis_order import AxisOrder
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.cases.known_volumes import KnownVolume, KnownVolumes, Storage
from slem_app.volumes.read import read


@pytest.fixture
def known(cases: Cases, tmp_path: Path) -> KnownVolumes:
    return KnownVolumes(cases, tmp_path / "store/index/volumes.sqlite")


def array(cases: Cases, name: str) -> np.ndarray:
    case = cases.find(name)
    return read(case.series).array


@pytest.mark.parametrize("name", ["A/t1n", "A/t2f", "B/t1c"])
def test_any_sequence_in_any_order_of_axes_is_recognised(
    known: KnownVolumes, cases: Cases, name: str
) -> None:
    image = array(cases, name)
    case, _, sequence = name.partition("/")
    for order in (AxisOrder(), AxisOrder((2, 1, 0)), AxisOrder((2, 0, 1), (True, False, True))):
        assert known.find(order.to_client(image)) == KnownVolume(case, sequence, order)


def test_another_type_of_number_is_the_same_volume(known: KnownVolumes, cases: Cases) -> None:
    image = array(cases, "A/t2f")
    assert known.find(image.astype(np.float64)) == KnownVolume("A", "t2f", AxisOrder())


def test_one_voxel_that_differs_makes_a_stranger(known: KnownVolumes, cases: Cases) -> None:
    image = array(cases, "A/t2f").copy()
    image[3, 4, 5] += 1
    assert known.find(image) is None
    assert known.find(image[:-1]) is None


def test_a_packed_file_says_its_checksum_without_being_unpacked(
    known: KnownVolumes, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, unpacked = array(cases, "B/t2w"), []
    monkeypatch.setattr(known_volumes, "read", lambda series: unpacked.append(series.id) or read(series))
    assert known.find(image) == KnownVolume("B", "t2w", AxisOrder())
    assert len(unpacked) == 1  # the one that the checksum proposed


@pytest.mark.parametrize("kind", ["plain", "members", "scaled", "big-endian"])
def test_files_of_every_kind_are_recognised(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "studies/case"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
    for name in ("t1c", "t2f"):
        image = nibabel.Nifti1Image(values + (name == "t2f"), np.diag([2.0, 2.0, 2.0, 1.0]))
        if kind == "big-endian":
            image = nibabel.Nifti1Image(image.dataobj, image.affine, image.header.as_byteswapped(">"))
        if kind == "scaled":
            image.header.set_slope_inter(0.5, -3.0)
        nibabel.save(image, folder / f"case-{name}.nii{'' if kind == 'plain' else '.gz'}")
    if kind == "members":
        for file in folder.iterdir():
            content = gzip.decompress(file.read_bytes())
            file.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    cases = Cases(tmp_path / "studies", tmp_path / "uploads")
    image = array(cases, "case/t2f")
    found = KnownVolumes(cases, tmp_path / "volumes.sqlite").find(image.T)
    assert found == KnownVolume("case", "t2f", AxisOrder((2, 1, 0)))


def test_dicom_is_recognised_with_its_slices_either_way(
    heads: dict[str, phantom.Phantom], tmp_path: Path
) -> None:
    phantom.write_dicom(heads["A"], tmp_path / "studies", "A")
    cases = Cases(tmp_path / "studies", tmp_path / "uploads")
    case = cases.find("A")
    order = AxisOrder((2, 1, 0), (False, False, True))
    found = KnownVolumes(cases, tmp_path / "volumes.sqlite").find(order.to_client(read(case.series).array))
    assert found == KnownVolume("A", case.sequence, order)


def test_a_file_that_changes_is_what_it_is_now(known: KnownVolumes, cases: Cases, studies: Path) -> None:
    before, other = array(cases, "A/t2f"), array(cases, "A/t1c")
    assert known.find(before) is not None
    shutil.copyfile(studies / "A/A-t1c.nii.gz", studies / "A/A-t2f.nii.gz")
    assert known.find(before) is None
    assert known.find(other).case == "A"


def test_what_was_found_is_kept_for_the_next_server(
    known: KnownVolumes, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = array(cases, "B/t1n")
    assert known.find(image + 1) is None  # all have been looked at
    monkeypatch.setattr(known_volumes, "checksum", _never)
    assert KnownVolumes(cases, known.path).find(image) == KnownVolume("B", "t1n", AxisOrder())


def _never(*args: object) -> None:
    raise AssertionError("it is known")


def test_a_search_ends_when_its_time_is_over(cases: Cases, tmp_path: Path) -> None:
    hurried = KnownVolumes(cases, tmp_path / "volumes.sqlite", seconds=-1.0)
    assert hurried.find(array(cases, "A/t1n")) is None


def test_a_file_that_cannot_be_a_base_costs_the_keeping_only(cases: Cases, tmp_path: Path) -> None:
    (tmp_path / "volumes.sqlite").write_bytes(b"no base" * 100)
    found = KnownVolumes(cases, tmp_path / "volumes.sqlite").find(array(cases, "A/t1n"))
    assert found == KnownVolume("A", "t1n", AxisOrder())


def test_values_that_a_type_cannot_hold_were_not_stored_in_it() -> None:
    values = np.array([[[0.5, 1.0]]])
    assert Storage("<i2").stored(values) is None
    assert Storage("<i2").stored(values * 2e5) is None
    stored: Callable = Storage("<i2", 0.5).stored
    assert stored(values).tolist() == [[[1, 2]]]
