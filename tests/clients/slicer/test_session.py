"""A reader's work on one case: what is sent with each request, and what is shown after it."""

import numpy as np
import pytest
from SLeMLabelLib import labelmap
from SLeMLabelLib.client import Reply, ServerError
from SLeMLabelLib.session import Case, Drawn, Prompts, Session

SHAPE = (4, 5, 6)
MATRIX = np.diag([-1.0, 1.0, 2.0, 1.0])
INFO = {
    "models": {
        "brain": {"labels": {"edema": 2, "core": 1}, "colors": {"core": [1, 2, 3], "edema": [4, 5, 6]}},
        "brain_clicks": {"labels": {"core": 1, "edema": 2, "background": 3}},
    }
}
FACTS = {"models": ["brain"], "sequences": {"t1c": {}, "t2f": {}}, "sequence": "t1c", "warnings": []}


class Server:
    """Answers with what it is told to, and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple] = []
        self.array, self.steps = np.zeros(SHAPE, np.uint8), 0
        self.matrix = MATRIX

    def segment(self, model: str, image: str, fields: dict, label: bytes | None) -> Reply:
        self.got.append((model, image, fields, None if label is None else labelmap.read(label)[0]))
        return self._reply()

    def step(self, what: str, model: str, image: str) -> Reply:
        self.got.append((what, model, image))
        return self._reply()

    def _reply(self) -> Reply:
        return Reply(labelmap.write(self.array, self.matrix), {"steps": self.steps})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def session(server: Server) -> Session:
    return Session(server, Case.of("ann", FACTS, INFO), MATRIX, SHAPE)


def click(label: str, *voxel: int) -> Drawn:
    return Drawn(label, (voxel,))


def goes(session: Session, request: object, shown: np.ndarray | None, steps: int) -> np.ndarray:
    session.client.steps = steps
    return session.take(request, session.send(request), shown)


def test_a_case_knows_its_model_and_labels_in_the_order_of_their_values() -> None:
    case = Case.of("ann", FACTS, INFO)
    assert (case.model, case.tool, case.follows, case.image) == ("brain", "brain_clicks", True, "ann/t1c")
    assert case.labels == ("core", "edema")
    assert case.colors["edema"] == (4, 5, 6)
    with pytest.raises(ServerError, match="no model of this server is for ann"):
        Case.of("ann", {**FACTS, "models": []}, INFO)


def test_every_request_carries_all_prompts_and_what_is_shown(session: Session, server: Server) -> None:
    goes(session, session.ask(None), None, 0)
    assert server.got[-1][3] is None
    shown = np.full(SHAPE, 2, np.uint8)
    goes(session, session.ask(shown, click("edema", 1, 2, 3)), shown, 1)
    stroke = Drawn("background", runs=((0, 0, 0, 2),))
    goes(session, session.ask(shown, stroke), shown, 2)
    model, image, fields, label = server.got[-1]
    assert (model, image) == ("brain_clicks", "ann/t1c")
    assert fields["edema"] == [[1, 2, 3]]
    assert fields["scribbles"] == [{"label": "background", "runs": [[0, 0, 0, 2]], "outline": False}]
    assert fields["label_info"] == [{"name": "core"}, {"name": "edema"}]
    np.testing.assert_array_equal(label, shown)
    lasso = Drawn("edema", runs=((1, 1, 1, 3),), outline=True)
    goes(session, session.ask(shown, lasso), shown, 3)
    assert server.got[-1][2]["scribbles"][1] == {"label": "edema", "runs": [[1, 1, 1, 3]], "outline": True}


def test_what_is_edited_while_a_request_is_on_its_way_is_kept(session: Session, server: Server) -> None:
    asked = np.zeros(SHAPE, np.uint8)
    server.array = np.ones(SHAPE, np.uint8)
    meanwhile = asked.copy()
    meanwhile[0, 0, 0] = 2
    shown = goes(session, session.ask(asked, click("core", 0, 0, 0)), meanwhile, 1)
    assert shown[0, 0, 0] == 2
    assert (shown.ravel()[1:] == 1).all()


def test_undo_and_redo_take_the_prompts_along(session: Session, server: Server) -> None:
    shown = goes(session, session.ask(None), None, 0)
    first, second = click("core", 0, 0, 0), click("edema", 1, 1, 1)
    goes(session, session.ask(shown, first), shown, 1)
    goes(session, session.ask(shown, second), shown, 3)  # an edit came with it, a step of its own
    goes(session, session.ask_step("undo", shown), shown, 2)
    assert session.prompts.drawn == (first,)
    goes(session, session.ask_step("redo", shown), shown, 3)
    assert session.prompts.drawn == (first, second)
    goes(session, session.ask_step("undo", shown), shown, 2)
    goes(session, session.ask(shown, second), shown, 3)
    sent = [one[2]["edema"] for one in server.got[-2:]]
    assert sent == [[], [[1, 1, 1]]]  # the server is told first that the undone click is gone


def test_less_and_more_change_the_reach_of_the_last_prompt(session: Session, server: Server) -> None:
    shown = goes(session, session.ask(None), None, 0)
    with pytest.raises(ServerError, match="no click or stroke whose reach"):
        session.ask_reach(shown, 0.25)
    goes(session, session.ask(shown, click("core", 0, 0, 0)), shown, 1)
    goes(session, session.ask_reach(shown, 0.25), shown, 1)
    assert server.got[-1][2]["core"] == [[0, 0, 0]]
    assert server.got[-1][2]["reaches"] == [{"label": "core", "voxel": [0, 0, 0], "reach": 0.25}]
    stroke = Drawn("edema", runs=((0, 1, 0, 2),))
    goes(session, session.ask(shown, stroke), shown, 2)
    goes(session, session.ask_reach(shown, -0.5), shown, 2)
    assert server.got[-1][2]["scribbles"] == [
        {"label": "edema", "runs": [[0, 1, 0, 2]], "outline": False, "reach": -0.5}
    ]
    assert len(server.got[-1][2]["reaches"]) == 1
    goes(session, session.ask_step("undo", shown), shown, 1)
    assert [(one.label, one.reach) for one in session.prompts.drawn] == [("core", 0.25)]
    goes(session, session.ask_reach(shown, 0.9), shown, 1)
    assert session.prompts.drawn[-1].reach == 1
    with pytest.raises(ServerError, match="reaches more at most"):
        session.ask_reach(shown, 0.25)
    goes(session, session.ask(shown, stroke), shown, 2)
    assert [one[2]["scribbles"] for one in server.got[-2:]] == [
        [],
        [{"label": "edema", "runs": [[0, 1, 0, 2]], "outline": False}],
    ]
    edited = shown.copy()
    edited[1, 1, 1] = 1
    with pytest.raises(ServerError, match="edited the segmentation since"):
        session.ask_reach(edited, 0.25)


def test_a_case_knows_whether_reaches_can_be_changed() -> None:
    assert not Case.of("ann", FACTS, INFO).reaches
    tool = {**INFO["models"]["brain_clicks"], "reaches": True}
    assert Case.of("ann", FACTS, {"models": {**INFO["models"], "brain_clicks": tool}}).reaches


def test_start_over_forgets_prompts_and_undo_brings_them_back(session: Session) -> None:
    shown = goes(session, session.ask(None), None, 0)
    goes(session, session.ask(shown, click("core", 0, 0, 0)), shown, 1)
    own = goes(session, session.ask_step("start_over", shown), shown, 2)
    assert session.prompts == Prompts()
    assert session.unchanged(own)
    goes(session, session.ask_step("undo", shown), shown, 1)
    assert len(session.prompts.drawn) == 1


def test_an_edit_is_undone_and_redone_here(session: Session) -> None:
    shown = goes(session, session.ask(None), None, 0)
    assert session.undo_edit(shown) is None
    edited = shown.copy()
    edited[1, 1, 1] = 1
    np.testing.assert_array_equal(session.undo_edit(edited), shown)
    np.testing.assert_array_equal(session.redo_edit(shown), edited)
    assert session.redo_edit(shown) is None


def test_an_answer_that_lies_elsewhere_is_refused(session: Session, server: Server) -> None:
    server.matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    with pytest.raises(ServerError, match="lies elsewhere than the image"):
        goes(session, session.ask(None), None, 0)


def test_volumes_and_unchanged_go_by_what_is_shown(session: Session) -> None:
    shown = goes(session, session.ask(None), None, 0)
    assert session.unchanged(shown)
    edited = shown.copy()
    edited[0] = 2
    assert session.volumes(edited) == {"core": 0.0, "edema": pytest.approx(5 * 6 * 2 / 1000)}
    assert not session.unchanged(edited)


def test_an_image_that_slicer_turned_around_is_asked_in_the_servers_voxels(
    session: Session, server: Server
) -> None:
    server.matrix = MATRIX.copy()
    server.matrix[2, 2], server.matrix[2, 3] = -2.0, 2.0 * (SHAPE[0] - 1)  # K runs the other way
    server.array[0, 1, 2] = 2
    shown = goes(session, session.ask(None), None, 0)
    assert shown[SHAPE[0] - 1, 1, 2] == 2
    stroke = Drawn("core", runs=((1, 2, 0, 3),))
    goes(session, session.ask(shown, click("edema", 2, 1, 3), stroke), shown, 1)
    _, _, fields, label = server.got[-1]
    assert fields["edema"] == [[2, 1, 0]]
    assert fields["scribbles"][0]["runs"] == [[1, 2, 3, 3]]
    np.testing.assert_array_equal(label, server.array)
    box = Prompts(box=(0, 1, 0, 1, 0, 1)).flipped((True, False, True), SHAPE[::-1]).box
    assert box == (5, 4, 0, 1, 3, 2)
    run = Prompts((Drawn("core", runs=((1, 0, 0, 3),)),)).flipped((True, False, False), SHAPE[::-1])
    assert run.drawn[0].runs == ((2, 0, 0, 3),)
