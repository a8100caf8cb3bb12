"""What goes wrong between the wheel's own client for 3D Slicer and a real server: it is told in plain words,
and the server lives on.
"""

import shutil

import pytest

from tests.e2e.slicer_client import World
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the client leaves its sockets to the garbage collector
]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/datastore/image?image=nobody", 404, "no case 'nobody' among the"),
        ("GET", "/datastore/image?image=case one/t9", 404, "t9"),
        ("GET", "/datastore/image?image=../../etc/passwd", 404, "no case '../../etc/passwd'"),
        ("GET", "/datastore/label?label=nobody&tag=final", 404, "no case 'nobody'"),
        ("GET", "/datastore/label?label=case one&tag=never", 404, "has no label with tag 'never'"),
        ("GET", "/datastore/label?label=case one&tag=../final", 400, "tag '../final' cannot be used"),
        ("POST", "/infer/slem_brain?image=nobody", 404, "no case 'nobody'"),
        ("POST", "/infer/slem_brain?image=/etc/passwd", 404, "paths on the server are not ids"),
        ("POST", "/infer/slem_brain?image=case one/../../x", 404, "x"),
        ("POST", "/infer/slem_brain?image=without-contrast/t1c", 404, "t1c"),
        ("POST", "/infer/other?image=case one", 404, "no model 'other'; this server has slem_brain"),
        ("POST", "/infer/slem_brain?image=&session_id=gone", 404, "no session 'gone'"),
        ("POST", "/infer/slem_brain?image=x&session_id=../../etc", 404, "is not a session id"),
        (
            "POST",
            "/activelearning/oracle",
            404,
            "no strategy 'oracle'; this server has diverse, balanced, uncertainty",
        ),
        ("POST", "/train/pretraining", 404, "those that can: slem_brain"),
        ("POST", "/train/slem_brain_clicks", 404, "those that can: slem_brain"),
        ("PUT", "/model/slem_brain", 501, "can neither replace nor remove them"),
        ("DELETE", "/model/slem_brain", 501, "can neither replace nor remove them"),
        ("DELETE", "/datastore/?id=case one", 400, "this server removes nothing"),
    ],
)
def test_a_bad_request_gets_a_plain_answer(
    world: World, method: str, path: str, status: int, text: str
) -> None:
    got, detail = world.refusal(method, path)
    assert (got, text in detail) == (status, True), detail


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ('{"result_extension": ".exe"}', 400, "result_extension '.exe' is unknown"),
        ('{"result_dtype": "float64"}', 400, "label maps are uint8"),
        ("{not json", 400, "must be JSON"),
        ('{"image": "/etc/passwd"}', 404, "paths on the server are not ids"),
    ],
)
def test_bad_fields_get_a_plain_answer(world: World, fields: str, status: int, text: str) -> None:
    got, detail = world.refusal("POST", "/infer/slem_brain?image=case one", data={"params": fields})
    assert (got, text in detail) == (status, True), detail


@pytest.mark.parametrize(
    ("name", "text"),
    [("../../evil", "cannot be the id of an image"), (".hidden", "cannot be the id of an image")],
)
def test_an_upload_cannot_leave_its_folder(world: World, name: str, text: str) -> None:
    body = (world.studies / "case one/case one-t1c.nii.gz").read_bytes()
    got, detail = world.refusal(
        "PUT", "/datastore/", params={"image": name}, files={"file": ("x.nii.gz", body)}
    )
    assert (got, text in detail) == (400, True), detail


def test_broken_cases_are_told_and_passed_over_and_new_ones_appear(world: World) -> None:
    total = world.client.info()["datastore"]["total"]
    broken, unknown = world.studies / "broken", world.studies / "Aunknown"
    shutil.copytree(world.studies / "case one", broken)
    for path in list(broken.iterdir()):
        path.rename(broken / path.name.replace("case one", "broken"))
    image = broken / "broken-t1c.nii.gz"
    image.write_bytes(image.read_bytes()[:5000])
    unknown.mkdir()
    shutil.copy(world.studies / "case one/case one-t1c.nii.gz", unknown / "Aunknown-zzz.nii.gz")
    try:
        # what others do to its folder is known a second later
        wait_until(lambda: world.client.info()["datastore"]["total"] == total + 2, 10, pause=0.2)
        assert world.refusal("POST", "/infer/slem_brain?image=broken")[0] == 422
        status, detail = world.refusal("POST", "/infer/slem_brain?image=Aunknown")
        assert status == 422
        assert "Aunknown" in detail
        assert world.client.next_sample("first", {})["id"] != "Aunknown"  # it cannot be shown
        assert world.client.info()["models"]  # and the server lives on
    finally:
        shutil.rmtree(broken)
        shutil.rmtree(unknown)
    wait_until(lambda: world.client.info()["datastore"]["total"] == total, 10, pause=0.2)
