"""The pretext tasks by name. A new one is a file with a `Task` and a line here."""

from __future__ import annotations

from slem_app.errors import NotFound
from slem_app.pretext.task import Task
from slem_app.pretext.tasks.jigen import Jigen
from slem_app.pretext.tasks.masked import Masked
from slem_app.pretext.tasks.multimodal_puzzle import MultimodalPuzzle
from slem_app.pretext.tasks.placebo import Placebo
from slem_app.pretext.tasks.slem import Slem
from slem_app.pretext.tasks.slem_restore import SlemRestore, SlemSlotsRestore
from slem_app.pretext.tasks.slem_slots import SlemSlots
from slem_app.pretext.tasks.supervoxel import Supervoxel

__all__ = ["TASKS", "task_class"]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Slem,
        Jigen,
        MultimodalPuzzle,
        Supervoxel,
        Masked,
        SlemRestore,
        SlemSlots,
        SlemSlotsRestore,
        Placebo,
    )
}


def task_class(name: str) -> type[Task]:
    """The task called `name`.

    Raises:
        NotFound: there is none.
    """
    if name not in TASKS:
        raise NotFound(f"no pretext task {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name]
