"""A map of probabilities as a fractional DICOM SEG: the right values on the right images."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from slem_app import phantom
from slem_app.errors import BadGrid
from slem_app.formats.fractional import STEPS, make_fractional_seg, write_fractional_seg
from slem_app.formats.provenance import Provenance
from slem_app.labels import CHECK_HERE
from slem_app.studies import Series, open_source

HOW = Provenance("AUTOMATIC", "slem_brain", "8", "check here", series_number=1100)


@pytest.fixture(scope="module", params=["axial-oblique", "sagittal"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[phantom.Phantom, Series]:
    whole = phantom.make(seed=4, shape=(21, 26, 18), spacing=(1.25, 1.0, 1.5), oblique=True)
    whole = phantom.reorient_phantom(whole, "PIL") if request.param == "sagittal" else whole
    folder = tmp_path_factory.mktemp("study")
    phantom.write_dicom(dataclasses.replace(whole, images={"t1c": whole.images["t1c"]}), folder, "one")
    return whole, open_source(folder).study("one").series[0]


def doubts(head: phantom.Phantom) -> np.ndarray:
    values = np.random.default_rng(0).random(head.grid.shape).astype(np.float32)
    return np.where(head.labels > 0, values, 0)


def test_every_value_is_on_the_pixel_of_its_image(
    made: tuple[phantom.Phantom, Series], tmp_path: Path
) -> None:
    head, series = made
    values = doubts(head)
    path = write_fractional_seg(values, head.grid, CHECK_HERE, series, HOW, tmp_path / "map.dcm")
    seg = highdicom.seg.segread(path)
    assert (seg.segmentation_type.value, seg.segmentation_fractional_type.value) == (
        "FRACTIONAL",
        "PROBABILITY",
    )
    assert seg.get_segment_description(1).segment_label == "check here"
    places = {
        tuple(np.round(head.grid.to_world([0, 0, k]) * [-1, -1, 1], 3)): k for k in range(head.grid.shape[2])
    }
    images = [dcmread(file) for file in series.paths]
    pixels = seg.get_pixels_by_source_instance(
        [image.SOPInstanceUID for image in images], assert_missing_frames_are_empty=True
    )[..., 0]
    for image, plane in zip(images, pixels, strict=True):
        k = places[tuple(np.round([float(v) for v in image.ImagePositionPatient], 3))]
        np.testing.assert_allclose(plane, values[:, :, k].T, atol=0.5 / STEPS + 1e-6)


def test_an_empty_map_can_be_stored_too(made: tuple[phantom.Phantom, Series]) -> None:
    head, series = made
    seg = make_fractional_seg(np.zeros(head.grid.shape, np.float32), head.grid, CHECK_HERE, series, HOW)
    assert seg.NumberOfFrames == 2
    assert not any(seg.PixelData)


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan])
def test_what_is_no_probability_is_refused(made: tuple[phantom.Phantom, Series], wrong: float) -> None:
    head, series = made
    values = doubts(head)
    values[0, 0, 0] = wrong
    with pytest.raises(BadGrid, match="from 0 to 1"):
        make_fractional_seg(values, head.grid, CHECK_HERE, series, HOW)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dciodvfy: apt-get install dicom3tools")
def test_dciodvfy_finds_no_error(made: tuple[phantom.Phantom, Series], tmp_path: Path) -> None:
    head, series = made
    path = write_fractional_seg(doubts(head), head.grid, CHECK_HERE, series, HOW, tmp_path / "map.dcm")
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in told.stderr.splitlines() if line.startswith("Error")]
    assert "FractionalSegmentation" in told.stderr or "Segmentation" in told.stderr
    assert errors == []
