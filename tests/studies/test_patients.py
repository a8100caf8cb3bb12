"""Which cases are of one patient and in which order: told by headers or names, never guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from slem_app.errors import BadSetting, NotFound
from slem_app.phantom import make, write_dicom
from slem_app.studies import open_source
from slem_app.studies.header_index import HeaderIndex
from slem_app.studies.patients import Visit, find_patient, patient_of

TINY = {"shape": (8, 9, 6), "spacing": (20.0, 20.0, 20.0)}


@pytest.fixture
def dicom(tmp_path: Path) -> Callable[..., None]:
    """Writes a study with fields of its own."""

    def write(case: str, **fields: str) -> None:
        folder = write_dicom(make(seed=len(case), **TINY), tmp_path / "studies", case)
        for path in folder.rglob("*.dcm"):
            image = dcmread(path)
            for key, value in fields.items():
                setattr(image, key, value)
            image.save_as(path)

    return write


def nifti(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
    return root


def cases(visits: tuple[Visit, ...]) -> list[str]:
    return [one.case for one in visits]


def test_dicom_visits_are_in_order_of_date_and_time_and_other_patients_are_not_among_them(
    dicom: Callable, tmp_path: Path
) -> None:
    dicom("b", PatientID="P1", PatientName="Doe^John", StudyDate="20240301", StudyTime="090000")
    dicom("a", PatientID="P1", PatientName="DOE^JOHN^", StudyDate="20240301", StudyTime="153000.5")
    dicom("ccc", PatientID="P1", PatientName="Doe^John", StudyDate="20230101", StudyTime="")
    dicom("dddd", PatientID="P2", PatientName="Roe^Jane", StudyDate="20220101")
    source = open_source(tmp_path / "studies")
    found = patient_of(source, "b")
    assert cases(found.visits) == ["ccc", "b", "a"]
    assert (found.doubts, found.mixed) == ((), False)
    assert cases(found.earlier("a")) == ["ccc", "b"]
    assert [one.when for one in found.visits] == ["2023-01-01", "2024-03-01", "2024-03-01"]
    assert cases(find_patient(source, "P2").visits) == ["dddd"]
    with pytest.raises(NotFound, match="no case and no patient"):
        find_patient(source, "P3")


def test_two_names_one_day_and_no_date_are_said_and_not_guessed(dicom: Callable, tmp_path: Path) -> None:
    dicom("a", PatientID="P1", PatientName="Doe^John", StudyDate="20240301", StudyTime="")
    dicom("bb", PatientID="P1", PatientName="Roe^Jane", StudyDate="20240301", StudyTime="101500")
    dicom("ccc", PatientID="P1", PatientName="Roe^Jane", StudyDate="")
    found = patient_of(open_source(tmp_path / "studies"), "bb")
    assert found.mixed
    assert found.earlier("bb") == ()
    assert [text.split(":")[0] for text in found.doubts] == [
        "Under this PatientID there are 2 different names",
        "Without a date, so in no order",
        "a and bb are of one day, and no time tells which came first.",
    ]
    assert "Doe" not in " ".join(found.doubts)


def test_studies_without_an_id_are_nobodys(dicom: Callable, tmp_path: Path) -> None:
    dicom("a", PatientID="", StudyDate="20240301")
    dicom("bb", PatientID="", StudyDate="20240401")
    found = patient_of(open_source(tmp_path / "studies"), "bb")
    assert cases(found.visits) == ["bb"]
    assert found.doubts == ("Nothing says whose study this is: other visits are not known.",)


def test_whose_a_study_is_is_not_written_into_the_index(dicom: Callable, tmp_path: Path) -> None:
    dicom("a", PatientID="PID7734", PatientName="Zacharias^Q", StudyDate="20240301")
    dicom("bb", PatientID="PID7734", PatientName="Zacharias^Q", StudyDate="20240401")
    index = HeaderIndex(tmp_path / "index" / "headers.sqlite")
    source = open_source(tmp_path / "studies", index=index)
    assert len(patient_of(source, "a").visits) == 2
    assert [study.series[0].header["PatientID"] for study in source] == ["PID7734"] * 2
    index.close()
    kept = (tmp_path / "index" / "headers.sqlite").read_bytes()
    assert kept
    assert b"PID7734" not in kept
    assert b"Zacharias" not in kept


def test_bids_sessions_are_visits_in_their_own_order(tmp_path: Path) -> None:
    names = [
        f"sub-{s}/ses-{n}/anat/sub-{s}_ses-{n}_T1w.nii.gz" for s in ("01", "02") for n in ("2", "10", "1")
    ]
    source = open_source(nifti(tmp_path, *names))
    found = patient_of(source, "sub-01_ses-10")
    assert cases(found.visits) == ["sub-01_ses-1", "sub-01_ses-2", "sub-01_ses-10"]
    assert cases(found.earlier("sub-01_ses-10")) == ["sub-01_ses-1", "sub-01_ses-2"]
    assert cases(find_patient(source, "sub-02").visits)[0] == "sub-02_ses-1"


def test_brats_names_tell_patient_and_timepoint(tmp_path: Path) -> None:
    visits = ("BraTS-GLI-00005-101", "BraTS-GLI-00005-100", "BraTS-GLI-00006-100")
    names = [f"{visit}/{visit}-{word}.nii.gz" for visit in visits for word in ("t1n", "t1c", "t2w", "t2f")]
    found = patient_of(open_source(nifti(tmp_path, *names)), "BraTS-GLI-00005-101")
    assert cases(found.visits) == ["BraTS-GLI-00005-100", "BraTS-GLI-00005-101"]


def test_folders_are_patients_where_slem_yaml_says_so_and_only_there(tmp_path: Path) -> None:
    names = [
        f"{who}/{when}/{word}.nii.gz"
        for who in "AB"
        for when in ("2024-03-01", "2023-12-24")
        for word in ("t1c", "t2f")
    ]
    nifti(tmp_path, *names)
    case = "A_2024-03-01"
    alone = patient_of(open_source(tmp_path), case)
    assert cases(alone.visits) == [case]
    assert alone.doubts
    (tmp_path / "slem.yaml").write_text("patients: '(?P<patient>[^/]+)/(?P<date>[0-9-]+)'\n")
    found = patient_of(open_source(tmp_path), case)
    assert cases(found.visits) == ["A_2023-12-24", case]
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("rule", "said"), [("(", "not a regular expression"), ("(?P<who>.*)", "must have the group")]
)
def test_a_rule_that_tells_no_patient_is_refused(tmp_path: Path, rule: str, said: str) -> None:
    nifti(tmp_path, "A/t1c.nii.gz", "A/t2f.nii.gz")
    (tmp_path / "slem.yaml").write_text(f"patients: '{rule}'\n")
    with pytest.raises(BadSetting, match=said):
        open_source(tmp_path)
