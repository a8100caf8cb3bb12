"""Cases in NIfTI at DICOMweb: what a viewer finds, sees and stores, and where that goes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from fastapi import FastAPI
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from slem_app import phantom
from slem_app.errors import NotFound
from slem_app.formats import read_label_file
from slem_app.formats.provenance import Provenance
from slem_app.formats.seg import make_seg
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom import served_series
from slem_app.serving.dicom.export import ResultExchange
from slem_app.serving.dicom.qido_wado import install
from slem_app.serving.http.application import complete
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.store.dicom_results import DicomResults
from slem_app.volumes.read import read
from slem_app.weights import BRAIN_LABELS

SMALL = {"shape": (24, 28, 20), "spacing": (8.0, 8.0, 8.0)}
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")


class Site:
    """A server's DICOMweb over two heads, one of them oblique with a grid and an order for each sequence."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.cases = Cases(folder, store / "uploads")
        self.datastore = CaseDatastore(self.cases, store, {"slem_brain": BRAIN_LABELS})
        self.results = ResultExchange(self.datastore, DicomResults(store / "dicom"))
        self.url = ""

    def get(self, path: str, **params: str) -> requests.Response:
        headers = {"Connection": "close"}
        return requests.get(f"{self.url}/dicom-web{path}", params=params, timeout=30, headers=headers)

    def study(self, case: str) -> str:
        return self.cases.view(case).study

    def series(self, case: str, sequence: str) -> str:
        found = self.cases.find(f"{case}/{sequence}")
        return found.view.series_uid(found.series)


@pytest.fixture
def site(tmp_path: Path, serve: Callable) -> Iterator[Site]:
    folder = tmp_path / "studies"
    phantom.write_nifti(phantom.make(seed=1, **SMALL), folder, "ann", layout="brats2018")
    phantom.write_nifti(phantom.make(seed=2, oblique=True, own_grids=True, **SMALL), folder, "ben")
    store_as("RAS", folder / "ben/ben-t2w.nii.gz")
    store_as("ASL", folder / "ben/ben-t2f.nii.gz")  # left-handed
    one = Site(folder, tmp_path / "store")
    app = FastAPI()
    install(app, one.cases, one.results.home, lambda case: one.results.collect(case) and None)
    complete(app)
    with serve(app) as url:
        one.url = url
        yield one


def store_as(axes: str, path: Path) -> None:
    """Put the voxels of a file into another order."""
    image = nibabel.load(path)
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
    nibabel.save(image.as_reoriented(change), path)


def values(one: dict, tag: str) -> list:
    return one[tag].get("Value", [])


def test_studies_and_series_are_listed_from_headers_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(series: object) -> None:
        raise AssertionError("voxels were read")

    monkeypatch.setattr(served_series, "read_stored", none)
    studies = site.get("/studies", limit="101").json()
    assert [values(one, "00100020") for one in studies] == [["ann"], ["ben"]]
    assert {values(one, "00201208")[0] for one in studies} == {
        8 + 8 + 7 + 20,  # three with thick slices; the even one from foot to head
        4 * 20,
    }
    found = site.get(f"/studies/{site.study('ann')}/series").json()
    assert [values(one, "0008103E")[0] for one in found] == [
        "t1n (t1)",
        "t1c (t1ce)",
        "t2w (t2)",
        "t2f (flair)",
    ]
    assert {values(one, "00080060")[0] for one in found} == {"MR"}
    assert len(site.get(f"/studies/{site.study('ann')}/instances").json()) == 4 * 20
    # the label map that lies beside the images is no image
    assert len(found) == len(site.cases.study("ann").series) == 4


@pytest.mark.parametrize("case", ["ann", "ben"])
def test_pixels_are_those_of_the_file_where_they_are(site: Site, case: str) -> None:
    client = DICOMwebClient(f"{site.url}/dicom-web", permissive_uid=True)
    for sequence in SEQUENCES:
        volume = read(site.cases.grouping(case).sequences[sequence])
        uid = site.series(case, sequence)
        headers = client.retrieve_series_metadata(site.study(case), uid)
        files = client.retrieve_series(site.study(case), uid)
        assert len(headers) == len(files)
        total = 0
        for told, image in zip(headers, files, strict=True):
            header = pydicom.Dataset.from_json(told)
            frame = client.retrieve_instance_frames(site.study(case), uid, header.SOPInstanceUID, [1])[0]
            pixels = np.frombuffer(frame, "<i2" if header.PixelRepresentation else "<u2")
            pixels = pixels.reshape(header.Rows, header.Columns)
            np.testing.assert_array_equal(image.pixel_array, pixels)
            assert image.RescaleSlope == header.RescaleSlope
            shown = pixels * float(header.RescaleSlope) + float(header.RescaleIntercept)
            along = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            rows, columns = np.indices(pixels.shape)
            lps = (
                np.array(header.ImagePositionPatient, float)
                + columns[..., None] * along[0] * float(header.PixelSpacing[1])
                + rows[..., None] * along[1] * float(header.PixelSpacing[0])
            )
            index = volume.grid.to_index(lps * [-1, -1, 1])
            np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
            np.testing.assert_array_equal(shown, volume.array[tuple(np.rint(index).astype(int).T)].T)
            total += pixels.size
        assert total == volume.array.size


def test_an_image_is_unpacked_once_for_all_who_ask(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    unchanged = served_series.read_stored
    monkeypatch.setattr(
        served_series, "read_stored", lambda series: calls.append(series) or unchanged(series)
    )
    place = f"/studies/{site.study('ann')}/series/{site.series('ann', 't1c')}"
    told = site.get(f"{place}/metadata").json()
    for one in told[:3]:
        assert site.get(f"{place}/instances/{values(one, '00080018')[0]}/frames/1").ok
    assert [one.id for one in calls] == ["t1ce"]


def test_what_is_not_there_is_not_found(site: Site) -> None:
    study, series = site.study("ann"), site.series("ann", "t1c")
    [one, *_] = site.get(f"/studies/{study}/series/{series}/instances").json()
    place = f"/studies/{study}/series/{series}/instances/{values(one, '00080018')[0]}"
    assert site.get(f"{place}/frames/2").status_code == 404
    assert site.get(f"/studies/{study}/series/{site.series('ben', 't1c')}/metadata").status_code == 404
    assert site.get(f"/studies/{study[:-1]}/metadata").status_code == 404


def test_a_series_is_found_by_its_uid_on_the_slices_that_were_shown(site: Site) -> None:
    found = site.cases.find(site.series("ben", "t2w"))
    assert (found.id, found.sequence) == ("ben", "t2w")
    assert found.displayed.same_as(found.view.of(found.series).layout.grid)
    assert not found.displayed.same_as(found.series.grid)
    assert site.cases.find(site.study("ben")).sequence == "t1c"
    by_name = site.cases.find("ben/t2w")
    assert by_name.displayed.same_as(by_name.series.grid)
    told = site.datastore.get_image_info("ben/t2w")
    assert (told["StudyInstanceUID"], told["SeriesInstanceUID"]) == (
        site.study("ben"),
        site.series("ben", "t2w"),
    )
    with pytest.raises(NotFound):
        site.cases.find("2.25.1234")


def test_a_segmentation_that_a_viewer_stores_is_a_label_of_the_file(site: Site) -> None:
    case = site.cases.find(site.series("ben", "t2f"))
    drawn = np.random.default_rng(4).integers(0, 4, case.series.grid.shape).astype(np.uint8)
    how = Provenance("MANUAL", description="drawn", creator="eva")
    seg = make_seg(drawn, case.series.grid, BRAIN_LABELS, case.view.sources(case.series), how)
    client = DICOMwebClient(f"{site.url}/dicom-web", permissive_uid=True)
    client.store_instances([seg])

    [version] = site.datastore.store.history("ben")
    array, grid, _ = read_label_file(version.label)
    assert (version.sequence, version.tag) == ("t2f", "final")
    assert grid.same_as(case.series.grid)
    np.testing.assert_array_equal(array, drawn)
    # and is listed beside the images, as a viewer expects it
    [listed] = client.search_for_series(site.study("ben"), search_filters={"Modality": "SEG"})
    assert values(listed, "0020000E") == [str(seg.SeriesInstanceUID)]

    seg.StudyInstanceUID = site.study("ann")
    with pytest.raises(requests.HTTPError, match="409"):  # another patient's
        client.store_instances([seg])
    assert site.datastore.store.history("ann") == ()


def test_of_a_case_with_a_bad_image_the_others_are_shown_and_the_reason_is_told(tmp_path: Path) -> None:
    phantom.write_nifti(phantom.make(seed=1, **SMALL), tmp_path, "ann")
    path = tmp_path / "ann/ann-t2w.nii.gz"
    image = nibabel.load(path)
    sheared = image.affine.copy()
    sheared[0, 1] += 3.0
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), sheared), path)
    view = Cases(tmp_path, tmp_path / "store/uploads").view("ann")
    assert [one.description for one in view.virtual.values()] == ["t1n", "t1c", "t2f"]
    assert len(view.refused) == 1
    assert "sheared" in view.refused[0]


def test_other_voxels_are_another_series(site: Site) -> None:
    before = site.series("ann", "t1c")
    path = site.cases.find("ann/t1c").series.paths[0]
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[::-1] + 5, image.affine), path)
    assert site.series("ann", "t1c") != before
    place = f"/studies/{site.study('ann')}/series/{before}"
    assert site.get(f"{place}/metadata").status_code == 404


def test_the_folders_of_chaos_are_shown_too(tmp_path: Path) -> None:
    phantom.write_chaos(phantom.make_abdomen(1, (12.0, 12.0, 24.0)), tmp_path, "1")
    cases = Cases(tmp_path, tmp_path / "store/uploads")
    [(study, case)] = cases.dicom_studies().items()
    view = cases.view(case)
    assert (case, view.study, len(view.virtual)) == ("1", study, len(cases.study("1").series))
