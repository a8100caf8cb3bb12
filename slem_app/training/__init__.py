"""What every training shares, self-supervised or supervised: the loop, its state on disk, rates, averages and
processes.
"""

from slem_app.training.loop import Numbered, Outcome, Plan, TrainingFailed, fit
from slem_app.training.ranks import (
    device_of_this_process,
    end_with_launcher,
    first_process,
    first_process_first,
    join_processes,
    leave_processes,
    of_all,
    ranks,
)
from slem_app.training.state import State

__all__ = [
    "Numbered",
    "Outcome",
    "Plan",
    "State",
    "TrainingFailed",
    "device_of_this_process",
    "end_with_launcher",
    "first_process",
    "first_process_first",
    "fit",
    "join_processes",
    "leave_processes",
    "of_all",
    "ranks",
]
