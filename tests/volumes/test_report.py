"""What was done to a study, as a table and as sentences."""

from slem_app.volumes.report import PreparationReport

DONE = PreparationReport({"t2f": 8.1}, "t1c", {"t2w": "it could not be registered"}, "slem_brainmask", 1401.0)


def test_a_table_says_all_that_the_report_says() -> None:
    assert PreparationReport.of_table(DONE.table()) == DONE
    assert not PreparationReport.of_table(PreparationReport().table())
    assert not PreparationReport.of_table({})


def test_what_the_coil_did_is_told_and_kept() -> None:
    report = PreparationReport(mask="slem_brainmask", mask_ml=1401.0, uneven={"t1c": 1.62})
    assert PreparationReport.of_table(report.table()) == report
    assert report.notes()[-1].endswith("was corrected (brightest over darkest: t1c 1.6)")


def test_it_is_told_in_sentences_and_in_two_words() -> None:
    assert DONE.notes() == (
        "t2f was moved by 8.1 mm onto t1c",
        "everything outside the brain was removed (slem_brainmask, 1401 ml)",
    )
    [warning] = DONE.warnings()
    assert warning.table() == {
        "code": "sequence-left-out",
        "text": "t2w was left out: it could not be registered",
    }
    assert DONE.brief == "registered, brain mask"
    assert PreparationReport().brief == ""
