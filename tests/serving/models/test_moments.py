"""Clients that keep the list of prompts themselves: what they give counts, and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest

from slem_app.prompts import Click, Mask, Prompts
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.models.history import EditHistory
from slem_app.serving.models.inference import InferRequest
from slem_app.serving.models.interactive import InteractiveTask

HERE, THERE = (20, 22, 18), (12, 30, 20)


@pytest.fixture
def case(cases: Cases) -> Case:
    return cases.find("A")


def shown(task: InteractiveTask, case: Case, prompts: Prompts) -> np.ndarray:
    request = InferRequest("slem_brain_clicks", "A", client_id="ann", reply=None, prompts=prompts)
    return task(case, request).prediction.array


def clicks(case: Case) -> tuple[Click, Click]:
    grid = case.series.grid
    return Click.on(grid, HERE, "necrosis"), Click.on(grid, THERE, "enhancing tumor")


def test_what_is_left_out_is_taken_back_and_may_be_said_again(task: InteractiveTask, case: Case) -> None:
    one, two = clicks(case)
    first = shown(task, case, Prompts((one,)))
    both = shown(task, case, Prompts((one, two)))
    assert (both[HERE], both[THERE]) == (1, 3)
    assert np.array_equal(shown(task, case, Prompts((one,))), first)
    assert np.array_equal(shown(task, case, Prompts((one, two))), both)
    assert not np.array_equal(shown(task, case, Prompts()), both)


def test_the_same_is_shown_where_the_steps_were_forgotten(
    task: InteractiveTask, make_task: Callable, case: Case
) -> None:
    prompts = Prompts(clicks(case))
    before = shown(task, case, prompts)
    assert isinstance(task.memory, EditHistory)
    task.memory.forget("ann@")
    assert task.memory.used == 0
    assert np.array_equal(shown(task, case, prompts), before)


def test_a_mask_is_what_prompts_start_from_as_long_as_it_is_given(task: InteractiveTask, case: Case) -> None:
    one, _ = clicks(case)
    automatic = shown(task, case, Prompts())
    drawn = np.zeros(case.series.grid.shape, dtype=np.uint8, order="F")
    drawn[5:9, 5:9, 5:9] = 2
    mask = Mask(drawn, case.series.grid)
    assert np.array_equal(shown(task, case, Prompts(mask=mask)), drawn)
    clicked = shown(task, case, Prompts((one,), mask=mask))
    assert clicked[HERE] == 1
    assert (clicked[5:9, 5:9, 5:9] == 2).all()
    assert np.array_equal(shown(task, case, Prompts(mask=mask)), drawn)
    assert np.array_equal(shown(task, case, Prompts()), automatic)
