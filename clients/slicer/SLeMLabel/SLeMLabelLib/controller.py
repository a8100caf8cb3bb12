"""What the buttons do, from the server to the scene. Knows no windows: what is to be shown goes to a `Panel`.

Whatever the server or the scene refuses reaches the panel's status as a sentence.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import strokes, views
from .client import Client, LogInNeeded, Reply, ServerError
from .drawing import CLICK, LASSO
from .learning import progress
from .opening import Opened, fetch
from .panel_protocol import Panel
from .scene import CaseScene, SceneError
from .session import Drawn, Request, Session
from .worker import Job, Worker

__all__ = ["Controller"]

BRUSH = 3.0  # mm, width of a scribble
REACH = 0.25  # by which the buttons change the reach of the last prompt
LOG_IN = "logging in"


class Controller:
    """One reader's module.

    Args:
        panel: what shows it.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.worker = Worker(self._failed, (ServerError, SceneError))
        self.client: Client | None = None
        self.info: Mapping[str, Any] = {}
        self.session: Session | None = None
        self.scene: CaseScene | None = None
        self.label = ""
        self.saved: np.ndarray | None = None
        self.dirty = False
        self.listed = ("", "all", "case", 1)
        self.folder = tempfile.TemporaryDirectory(prefix="SLeMLabel-")

    # the server

    def connect(self, url: str, reader: str) -> None:
        """Go to a server; asks for name and password where it wants them."""
        if self.client is not None:
            self.client.close()
        self.client = Client(url, reader)
        self._add("connecting", lambda client: (client.info(), client.user()), self._connected)

    def list_cases(self, text: str = "", state: str = "all", sort: str = "case", page: int = 1) -> None:
        """Show a page of the worklist."""
        self.listed = (text, state, sort, page)
        self._add("", lambda client: client.worklist(text, state, sort, page), self.panel.show_worklist)

    def _connected(self, told: tuple[Mapping[str, Any], str]) -> None:
        self.info, user = told
        self.panel.show_server(self.info, user)
        self.panel.show_status("Connected. Choose a case, or press Next case.", "good")
        self._show_learning()
        self.list_cases(*self.listed)

    # cases

    def next_case(self, strategy: str) -> None:
        """Open the case that the server chooses."""
        if self._may_leave():
            self._add("asking for the next case", lambda client: client.next_case(strategy), self._chosen)

    def open(self, name: str) -> None:
        """Open a case by its name."""
        if self._may_leave():
            self._open(name)

    def _chosen(self, chosen: Mapping[str, Any]) -> None:
        if not chosen:
            text = "There is no further case: each one has a final label, or somebody has it in hand."
            self.panel.show_status(text, "refused")
            return
        self._open(str(chosen["id"]))

    def _open(self, name: str) -> None:
        folder = Path(self.folder.name)
        self._add(f"opening {name}", lambda client: fetch(client, name, self.info, folder), self._opened)

    def _opened(self, opened: Opened) -> None:
        self.close_case()
        case = opened.case
        self.scene = CaseScene(case, opened.files, self._edited)
        self.session = Session(self.client, case, self.scene.matrix, self.scene.shape)
        self.label = case.labels[0]
        for path in opened.files.values():
            path.unlink(missing_ok=True)  # it is in the scene now, and holds a patient's image
        views.show_volumes(self.scene.volumes, case.reference)
        self.panel.show_case(case, opened.holder)
        self.panel.show_result({"warnings": [{"text": text} for text in case.warnings]})
        if opened.label is None:
            self._segment()
        else:
            array = self.session.placed(opened.label, ".nii.gz")
            self.session.began_with(array)
            self.saved = array
            self._show(array)
            self._look_at(array)
            self.panel.show_status(f"{opened.said} Start over shows the model's own.", "good")

    def close_case(self) -> None:
        """Take the case out of the scene."""
        if self.scene is not None:
            self.scene.close()
        self.scene = self.session = self.saved = None
        self.panel.show_case(None, "")

    # segmentation

    def draw(self, tool: str, points: np.ndarray) -> None:
        """A click or a stroke of the chosen label; points (n, 3), RAS mm."""
        if self.scene is None or self.session is None:
            self._refuse("Open a case first.")
            return
        if not self.session.case.follows:
            self._refuse(f"{self.session.case.model} cannot be corrected by clicks: use the Segment Editor.")
            return
        try:
            drawn = self._voxels(tool, points)
        except SceneError as error:
            self._refuse(str(error))
            return
        self._ask(tool, lambda session, shown: session.ask(shown, drawn))

    def add_box(self) -> None:
        """A box between whose faces labels may be; its faces can be dragged."""
        if self.scene is not None:
            self.scene.add_box(self.scene.read(), self._box_moved)
            self._box_moved()

    def remove_box(self) -> None:
        """Labels may be anywhere."""
        if self.scene is not None and self.scene.box is not None:
            self.scene.remove_box()
            self._box_moved()

    def undo(self) -> None:
        """Take the last step back: an edit since the last answer, else a click, a stroke or a box."""
        self._ask("undo", lambda session, shown: self._back(session.undo_edit(shown), session, "undo", shown))

    def redo(self) -> None:
        """The step that was taken back, again."""
        self._ask("redo", lambda session, shown: self._back(session.redo_edit(shown), session, "redo", shown))

    def less(self) -> None:
        """The last click or stroke reaches less far; no step of its own."""
        self._ask("less", lambda session, shown: session.ask_reach(shown, -REACH))

    def more(self) -> None:
        """The last click or stroke reaches farther."""
        self._ask("more", lambda session, shown: session.ask_reach(shown, REACH))

    def start_over(self) -> None:
        """The model's own segmentation; undo brings the work back."""
        self._ask("start over", lambda session, shown: session.ask_step("start_over", shown))

    def jump(self, place: Sequence[float]) -> None:
        """Show a place (RAS mm) in all views."""
        views.jump(place)

    def _box_moved(self) -> None:
        def ask(session: Session, shown: np.ndarray) -> Request:
            return session.ask_box(shown, self.scene.box_voxels())

        self._ask("box", ask)

    def _voxels(self, tool: str, points: np.ndarray) -> Drawn:
        """A prompt on the voxels of the reference image.

        Raises:
            SceneError: it holds none of them.
        """
        scene, size = self.scene, self.scene.size
        if tool == CLICK:
            found = strokes.voxel(points[0], scene.matrix, size)
            if found is not None:
                return Drawn(self.label, (found,))
        else:
            around = tool == LASSO or strokes.closed(points)
            voxels = strokes.inside(points, scene.matrix, size) if around else ()
            outline = len(voxels) > 0
            if tool != LASSO and not outline:
                voxels = strokes.line(points, BRUSH, scene.matrix, size)
            if len(voxels):
                runs = tuple(tuple(run) for run in strokes.runs(voxels))
                return Drawn(self.label, runs=runs, outline=outline)
        case = self.session.case
        raise SceneError(f"The {tool} holds no voxel of {case.image}: draw inside that image.")

    @staticmethod
    def _back(
        edit: np.ndarray | None, session: Session, what: str, shown: np.ndarray
    ) -> np.ndarray | Request:
        return session.ask_step(what, shown) if edit is None else edit

    def _segment(self) -> None:
        """The automatic segmentation of a case that was just opened."""
        session = self.session

        def taken(request: Request, reply: Reply) -> None:
            self._taken(session, request, reply)
            if self.session is not session:
                return
            self._look_at(self.scene.read())
            if reply.facts.get("steps"):
                self.panel.show_status("You have worked on this case before: Undo brings it back.", "good")

        self.worker.add(Job("segmenting", lambda: session.ask(None), session.send, taken))
        self._show_busy()

    def _ask(self, what: str, make: Any) -> None:
        """Add a request whose parts are made when its turn comes, from what is shown then."""
        if self.scene is None or self.session is None:
            self._refuse("Open a case first.")
            return
        session = self.session

        def prepare() -> np.ndarray | Request:
            if self.session is not session:
                raise SceneError("The case was closed meanwhile.")
            return make(session, self.scene.read())

        def remote(asked: np.ndarray | Request) -> Reply | None:
            return session.send(asked) if isinstance(asked, Request) else None

        def done(asked: np.ndarray | Request, reply: Reply | None) -> None:
            self._taken(session, asked, reply)

        self.worker.add(Job(what, prepare, remote, done))
        self._show_busy()

    def _taken(self, session: Session, asked: np.ndarray | Request, reply: Reply | None) -> None:
        """Show an answer, unless another case is open by now."""
        if self.session is not session:
            return
        if reply is None:
            self._show(asked)
        else:
            self._show(session.take(asked, reply, self.scene.read() if asked.shown is not None else None))
            self.panel.show_result({**session.facts, "trust": session.trust})
        self.panel.show_status("", "")

    def _show(self, array: np.ndarray) -> None:
        self.scene.show(array)
        self.scene.mark(self.session.prompts.drawn)
        self._tell_volumes(array)

    def _look_at(self, array: np.ndarray) -> None:
        point = self.scene.largest_slice(array)
        if point is not None:
            views.jump(point)

    def _edited(self) -> None:
        self.dirty = True

    def _tell_volumes(self, shown: np.ndarray) -> None:
        self.dirty = False
        self.panel.show_volumes(self.session.volumes(shown), self.session.unchanged(shown))

    # saving

    def submit(self, tag: str = "final") -> None:
        """Save what is shown; a segmentation that is the model's own is confirmed by it."""
        if self.scene is None or self.session is None:
            self._refuse("Open a case first.")
            return
        session, case = self.session, self.session.case

        def remote(shown: np.ndarray) -> Mapping[str, Any]:
            self.client.submit(case.image, session.file(shown), list(case.labels), case.model, tag)
            versions = [one for one in self.client.versions(case.name) if one["tag"] == tag]
            return max(versions, key=lambda one: one["version"])

        def done(shown: np.ndarray, version: Mapping[str, Any]) -> None:
            self.saved = shown
            how = "Confirmed unchanged" if version.get("confirmed") else "Submitted"
            how = how if tag == "final" else "Kept as a draft"
            self.panel.show_status(f"{how}: version {version['version']} of {case.name}.", "good")
            self.list_cases(*self.listed)

        self.worker.add(Job("submitting", self.scene.read, remote, done))
        self._show_busy()

    def unsaved(self) -> bool:
        """Whether the reader has done something to the case that is not submitted."""
        if self.scene is None or self.session is None or self.session.answered is None:
            return False
        try:
            shown = self.scene.read()
        except SceneError:  # there is more than labels
            return True
        return not (self.session.unchanged(shown) or np.array_equal(shown, self.saved))

    def _may_leave(self) -> bool:
        return not self.unsaved() or self.panel.ask_leave(self.session.case.name)

    # learning

    def train(self) -> None:
        """Start a round of learning of the case's model, or of the first that can learn."""
        trainers = list(self.info.get("trainers", {}))
        model = self.session.case.model if self.session is not None else "".join(trainers[:1])
        self._add("starting to learn", lambda client: client.train(model), self._learning_changed)

    def stop_training(self) -> None:
        """Stop the round that runs."""
        self._add("stopping", lambda client: client.stop_training(), self._learning_changed)

    def look_at_learning(self) -> None:
        """Ask how the learning goes, unless something else is on its way."""
        if self.client is None or self.worker.busy:
            return

        def told(info: Mapping[str, Any]) -> None:
            self.info = info
            self._show_learning()

        job = Job("", lambda: self.client, lambda client: client.info(), lambda client, info: told(info))
        self.worker.add(job)

    def _learning_changed(self, *told: object) -> None:
        self.panel.show_status("", "")
        self.look_at_learning()

    def _show_learning(self) -> None:
        self.panel.show_learning(*progress(self.info))

    # jobs

    def poll(self) -> None:
        """Take what has come; to be called a few times a second."""
        self.worker.poll()
        if self.dirty and self.scene is not None and not self.worker.busy:
            try:
                self._tell_volumes(self.scene.read())
            except SceneError as error:
                self.dirty = False
                self._refuse(str(error))

    def close(self) -> None:
        """End all; the scene is left without the case."""
        self.worker.close()
        self.close_case()
        self.folder.cleanup()

    def _add(self, what: str, remote: Any, done: Any) -> None:
        """Add a job that needs nothing of the scene."""
        if self.client is None:
            self._refuse("Connect to a server first.")
            return
        self.worker.add(Job(what, lambda: self.client, remote, lambda client, came: done(came)))
        self._show_busy()

    def _show_busy(self) -> None:
        if self.worker.what:
            self.panel.show_status(f"{self.worker.what[0].upper()}{self.worker.what[1:]} …", "busy")

    def _refuse(self, text: str) -> None:
        self.panel.show_status(text[:1].upper() + text[1:], "refused")

    def _failed(self, job: Job, error: Exception) -> None:
        refused = job.what == LOG_IN
        if refused and not self.worker.waiting:
            self._refuse(str(error))
        elif refused or isinstance(error, LogInNeeded):
            self._log_in(self.worker.waiting.popleft() if refused else job, str(error))
        else:
            self._refuse(str(error))

    def _log_in(self, job: Job, why: str) -> None:
        """Ask for name and password, and do again what was refused."""
        given = self.panel.ask_log_in(why)
        if given is None:
            self._refuse("Not logged in.")
            return
        client = self.client
        self.worker.waiting.appendleft(job)
        log_in = Job(LOG_IN, lambda: given, lambda given: client.log_in(*given), lambda *told: None)
        self.worker.waiting.appendleft(log_in)
