"""Prompts that cannot be meant are refused in words, and nothing of what the reader sees changes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadLabel, BadPrompt, NotFound
from slem_app.formats import write_nifti
from slem_app.serving.models.task_kind import TaskKind
from slem_app.weights import BRAIN_LABELS
from tests.serving.language import Desk, look, positive, send_mask

A = (20, 22, 18)


@contextmanager
def unchanged(desk: Desk) -> Iterator[None]:
    """What fails in here changes nothing."""
    before, clicks = desk.plays(look()), {name: list(voxels) for name, voxels in desk.clicks.items()}
    yield
    desk.clicks = clicks
    np.testing.assert_array_equal(desk.plays(look()), before)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"edema": [[40, 3, 3]]},
            r"click 1 of 'edema' at \[40, 3, 3\] lies outside the image of 40x48x40 voxels",
        ),
        ({"edema": [[3, -1, 3]]}, "lies outside the image"),
        ({"edema": [[3, math.nan, 3]]}, "three whole numbers are needed"),
        ({"edema": [[3, 4]]}, "three whole numbers are needed"),
        ({"edema": [[1.5, 4, 4]]}, "three whole numbers are needed"),
        ({"edema": "here"}, r"the clicks of 'edema' are 'here': a list of \[i, j, k\] is needed"),
        (
            {"oedema": [[3, 4, 5]]},
            (
                "clicks came for the unknown label 'oedema': this model has necrosis, edema, enhancing tumor "
                "and background"
            ),
        ),
        ({"foreground": [[3, 4, 5]], "label": "liver"}, "foreground clicks came for the label 'liver'"),
        ({"roi": [1, 2, 3]}, "roi is .* six whole numbers are needed"),
        ({"roi": [100, 120, 1, 2, 1, 2]}, "lies outside the image"),
        ({"roi": [0, 5, 0, 5, 0, 5], "edema": [[30, 30, 30]]}, "outside the box that limits this label"),
        ({"undo": "perhaps"}, "undo is 'perhaps': true or false is needed"),
    ],
)
def test_bad_prompts_are_refused_and_change_nothing(sit: Callable, fields: dict, text: str) -> None:
    desk = sit()
    desk.plays(positive("necrosis", A))
    with unchanged(desk), pytest.raises(BadPrompt, match=text) as raised:
        desk.send(**fields)
    assert raised.value.status == 422


def test_clicks_of_another_images_grid_are_refused_where_they_lie_outside(sit: Callable) -> None:
    desk = sit("B/t2f")
    desk.plays(look())
    with unchanged(desk), pytest.raises(BadPrompt, match="does it belong to another image"):
        desk.plays(positive("edema", tuple(n for n in desk.grid.shape)))


def test_a_mask_on_another_grid_or_of_unknown_values_is_refused(
    sit: Callable, sent: Callable, heads: dict, tmp_path: Path
) -> None:
    desk = sit()
    desk.plays(positive("necrosis", A))
    other_grid = tmp_path / "temporary/tmp12345678.nii.gz"
    write_nifti(
        np.zeros((9, 9, 9), np.uint8), phantom.make(seed=5, shape=(9, 9, 9)).grid, BRAIN_LABELS, other_grid
    )
    with unchanged(desk), pytest.raises(BadPrompt, match="the segmentation that was sent"):
        desk.plays(send_mask(other_grid))
    with unchanged(desk), pytest.raises(BadLabel, match=r"label values \[7\] have no name"):
        desk.plays(send_mask(sent(np.full_like(desk.shown, 7), desk)))


def test_paths_of_the_server_are_no_masks(sit: Callable, tmp_path: Path) -> None:
    desk = sit()
    with unchanged(desk), pytest.raises(NotFound, match="paths on the server are not accepted"):
        desk.send(label="/etc/passwd")


def test_scribbles_without_paint_are_refused(make_task: Callable, sit: Callable) -> None:
    desk = sit(task=make_task(TaskKind.SCRIBBLES))
    with pytest.raises(BadPrompt, match="no scribbles came: paint foreground or background"):
        desk.plays(look())
