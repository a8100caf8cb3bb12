"""What the app in `apps/slem` is made of: studies, models, strategies, sessions, and how a request finds its
case.

`Serving` holds everything; the class in `main.py`, which MONAI Label asks, only hands its calls on.
"""

from __future__ import annotations

import atexit
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slem_app.errors import BadSetting, NotFound
from slem_app.grouping import Grouping
from slem_app.predict import Predictor
from slem_app.preemption import uninterrupted
from slem_app.serving.auth.audit import about
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.models_for_case import check, fitting
from slem_app.serving.cases.open_studies import open_cases
from slem_app.serving.cases.sessions import UploadSessions
from slem_app.serving.cases.upload_grouping import NIFTI, group_upload
from slem_app.serving.cases.upload_quota import UploadQuota
from slem_app.serving.dicom.export import PacsResults, ResultExchange
from slem_app.serving.dicom.sync import DicomSync
from slem_app.serving.labels.activity import Activity
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.labels.priors import Priors
from slem_app.serving.labels.records import Records
from slem_app.serving.labels.submission import LabelSubmission
from slem_app.serving.learning.batch import Batches
from slem_app.serving.learning.case_scores import Scores
from slem_app.serving.learning.leases import Leases
from slem_app.serving.learning.next_case import Chooser
from slem_app.serving.learning.training import ModelTrainer, Trainings
from slem_app.serving.models.computing import Computing
from slem_app.serving.models.history import EditHistory
from slem_app.serving.models.inference import InferAnswer, InferRequest
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.last_result import LastResults
from slem_app.serving.models.segment import SegmentationTask, results_folder
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.models.versions import VersionWatcher
from slem_app.serving.saving import LabelSaving
from slem_app.serving.settings import parse_settings
from slem_app.store.dicom_results import DicomResults
from slem_app.store.lock import StoreLock
from slem_app.store.review import APPROVED
from slem_app.studies.places import default_store
from slem_app.volumes.size import check_sizes
from slem_app.weights import Card, Model, find, model_names
from slem_app.weights.card import CARD_FILE
from slem_app.weights.published import Published

__all__ = ["DESCRIPTION", "NAME", "NO_IMAGE", "ModelConfig", "Serving"]

logger = logging.getLogger(__name__)

NAME = "SLeM Label"
NO_IMAGE = "the request names no image: give `image=ID`, or `session_id=ID` of an upload that is still there"
GIVEN = 256 * 2**20  # bytes of what readers were last given
DESCRIPTION = (
    "Segmentation of cases of several sequences with missing ones allowed. Research use only, "
    "not for diagnostic use."
)


TOOLS = {"clicks": TaskKind.CLICKS, "scribbles": TaskKind.SCRIBBLES}


class ModelConfig(ABC):
    """How the app offers a model; the classes in `lib/configs` are derived from this one.

    Args:
        serving: the server.
        name: the model's name, which is that of the file.
    """

    def __init__(self, serving: Serving, name: str) -> None:
        self.serving, self.name = serving, name

    @abstractmethod
    def infer(self) -> SegmentationTask | InteractiveTask:
        """The model."""

    def trainer(self) -> ModelTrainer | None:
        """The same as one that learns; None where it is not to."""
        return None


Configure = Callable[["Serving", str], ModelConfig]
"""Makes a model's configuration, from the server and the model's name."""


class Serving:
    """One server's state.

    Args:
        studies: the studies folder, or the address of a PACS.
        conf: MONAI Label's `--conf` table.
        configs: makes the configuration of each model that the app names, from the server and that name.
        sessions: volumes that clients upload for themselves.

    Raises:
        BadSetting: an unknown setting, or a model that the app does not offer.
        BadStudy: a studies folder of no known layout.
        PacsFailed: a PACS that does not answer.
        NotFound, BadCard, BadWeights: a model that cannot be loaded.
    """

    def __init__(
        self,
        studies: str,
        conf: Mapping[str, str],
        configs: Mapping[str, Configure],
        sessions: UploadSessions,
    ) -> None:
        self.settings = parse_settings(conf)
        self.computing = Computing(self.settings)
        self.memory = EditHistory(self.settings.memory_mb * 2**20)
        self.folder = results_folder()
        self.automatic: dict[str, SegmentationTask] = {}
        self.sessions = sessions
        root = self.settings.store or default_store(studies)
        self.lock = StoreLock(root)
        self.timed: Callable[[str, Mapping[str, float]], None] = lambda model, latencies: None
        self.models, self.assignments = root / "models", root / "hands"
        self.watchers: dict[str, VersionWatcher] = {}
        self.last_results = LastResults(root / "given", GIVEN)
        self.tasks = self._tasks(configs)
        self.cases = open_cases(studies, self.settings, root)
        self.quota = UploadQuota(root / "uploads", self.settings.upload_quota_mb * 2**20)
        leases = Leases(root / "leases.json", self.settings.lease_minutes)
        self.activity = Activity(60 * self.settings.lease_minutes, leases.since)
        names = {name: task.predictor.card.labels for name, task in self.tasks.items()}
        orders = {name: card.reference_order for name, card in self.cards.items()}
        self.records = Records(self.activity, self.tasks, self.last_results)
        self.datastore = CaseDatastore(
            self.cases,
            root,
            names,
            self.records.of,
            self.settings.experts,
            self._offered,
            orders,
            self._moves,
            self.records.is_as_given,
            self.records.corrections,
        )
        if swept := self.datastore.store.sweep():
            logger.warning(
                "%d unfinished files of processes that were killed are taken away; what they were to replace "
                "is as it was",
                swept,
            )
        pacs = self.cases.pacs
        home = DicomResults(root / "dicom") if pacs is None else PacsResults(pacs)
        self.dicom_results = home if isinstance(home, DicomResults) else None
        self.results = ResultExchange(self.datastore, home)
        self.dicom_sync = DicomSync(self.results, pacs, self.came)
        # unless it is wanted, no PACS is read through from end to end in the background
        load = 0.0 if self.cases.pacs is not None and "score_load" not in conf else self.settings.score_load
        self.scores = Scores(
            root / "scores",
            self.datastore,
            self._current,
            load,
            self.settings.register,
            scorer=self.computing.scorer,
        )
        self.trainings = Trainings(
            self.datastore,
            self.settings.coding,
            self._round_defaults(root),
            self.settings.learn == APPROVED,
        )
        self.trainers = self._trainers(configs)
        self.batches = Batches(
            self.datastore, self.model, self.settings.coding, self.settings.device, self.settings.register
        )
        self.chooser = Chooser(self.scores, leases, models=tuple(self.automatic))
        self.priors = Priors(self.cases, self.datastore, self.last_results)
        self.saving = LabelSaving(
            self.datastore,
            self.records,
            self.tasks,
            self.automatic,
            self.watchers,
            self.last_results,
            self.results,
            self.chooser,
        )

    def _offered(self, grouping: Grouping) -> tuple[str, ...]:
        return fitting(grouping, self.cards)

    def _current(self) -> list[Predictor]:
        return [task.predictor for task in self.automatic.values()]

    @property
    def cards(self) -> dict[str, Card]:
        """Of every task, by its name."""
        return {name: task.predictor.card for name, task in self.tasks.items()}

    def segmentation(self, name: str) -> SegmentationTask:
        """The model called `name` as an inference task; asked for by the app's classes in `lib/configs`."""
        if name in self.automatic:
            return self.automatic[name]
        own = self.settings.models_dir / name if self.settings.models_dir else None
        published = Published(self.models, name, own if own and (own / CARD_FILE).is_file() else find(name))
        self.watchers[name] = VersionWatcher(
            published, self.computing.device, lambda: self.scores.wake(), self.assignments / f"{name}.json"
        )
        self.automatic[name] = SegmentationTask(
            self.watchers[name].served, self.computing.of_model(), self.folder, self.last_results
        )
        return self.automatic[name]

    def interactive(self, name: str, kind: TaskKind) -> InteractiveTask:
        """The model called `name` as a tool of the clients."""
        return InteractiveTask(self.segmentation(name), self.memory, kind)

    def training(self, name: str) -> ModelTrainer:
        """The model called `name` as one that learns; asked for by the app's classes in `lib/configs`."""
        return ModelTrainer(self.trainings, self.watchers[name])

    def _moves(self, case: Case, model: str) -> Mapping[str, np.ndarray]:
        """How a case's sequences are moved before a model sees them; without its name, before the first that
        the case is for.
        """
        names = [name for name in (model, *fitting(case.grouping, self.cards)) if name in self.tasks]
        if not names:
            return {}
        task = self.tasks[names[0]]
        return (task.automatic if isinstance(task, InteractiveTask) else task).moves(case)

    def came(self, case: str) -> None:
        """A segmentation that somebody else has stored became a label of a case."""
        self.chooser.saved(case, self.datastore)

    def stored(self, case: str) -> None:
        """A segmentation of a case was stored in the server's own DICOMweb."""
        self.dicom_sync.fetch(case)

    def start(self) -> None:
        """Begin the work in the background.

        Raises:
            BadSetting: another server serves this store.
        """
        self.lock.take()  # before anything is written in the background
        self.scores.start()
        self.dicom_sync.start()
        atexit.register(self.dicom_sync.stop)
        atexit.register(self.scores.stop)
        for watcher in self.watchers.values():
            watcher.start()
            atexit.register(watcher.stop)

    def model(self, name: str) -> Model:
        """The weights behind a task, as they are served now.

        Raises:
            NotFound: no such task.
        """
        return self.task(name).served.now.model

    def task(self, name: str) -> SegmentationTask | InteractiveTask:
        """The model or tool that clients know under a name.

        Raises:
            NotFound: no such task.
        """
        if name not in self.tasks:
            raise NotFound(f"no model {name!r}; this server has {', '.join(self.tasks)}")
        return self.tasks[name]

    def infer(self, request: InferRequest) -> InferAnswer:
        """Answer an inference request.

        Raises:
            SlemError: anything in the request or the case that cannot be used.
        """
        task, case, reader = self.task(request.model), self.case_of(request), reader_of(request.client_id)
        check(case.grouping, request.model, self.cards)
        about(case.id)
        self.chooser.active(case.id, reader)
        self.activity.touch(case.id, reader)
        with self.scores.busy():
            answer = self.priors.answer(task, case, request)
        self.timed(request.model, answer.facts.latencies)
        if answer.file is None or not request.save_label or not case.lasting:
            return answer
        said = LabelSubmission({"client_id": request.client_id or None, "model": request.model})
        image, tag = f"{case.id}/{case.image}", request.label_tag
        with uninterrupted():  # it holds the store
            saved = self.datastore.save_result(image, answer.file, tag, said, answer.facts.to_json())
        return replace(answer, saved=saved.case, tag=tag)

    def case_of(self, request: InferRequest) -> Case:
        """The case that a request is about; a volume without a telling name is the model's first sequence.

        Raises:
            BadSetting: the request names no image.
            NotFound, BadStudy, TooLarge: an image that is not there or cannot be used.
        """
        likely = self.task(request.model).predictor.card.reference_order
        if request.volume is None:
            if not request.image:
                raise BadSetting(NO_IMAGE)
            return self.cases.find(request.image, likely)
        session, files = self.sessions.folder_of(str(request.volume)), _volumes(request.volume)
        case_id = f"upload {session.name if session else request.volume.name}"
        check_sizes(files, self.cases.largest)
        grouping, notes = group_upload(case_id, files, request.sequence, likely)
        return Case(case_id, grouping, grouping.reference(likely), notes, lasting=False)

    def _tasks(self, configs: Mapping[str, Configure]) -> dict[str, SegmentationTask | InteractiveTask]:
        if unknown := [
            name for name in self.settings.models if name not in configs and not self._is_model(name)
        ]:
            raise BadSetting(f"unknown models {', '.join(unknown)}; this app has {', '.join(configs)}")
        tasks = {
            name: configs[name](self, name).infer() if name in configs else self._by_card(name)
            for name in self.settings.models or [name for name in configs if self._is_model(name)]
        }
        if self.settings.models:
            return tasks
        # viewers begin with the first one that they are told of: the model that knows the most sequences
        return dict(sorted(tasks.items(), key=lambda item: -len(item[1].predictor.card.sequences)))

    def _is_model(self, name: str) -> bool:
        """Whether there is a card for a model, or tool of a model, of that name."""
        own = self.settings.models_dir
        return any(
            (own and (own / base / CARD_FILE).is_file()) or base in model_names()
            for base in (name, _base(name))
        )

    def _by_card(self, name: str) -> SegmentationTask | InteractiveTask:
        """A model that the app does not configure: its card is enough; NAME_clicks and NAME_scribbles are its
        tools.
        """
        kind = TOOLS.get(name.rpartition("_")[2])
        return self.interactive(_base(name), kind) if kind else self.segmentation(name)

    def _round_defaults(self, root: Path) -> dict[str, Any]:
        """What the settings say of every learning round."""
        names = ("hold_out_share", "publish", "publish_tolerance", "pacs_cache_mb", "confirmed_weight")
        return {
            "hold_out": str(root / "hold_out.yaml"),
            **{name: getattr(self.settings, name) for name in names},
        }

    def _trainers(self, configs: Mapping[str, Configure]) -> dict[str, ModelTrainer]:
        """The served models that can learn, by name: only fine-tuning is ever started by a client."""
        trainers = {}
        for name in self.tasks:
            if name in configs:
                trainers[name] = configs[name](self, name).trainer()
            elif name in self.automatic:
                trainers[name] = self.training(name)
        return {name: trainer for name, trainer in trainers.items() if trainer is not None}


def _base(name: str) -> str:
    """The model that a tool is of: 'slem_brain' for 'slem_brain_clicks'."""
    base, _, tool = name.rpartition("_")
    return base if tool in TOOLS and base else name


def _volumes(path: Path) -> list[Path]:
    """What an upload holds: its NIfTI files if all are, else the whole."""
    if not path.is_dir():
        return [path]
    files = sorted(part for part in path.iterdir() if part.name != "meta.info")
    return files if files and all(part.name.endswith(NIFTI) for part in files) else [path]
