"""The unmodified client of nnInteractive against a real server: every interaction, the way back, two clients
at once, all sequences of a recognised case, and bodies that no client sends.
"""

import gc
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("blosc2", reason="the package blosc2 is not installed")
pytest.importorskip("nnInteractive", reason="the package nninteractive-client is not installed")

import httpx
from nnInteractive.inference.remote import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)
from nnInteractive.inference.remote.serialization import pack_array

from slem_app import phantom
from tests.e2e.conftest import Server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
]

PLACES = 3
Session = nnInteractiveRemoteInferenceSession


@pytest.fixture(scope="module")
def head() -> phantom.Phantom:
    return phantom.make(seed=1, shape=(80, 96, 80), spacing=(2.0, 2.0, 2.0))


@dataclass(frozen=True)
class Place:
    """A server and its folders."""

    server: Server
    studies: Path
    sessions: Path

    @property
    def url(self) -> str:
        return f"{self.server.url}/nninteractive"


@pytest.fixture(scope="module")
def place(
    head: phantom.Phantom,
    click_models: Path,
    start_server: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    studies, sessions = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("sessions")
    phantom.write_nifti(head, studies, "head")
    conf = [
        *("--conf", "models_dir", str(click_models), "--conf", "models", "slem_brain,slem_brain_clicks"),
        *("--conf", "nninteractive_sessions", str(PLACES), "--conf", "volume_mb", "16"),
        *("--conf", "score_load", "0"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(sessions))
        return Place(start_server(studies, *conf), studies, sessions)


@pytest.fixture
def connect(place: Place) -> Iterator[Callable[..., Session]]:
    """`connect(path)`: a client of the server; all are closed after the test."""
    clients = []

    def begin(path: str = "") -> Session:
        clients.append(Session(f"{place.url}{path}"))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


def image_of(place: Place, sequence: str = "t2f", itk: bool = True) -> np.ndarray:
    """What 3D Slicer or napari would send: [1, K, J, I], or [1, I, J, K]."""
    found = next((place.studies / "head").glob(f"*{sequence}.nii.gz"))
    values = np.asarray(nibabel.load(found).dataobj)
    return (values.T if itk else values)[None].copy()


def begun(client: Session, image: np.ndarray) -> np.ndarray:
    """The target of a client that has sent an image."""
    client.set_image(image, {"spacing": [2.0, 2.0, 2.0]})
    target = np.zeros(image.shape[1:], dtype=np.uint8)
    client.set_target_buffer(target)
    return target


def tumor(head: phantom.Phantom, itk: bool = True) -> np.ndarray:
    found = head.labels > 0
    return found.T if itk else found


def middle(mask: np.ndarray) -> list[int]:
    """A voxel of a mask near its middle."""
    voxels = np.argwhere(mask)
    return voxels[np.abs(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()].tolist()


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero((one > 0) & (other > 0)) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_it_finds_the_server_and_what_it_can_do(connect: Callable[..., Session]) -> None:
    client = connect()
    assert client.ping()
    assert all(client.supported_interactions[kind] for kind in ("points", "scribble", "lasso", "bbox2d"))
    assert client.supports_undo
    assert client.supports_initial_label
    assert "not for diagnostic use" in client.license
    assert 0 < client.lease_status()["remaining_seconds"] <= client.idle_timeout_seconds
    assert client.heartbeat() > 0


@pytest.mark.parametrize("itk", [True, False], ids=["KJI", "IJK"])
def test_one_point_shows_the_object_with_all_sequences(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom, itk: bool
) -> None:
    client, truth = connect(), tumor(head, itk)
    target = begun(client, image_of(place, itk=itk))
    assert not target.any()
    box = client.add_point_interaction(middle(truth), True)
    assert box is not None
    assert target[tuple(middle(truth))] == 1
    assert dice(target, truth) > 0.8
    assert "a client's volume is head/t2f" in place.server.log.read_text()


def test_every_interaction_changes_the_target_and_undo_takes_each_back(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom
) -> None:
    client, truth = connect("/WT"), tumor(head)
    target = begun(client, image_of(place))
    k, j, i = middle(truth)
    far = [k, j, 20 if i > 40 else 60]
    stroke = np.zeros((1, 1, 6), dtype=np.uint8) + 1
    at = [[far[0], far[0] + 1], [far[1] + 8, far[1] + 9], [far[2], far[2] + 6]]
    lasso = np.zeros(target.shape, dtype=np.uint8)
    lasso[k, j - 3 : j + 4, i - 3 : i + 4] = 1
    deeds = [
        lambda: client.add_point_interaction([k, j, i], True),
        lambda: client.add_point_interaction(far, True),
        lambda: client.add_point_interaction([k, j, i], False),
        lambda: client.add_scribble_interaction(stroke, True, interaction_bbox=at),
        lambda: client.add_lasso_interaction(lasso, True),
        lambda: client.add_bbox_interaction([[k, k + 1], [j - 2, j + 3], [i - 2, i + 3]], False),
        lambda: client.add_bbox_interaction([[k - 6, k + 6], [j - 6, j + 6], [i - 6, i + 6]], True),
    ]
    shown = [target.copy()]
    for number, deed in enumerate(deeds[:6]):
        deed()
        assert not np.array_equal(target, shown[-1]), number
        shown.append(target.copy())
    assert target[tuple(slice(a, b) for a, b in at)].all()
    assert not target[k, j - 2 : j + 3, i - 2 : i + 3].any()
    for before in reversed(shown[:-1]):
        assert client.undo()
        assert np.array_equal(target, before)
    assert not client.undo()
    deeds[0]()
    assert np.array_equal(target, shown[1])
    deeds[6]()
    outside = target.copy()
    outside[k - 6 : k + 6, j - 6 : j + 6, i - 6 : i + 6] = 0
    assert target.any()
    assert not outside.any()


def test_prompts_can_wait_for_one_prediction(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom
) -> None:
    client, truth = connect(), tumor(head)
    target = begun(client, image_of(place))
    k, j, i = middle(truth)
    assert client._predict() is None
    client.add_point_interaction([k, j, i], True, run_prediction=False)
    client.add_point_interaction([k, j, 10], False, run_prediction=False)
    assert not target.any()
    assert client._predict() is not None
    assert target[k, j, i]
    assert client._predict() is None


def test_reset_begins_a_new_object_on_the_same_image(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom
) -> None:
    client, truth = connect("/ET"), tumor(head)
    target = begun(client, image_of(place))
    client.add_point_interaction(middle(truth), True)
    first = target.copy()
    client.add_point_interaction([3, 3, 3], True)
    assert not np.array_equal(target, first)
    client.reset_interactions()
    assert not target.any()
    assert not client.undo()
    client.add_point_interaction(middle(truth), True)
    assert np.array_equal(target, first)


def test_a_segmentation_is_where_the_next_point_goes_on_from(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom
) -> None:
    client, truth = connect(), tumor(head)
    target = begun(client, image_of(place))
    drawn = np.zeros_like(target)
    drawn[10:16, 10:16, 10:16] = 1
    client.add_initial_seg_interaction(drawn)
    assert np.array_equal(target, drawn)
    client.add_point_interaction(middle(truth), True)
    assert target[tuple(middle(truth))]
    assert target[10:16, 10:16, 10:16].all()
    assert client.undo()
    assert np.array_equal(target, drawn)
    assert client.undo()
    assert not target.any()


def test_two_clients_do_not_see_each_other(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom
) -> None:
    truth, image = tumor(head), image_of(place)
    one, other = connect(), connect()
    shown, seen = begun(one, image), begun(other, image)
    one.add_point_interaction([3, 3, 3], True)
    other.add_point_interaction(middle(truth), True)
    assert shown[3, 3, 3]
    assert not seen[3, 3, 3]
    one.reset_interactions()
    other.add_point_interaction([3, 3, 4], False)
    assert seen[tuple(middle(truth))]


def test_a_strange_volume_is_one_sequence_and_leaves_no_file(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom
) -> None:
    client, truth = connect("/WT/t2f"), tumor(head)
    image = image_of(place) + np.int16(1)
    target = begun(client, image)
    client.add_point_interaction(middle(truth), True)
    assert target[tuple(middle(truth))]
    assert [path.name for path in place.sessions.rglob("*.nii")] == ["volume.nii"]
    client.close()
    assert not list(place.sessions.rglob("*.nii"))


def test_places_are_few_and_free_again_when_closed(connect: Callable[..., Session]) -> None:
    clients = [connect() for _ in range(PLACES)]
    with warnings.catch_warnings():
        # a client that is refused when it connects leaves its connection to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(ServerAtCapacityError, match=f"all {PLACES} sessions"):
            connect()
        gc.collect()
    clients[0].close()
    assert connect().ping()


def test_a_session_that_is_over_says_so(connect: Callable[..., Session]) -> None:
    client = connect()
    client._http.headers["X-Lease-Token"] = "0" * 32
    with pytest.raises(SessionExpiredError, match="connect again"):
        client.heartbeat()


def test_what_no_model_knows_is_refused_in_words(place: Place) -> None:
    refused = httpx.post(f"{place.url}/spleen/claim")
    assert refused.status_code == 404
    assert "no object 'spleen' here: slem_brain_clicks: WT, TC, ET" in refused.json()["detail"]


def header(shape: tuple[int, ...], dtype: bytes = b"int16") -> bytes:
    start = struct.pack("<4s4B", b"NNIA", 1, 1, len(shape), len(dtype)) + dtype
    return start + struct.pack(f"<{len(shape)}q", *shape)


BOMB = pack_array(np.zeros((1, 400, 400, 400), dtype=np.int16))
BAD = {
    "nothing": (b"", 422),
    "another kind of file": (b"\x1f\x8b" + bytes(100), 422),
    "cut off": (pack_array(np.ones((1, 8, 8, 8), dtype=np.int16))[:-9], 422),
    "pieces that are missing": (header((1, 8, 8, 8)) + struct.pack("<I", 0), 422),
    "endless pieces": (header((1, 8, 8, 8)) + struct.pack("<IQQ", 2**32 - 1, 0, 0), 422),
    "a frame that is none": (header((1, 8, 8, 8)) + struct.pack("<IQQ", 1, 1024, 64) + bytes(64), 422),
    "objects": (header((1, 8, 8, 8), b"object") + struct.pack("<I", 0), 422),
    "a promise of terabytes": (header((1, 2**40, 8, 8)) + struct.pack("<I", 0), 413),
    "a bomb": (BOMB, 413),
    "two channels": (pack_array(np.ones((2, 8, 8, 8), dtype=np.int16)), 422),
    "nothing to see": (pack_array(np.zeros((1, 8, 8, 8), dtype=np.int16)), 422),
}


@pytest.mark.parametrize("what", BAD)
def test_bodies_that_no_client_sends_are_refused_in_words(connect: Callable[..., Session], what: str) -> None:
    body, status = BAD[what]
    assert len(body) < 100_000
    client = connect()
    refused = client._http.post(
        "/set_image", content=body, headers={"Content-Type": "application/octet-stream"}
    )
    assert refused.status_code == status, refused.text
    if status == 413:
        assert "the limit is" in refused.json()["detail"]
        assert refused.json()["detail"].count("MiB") + refused.json()["detail"].count("TiB") >= 1
    assert client.ping()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/add_point_interaction", {"coordinates": [1, 2], "include_interaction": True}),
        ("/add_point_interaction", {"coordinates": [1, 2, 1e300], "include_interaction": True}),
        ("/add_point_interaction", {"coordinates": [999, 2, 3], "include_interaction": True}),
        ("/add_point_interaction", {"coordinates": [1, 2, 3]}),
        ("/add_bbox_interaction", {"bbox_coords": [[1, 1], [2, 3], [2, 3]], "include_interaction": True}),
        ("/add_bbox_interaction", {"bbox_coords": "all", "include_interaction": True}),
        ("/set_target_buffer", {"shape": [80, 96, 10**9], "dtype": "uint8"}),
        ("/set_target_buffer", {"shape": [80, 96, 80], "dtype": "object"}),
    ],
)
def test_fields_that_no_client_sends_are_refused_and_change_nothing(
    connect: Callable[..., Session], place: Place, head: phantom.Phantom, path: str, fields: dict
) -> None:
    client, truth = connect(), tumor(head)
    target = begun(client, image_of(place))
    refused = client._http.post(path, json=fields)
    assert refused.status_code in (400, 422), refused.text
    assert len(refused.json()["detail"]) > 20
    client.add_point_interaction(middle(truth), True)
    assert target[tuple(middle(truth))]
