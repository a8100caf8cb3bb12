"""Log-in with the real clients: 3D Slicer's library with user and password, refused without, expired and
back; OHIF behind the log-in page.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import requests

from slem_app import phantom
from slem_app.users import UserFile
from tests.e2e import ohif
from tests.e2e.conftest import Server
from tests.e2e.slicer_client import load_client

SECRET = "a long secret"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # the client leaves its sockets to the garbage collector
]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> UserFile:
    file = UserFile(tmp_path_factory.mktemp("config") / "users.json")
    file.add("rea", SECRET, "reader")
    return file


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    phantom.write_dicom(phantom.make(seed=1, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5)), folder, "ann")
    return folder


@pytest.fixture(scope="module")
def server(users: UserFile, studies: Path, start_server: Callable, click_models: Path) -> Server:
    conf = {"users": str(users.path), "login": "required", "models_dir": str(click_models), "score_load": "0"}
    return start_server(
        studies,
        *(part for pair in conf.items() for part in ("--conf", *pair)),
    )


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return load_client()


class Plugin:
    """What the plugin's `_client()` does before each call, with the user's answers to its dialog."""

    def __init__(self, library: ModuleType, url: str, folder: Path) -> None:
        self.library, self.url, self.folder = library, url, folder
        self.token: dict | None = None
        self.dialogs = 0

    def client(self, password: str = SECRET):
        one = self.library.MONAILabelClient(self.url, str(self.folder), "user-xyz")
        assert one.auth_enabled()
        if self.token:
            one.update_auth(self.token)
        if not self.token or not one.auth_valid_token():
            self.dialogs += 1
            self.token = one.auth_token("rea", password)
            one.update_auth(self.token)
        return one


def test_slicer_logs_in_works_and_logs_in_again_when_the_log_in_has_ended(
    library: ModuleType, server: Server, users: UserFile, tmp_path: Path
) -> None:
    stranger = library.MONAILabelClient(server.url, str(tmp_path), "user-xyz")
    with pytest.raises(library.MONAILabelClientException) as refused:
        stranger.info()
    assert refused.value.status_code == 401
    plugin = Plugin(library, server.url, tmp_path)
    with pytest.raises(library.MONAILabelClientException) as refused:
        plugin.client("wrong password")
    assert b"unknown user or wrong password" in refused.value.response
    assert "slem_brain" in plugin.client().info()["models"]
    sample = plugin.client().next_sample("first", {})
    file, params = plugin.client().infer(
        "slem_brain", sample["id"], {"result_extension": ".nii.gz", "result_dtype": "uint8"}
    )
    info = [{"name": name} for name in params["label_names"]]
    saved = plugin.client().save_label(sample["id"], file, params={"label_info": info, "model": "slem_brain"})
    assert saved["label"] == sample["id"]
    assert plugin.client().create_session(file)["session_id"]
    assert plugin.dialogs == 2
    with pytest.raises(library.MONAILabelClientException) as refused:
        plugin.client().train_start("slem_brain", {})
    assert "requires the role trainer; rea is a reader" in refused.value.msg
    users.change_password("rea", SECRET)  # which ends all log-ins, as time does
    assert plugin.client().info()["name"] == "SLeM Label"
    assert plugin.dialogs == 3


def test_a_log_in_ends_by_itself(
    library: ModuleType, users: UserFile, studies: Path, start_server: Callable, tmp_path: Path
) -> None:
    own = str(tmp_path / "store")  # the studies have a server already
    conf = {
        "users": str(users.path),
        "login": "required",
        "login_hours": "0.002",
        "score_load": "0",
        "store": own,
    }
    server = start_server(studies, *(part for pair in conf.items() for part in ("--conf", *pair)))
    plugin = Plugin(library, server.url, tmp_path)
    assert plugin.client().info()["name"] == "SLeM Label"
    time.sleep(8)
    old = library.MONAILabelClient(server.url, str(tmp_path), "user-xyz")
    old.update_auth(plugin.token)
    assert not old.auth_valid_token()
    assert plugin.client().info()["name"] == "SLeM Label"
    assert plugin.dialogs == 2


@pytest.fixture
def viewer(server: Server) -> Iterator:
    with ohif.viewer(server.url) as one:
        yield one


@ohif.NEEDED
def test_ohif_opens_after_the_log_in_page(viewer, server: Server) -> None:
    token = requests.post(
        f"{server.url}/auth/token", data={"username": "rea", "password": SECRET}, timeout=60
    ).json()["access_token"]
    [study] = requests.get(
        f"{server.url}/dicom-web/studies", headers={"Authorization": f"bearer {token}"}, timeout=60
    ).json()
    page, wanted = viewer.page, f"/ohif/monai-label?StudyInstanceUIDs={study['0020000D']['Value'][0]}"
    page.goto(server.url + wanted, wait_until="commit")
    page.fill("input[name=username]", "rea")
    page.fill("input[name=password]", "wrong password")
    page.click("button")
    page.wait_for_selector(".wrong")
    page.fill("input[name=username]", "rea")
    page.fill("input[name=password]", SECRET)
    page.click("button")
    page.wait_for_selector("#monailabelServerURL")
    assert page.url == server.url + wanted
    page.wait_for_function(ohif.READY)
    viewer.connect()
    viewer.tab("Auto-Segmentation")
    viewer.run("Segmentation")
    assert (viewer.shown().names != "").any()
    [cookie] = [one for one in page.context.cookies() if one["name"] == "slem_login"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert page.evaluate("() => document.cookie.includes('slem_login')") is False
    page.goto(f"{server.url}/auth/login", wait_until="load")
    page.click("button")  # log out
    page.wait_for_selector("input[name=password]")
    page.goto(server.url + wanted, wait_until="commit")
    page.wait_for_selector("input[name=password]")
