"""What a reader sees after clicks, boxes, removed points, undo and masks of his own; what is refused:
`test_ask.py`.
"""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from slem_app.errors import BadPrompt
from slem_app.predict import Predictor
from slem_app.preemption import preemptible
from slem_app.serving.auth.identity import WHERE
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.models.compute import Caches, LocalCompute
from slem_app.serving.models.history import EditHistory
from slem_app.serving.models.inference import InferRequest
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.monai.adapters import InferAdapter
from slem_app.weights import BRAIN_SEQUENCES
from tests.serving.language import (
    NAMES,
    Desk,
    box,
    clear,
    look,
    negative,
    positive,
    redo,
    remove,
    send_mask,
    start_over,
    undo,
)

A, B, C = (20, 22, 18), (12, 30, 20), (26, 16, 24)


def other(shown: np.ndarray, voxel: tuple[int, int, int]) -> str:
    """A label that is not shown there."""
    return NAMES[int(shown[voxel]) % 3]


# what it is


def test_slicer_and_ohif_see_a_model_for_clicks(task: InteractiveTask) -> None:
    info = InferAdapter(task).info()
    assert (info["type"], info["dimension"]) == ("deepedit", 3)
    # 4: Slicer asks for clicks of it, OHIF never meets it
    assert info["labels"] == {"necrosis": 1, "edema": 2, "enhancing tumor": 3, "background": 4}


def test_without_prompts_it_is_the_automatic_segmentation(
    task: InteractiveTask, sit: Callable, cases: Cases
) -> None:
    for key in ("A", "B", "B/t2f"):
        case = cases.find(key)
        expected = task.predictor.predict_case(case.grouping, case.sequence).array
        desk = sit(key)
        np.testing.assert_array_equal(desk.plays(look()), expected)
        assert desk.grid.same_as(case.series.grid)
        assert (desk.said["prompts"], desk.said["steps"]) == (0, 0)


# images of a case


def test_sequences_of_one_grid_share_a_reader_s_work(sit: Callable) -> None:
    sit("A").plays(look(), positive("edema", A))
    other_image = sit("A/t2w")
    other_image.plays(positive("edema", A))
    assert (other_image.said["prompts"], other_image.said["steps"]) == (1, 1)


def test_a_sequence_that_was_moved_has_work_of_its_own(
    shifted: Path, make_task: Callable, sit: Callable
) -> None:
    task = make_task(register=True)
    still = sit("A", task)
    clicked = still.plays(look(), positive(other(still.plays(look()), A), A))
    moved = sit("A/t2f", task)
    assert moved.grid is None or moved.grid.same_as(still.grid)
    moved.plays(look())
    assert moved.said["steps"] == 0, "a click on t1c is a place of t1c's world"
    assert moved.said["preparation"]["moved_mm"]["t2f"] == pytest.approx(4 * np.linalg.norm((3, 2, 2)), abs=2)
    voxel = (24, 20, 20)
    label = other(moved.shown, voxel)
    assert moved.plays(positive(label, voxel))[voxel] == NAMES.index(label) + 1
    np.testing.assert_array_equal(still.plays(look()), clicked)
    task.edited(still.request["case"], np.zeros_like(clicked), "")
    assert moved.plays(look())[voxel] == NAMES.index(label) + 1, "what is saved on t1c is t1c's"


# guarantees


@pytest.mark.parametrize("key", ["A", "B", "B/t2f", "B/t1n"])
def test_a_click_decides_its_own_voxel_of_the_displayed_image(sit: Callable, key: str) -> None:
    desk = sit(key)
    desk.plays(look())
    inside = [tuple(int(n * share) for n in desk.grid.shape) for share in (0.35, 0.5, 0.62)]
    labels = [other(desk.shown, voxel) for voxel in inside]
    desk.plays(*(positive(label, voxel) for label, voxel in zip(labels, inside)))
    assert [desk.shown[voxel] for voxel in inside] == [NAMES.index(label) + 1 for label in labels]
    assert desk.plays(negative(tuple(v + 6 for v in inside[0])))[tuple(v + 6 for v in inside[0])] == 0


def test_adding_a_click_never_takes_an_earlier_one_back(sit: Callable) -> None:
    desk, said = sit(), {}
    rng = np.random.default_rng(0)
    for _ in range(12):
        voxel, name = tuple(int(v) for v in rng.integers(8, 32, 3)), [*NAMES, "background"][rng.integers(4)]
        said[voxel] = name
        desk.plays(positive(name, voxel))
        for at, meant in said.items():
            assert desk.shown[at] == (NAMES.index(meant) + 1 if meant in NAMES else 0), (at, meant)


def test_far_from_a_click_nothing_changes(sit: Callable) -> None:
    desk = sit()
    before = desk.plays(look())
    after = desk.plays(positive(other(before, A), A))
    far = (
        np.linalg.norm((np.indices(before.shape).transpose(1, 2, 3, 0) - A) * desk.grid.spacing, axis=-1)
        > 120
    )
    assert far.any()
    np.testing.assert_array_equal(after[far], before[far])
    assert (after != before).any()


def test_a_click_on_one_sequence_lies_at_the_same_place_of_another(sit: Callable, cases: Cases) -> None:
    """Case B: every sequence has its own oblique grid."""
    t1c, t2f = cases.find("B/t1c").series.grid, cases.find("B/t2f").series.grid
    voxel = tuple(int(n * 0.5) for n in t1c.shape)
    same = tuple(int(v) for v in np.round(t2f.to_index(t1c.to_world(np.array(voxel)))))
    first, second = sit("B/t1c"), sit("B/t2f")
    label = other(first.plays(look()), voxel)
    assert (
        first.plays(positive(label, voxel))[voxel]
        == second.plays(positive(label, same))[same]
        == NAMES.index(label) + 1
    )
    assert second.said["steps"] == 1  # its own work, on its own grid


def test_a_box_keeps_labels_inside_whatever_the_order_of_its_ends(sit: Callable) -> None:
    desk = sit()
    before = desk.plays(look())
    after = desk.plays(box((30, 10, 28), (10, 34, 8)))
    inside = np.zeros(before.shape, dtype=bool)
    inside[10:31, 10:35, 8:29] = True
    np.testing.assert_array_equal(after, np.where(inside, before, 0))
    np.testing.assert_array_equal(desk.plays(look()), before)  # the box is gone again


def test_foreground_and_background_of_one_label_leave_the_others_clicks_alone(sit: Callable) -> None:
    """The older convention: each request lists one label's clicks only."""
    desk = sit()
    first, second = other(desk.plays(look()), A), other(desk.shown, B)
    desk.send(label=first, foreground=[list(A)], background=[list(C)])
    desk.send(label=second, foreground=[list(B)], background=[])
    assert (desk.shown[A], desk.shown[B], desk.shown[C]) == (
        NAMES.index(first) + 1,
        NAMES.index(second) + 1,
        0,
    )
    assert desk.said["prompts"] == (3 if first != second else 1)


# back


def test_undo_goes_back_step_by_step_to_the_automatic_segmentation(sit: Callable) -> None:
    desk = sit()
    seen = [desk.plays(look())]
    for name, voxel in zip(("necrosis", "background", "edema"), (A, B, C)):
        seen.append(desk.plays(positive(name, voxel)))
    for expected in reversed(seen[:-1]):
        np.testing.assert_array_equal(desk.plays(undo()), expected)
    with pytest.raises(
        BadPrompt, match="there is nothing to undo: no step of this reader on this image is remembered"
    ):
        desk.plays(undo())


def test_redo_does_again_what_undo_took_back(sit: Callable) -> None:
    desk = sit()
    seen = [desk.plays(look())]
    for name, voxel in zip(("necrosis", "background", "edema"), (A, B, C)):
        seen.append(desk.plays(positive(name, voxel)))
    desk.plays(undo(), undo())
    assert (desk.said["steps"], desk.said["redo_steps"]) == (1, 2)
    np.testing.assert_array_equal(desk.plays(redo()), seen[2])
    np.testing.assert_array_equal(desk.plays(redo()), seen[3])
    assert desk.said["prompts"] == 3
    desk.plays(undo(), positive("edema", (8, 9, 10)))
    with pytest.raises(BadPrompt, match="there is nothing to redo"):
        desk.plays(redo())


def test_an_undone_click_stays_undone_while_the_client_still_lists_it(sit: Callable) -> None:
    desk, only = sit(client_id="ann"), sit(client_id="ben")
    desk.plays(positive("edema", A), negative(B), undo(), positive("necrosis", C))
    assert desk.said["prompts"] == 2
    np.testing.assert_array_equal(desk.shown, only.plays(positive("edema", A), positive("necrosis", C)))
    desk.plays(remove("background", B), negative(B))  # taken out and placed again
    assert (desk.said["prompts"], desk.shown[B]) == (3, 0)


def test_a_removed_point_is_as_if_it_had_never_been(sit: Callable) -> None:
    desk, only = sit(client_id="ann"), sit(client_id="ben")
    first = desk.plays(positive("edema", A))
    desk.plays(negative(B))
    np.testing.assert_array_equal(desk.plays(remove("background", B)), first)
    desk.plays(negative(B), positive("necrosis", C), remove("edema", A))
    np.testing.assert_array_equal(desk.shown, only.plays(negative(B), positive("necrosis", C)))
    np.testing.assert_array_equal(
        desk.plays(undo()),
        sit(client_id="cleo").plays(positive("edema", A), negative(B), positive("necrosis", C)),
    )


@pytest.mark.parametrize("deed", [clear, start_over])
def test_starting_over_shows_the_automatic_segmentation(sit: Callable, deed: Callable) -> None:
    desk = sit()
    automatic = desk.plays(look())
    corrected = desk.plays(positive(other(automatic, A), A), negative(B))
    np.testing.assert_array_equal(desk.plays(deed()), automatic)
    np.testing.assert_array_equal(desk.plays(undo()), corrected)


def test_the_same_request_again_changes_nothing(sit: Callable) -> None:
    desk = sit()
    shown = desk.plays(positive("edema", A), negative(B))
    np.testing.assert_array_equal(desk.plays(look(), look()), shown)
    assert desk.said["steps"] == 2


# masks


def test_an_edited_mask_takes_precedence_over_what_came_before(sit: Callable, sent: Callable) -> None:
    desk = sit()
    desk.plays(positive("edema", A))
    edited = np.zeros_like(desk.shown)
    edited[10:20, 10:20, 10:20] = 3
    # the older click is listed still
    np.testing.assert_array_equal(desk.plays(send_mask(sent(edited, desk))), edited)
    after = desk.plays(positive("necrosis", (15, 15, 15)))
    assert after[15, 15, 15] == 1
    assert after[tuple(A)] != 2  # the click before the mask is not in effect
    np.testing.assert_array_equal(desk.plays(undo()), edited)
    assert desk.plays(undo())[A] == 2


def test_undoing_a_click_leaves_the_edit_that_was_sent_with_it(sit: Callable, sent: Callable) -> None:
    desk = sit()
    first = desk.plays(positive("edema", A))
    edited = first.copy()
    edited[30:34, 10:14, 10:14] = 3
    desk.clicks.setdefault("necrosis", []).append((12, 30, 20))
    desk.send(label=str(sent(edited, desk)))
    assert desk.shown[12, 30, 20] == 1
    np.testing.assert_array_equal(desk.plays(undo()), edited)
    np.testing.assert_array_equal(desk.plays(undo()), first)


def test_a_mask_is_read_by_the_names_of_its_segments(sit: Callable, sent: Callable) -> None:
    desk = sit()
    edited = np.zeros_like(desk.plays(look()))
    edited[4:9], edited[10:12] = 1, 2
    path = sent(edited, desk)
    desk.send(label=str(path), label_info=[{"name": "enhancing tumor"}, {"name": "background"}])
    np.testing.assert_array_equal(desk.shown, np.where(edited == 1, 3, 0))


def test_a_submitted_label_is_what_further_clicks_change(task: InteractiveTask, sit: Callable) -> None:
    desk, elsewhere = sit(client_id="ann"), sit(client_id="ben")
    desk.plays(positive("edema", A))
    before = elsewhere.plays(positive("edema", A))
    final = np.zeros_like(desk.shown)
    final[5:15, 5:15, 5:15] = 2
    task.edited(desk.request["case"], final, "ann")
    np.testing.assert_array_equal(desk.plays(look()), final)
    assert desk.plays(negative((10, 10, 10)))[10, 10, 10] == 0
    np.testing.assert_array_equal(elsewhere.plays(look()), before)


def test_scribbles_of_slicer_change_the_segments_sent_with_them(
    make_task: Callable, sit: Callable, sent: Callable
) -> None:
    desk = sit(task=make_task(TaskKind.SCRIBBLES))
    painted = np.zeros(desk.request["case"].series.grid.shape, dtype=np.uint8)
    desk.grid = desk.request["case"].series.grid
    painted[25:30, 20:30, 20:22], painted[10:12, 20:30, 20], painted[5:9, 5:9, 5:9] = 4, 5, 1
    info = [
        {"name": name, "id": n}
        for n, name in enumerate([*NAMES, "foreground_scribbles", "background_scribbles"], 1)
    ]
    desk.send(label=str(sent(painted, desk)), label_info=info, selected_label_name="edema", roi=[])
    assert set(np.unique(desk.shown)) == {0, 1}  # Slicer gives value 1 to the label that was chosen
    assert desk.said["label_names"] == {"edema": 1}
    assert desk.shown[painted == 4].all()
    assert not desk.shown[painted == 5].any()
    assert not desk.shown[painted == 1].any()  # necrosis stays necrosis


def test_strokes_are_listed_with_the_clicks_and_answered_with_every_label(
    sit: Callable, sent: Callable
) -> None:
    desk = sit()
    stroke = {"label": "edema", "runs": [[10, 20, 20, 6], [10, 21, 20, 6]]}
    gone = {"label": "background", "runs": [[20, 20, 20, 5]]}
    desk.plays(positive("necrosis", C))
    first = desk.send(scribbles=[stroke]) or desk.shown
    assert (first[10:16, 20:22, 20] == 2).all()
    assert first[C] == 1
    desk.send(scribbles=[stroke, gone])
    assert desk.said["prompts"] == 3
    assert not desk.shown[20:25, 20, 20].any()
    edited = desk.shown.copy()
    edited[10:12, 20, 20] = 3
    desk.send(scribbles=[stroke, gone], label=str(sent(edited, desk)))  # older strokes are part of it
    np.testing.assert_array_equal(desk.shown, edited)
    desk.send(undo=True, scribbles=[stroke, gone])
    desk.send(undo=True, scribbles=[stroke])
    np.testing.assert_array_equal(desk.shown, first)
    desk.send(scribbles=[])
    assert desk.said["prompts"] == 1


# readers, memory, restart


def test_two_readers_of_one_case_do_not_mix(sit: Callable) -> None:
    ann, ben, fresh = sit(client_id="ann"), sit(client_id="ben"), sit(client_id="cleo")
    ann.plays(positive("edema", A))
    ben.plays(positive("necrosis", A))
    assert (ann.plays(look())[A], ben.plays(look())[A]) == (2, 1)
    ben.plays(undo())
    assert ann.plays(look())[A] == 2
    np.testing.assert_array_equal(ben.shown, fresh.plays(look()))


def test_readers_without_a_name_are_told_apart_by_where_they_are(sit: Callable) -> None:
    desks = {}
    for place, label in (("browser-1", "edema"), ("browser-2", "necrosis")):
        token = WHERE.set(place)
        desks[place] = sit()
        desks[place].plays(positive(label, A))
        WHERE.reset(token)
    token = WHERE.set("browser-1")
    assert desks["browser-1"].plays(undo())[A] == sit(client_id="x").plays(look())[A]
    WHERE.reset(token)


def test_many_readers_at_once_see_what_each_would_alone(sit: Callable) -> None:
    deeds = {
        f"reader {n}": (positive(NAMES[n % 3], (10 + n, 20, 20)), negative((20, 12 + n, 20)), undo())
        for n in range(4)
    }
    alone = {name: sit(client_id=f"alone {name}").plays(*each) for name, each in deeds.items()}
    together: dict[str, np.ndarray] = {}
    threads = [
        threading.Thread(
            target=lambda name=name, each=each: together.__setitem__(name, sit(client_id=name).plays(*each))
        )
        for name, each in deeds.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, shown in alone.items():
        np.testing.assert_array_equal(together[name], shown)


def test_after_a_restart_the_same_prompts_give_the_same_segmentation(
    make_task: Callable, sit: Callable
) -> None:
    desk = sit()
    shown = desk.plays(positive("necrosis", A), positive("edema", B), negative(C))
    desk.task = make_task()
    np.testing.assert_array_equal(desk.plays(look()), shown)
    assert (
        "the server no longer knows your earlier steps, so the 3 clicks were made again, label by label"
        in desk.said["notes"]
    )


def test_without_memory_the_same_prompts_give_the_same_segmentation(
    make_task: Callable, sit: Callable
) -> None:
    deeds = (positive("necrosis", A), positive("edema", B), remove("necrosis", A), negative(C))
    np.testing.assert_array_equal(sit(task=make_task(megabytes=0)).plays(*deeds), sit().plays(*deeds))


def test_a_changed_file_begins_anew(sit: Callable, cases: Cases, studies: Path) -> None:
    desk = sit()
    desk.plays(positive("edema", A))
    path = studies / "A/A-t1c.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), path)
    case = cases.find("A")
    desk.request["case"], desk.clicks = case, {}
    np.testing.assert_array_equal(
        desk.plays(look()), desk.task.predictor.predict_case(case.grouping, "t1c").array
    )
    with pytest.raises(BadPrompt, match="nothing to undo"):
        desk.plays(undo())


def test_other_weights_begin_anew(make_task: Callable, sit: Callable) -> None:
    memory = EditHistory(2**26)
    desk = sit(task=make_task(memory=memory))
    desk.plays(positive("edema", A))
    renewed = make_task(memory=memory)
    model = renewed.automatic.predictor
    model.card = dataclasses.replace(model.card, version="2")
    desk.task = InteractiveTask(renewed.automatic, memory)
    with pytest.raises(BadPrompt, match="nothing to undo"):
        desk.plays(undo())


def test_a_second_click_neither_reads_nor_prepares(sit: Callable) -> None:
    desk = sit()
    desk.plays(positive("edema", A))
    assert {"read", "prepare", "network", "merge", "memory", "write", "total"} <= set(desk.said["latencies"])
    desk.plays(negative(B))
    assert desk.said["latencies"]["read"] == desk.said["latencies"]["prepare"] == 0


# OHIF


OHIF = {
    "restore_label_idx": False,
    "result_compress": False,
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
}


def test_points_that_ohif_leaks_from_another_image_are_left_out(sit: Callable) -> None:
    first, second = sit("A", **OHIF), sit("B", **OHIF)
    first.plays(positive("edema", A))
    second.clicks = {"edema": [A]}
    second.plays(positive("necrosis", (22, 26, 20)))
    assert second.said["prompts"] == 1
    assert "points of edema were left out: they are those of another image" in second.said["notes"]
    second.clicks[
        "edema"
    ] = []  # once the label is clicked here, its own points take the place of the leaked ones
    second.plays(positive("edema", (24, 20, 20)))
    assert second.said["prompts"] == 2
    assert not second.said["notes"]


def test_slicers_points_are_never_left_out(sit: Callable) -> None:
    sit("A", client_id="ann").plays(positive("edema", A))
    desk = sit("B", client_id="ann")
    desk.plays(positive("edema", A))
    assert (desk.said["prompts"], desk.shown[A]) == (1, 2)


@pytest.mark.parametrize("layout", ["nifti", "dicom"])
def test_each_of_the_15_sets_of_sequences_is_corrected(
    task: InteractiveTask, subsets: Path, tmp_path: Path, layout: str
) -> None:
    cases = Cases(subsets / layout, tmp_path / "uploads")
    for case in cases.ids():
        desk = Desk(task, {"case": cases.find(case)})
        place, other, kept = (12, 14, 10), (8, 14, 10), case.split("_")
        before = desk.plays(look())
        wrong = "edema" if before[place] != 2 else "necrosis"
        after = desk.plays(positive(wrong, place), negative(other))
        assert (after[place], after[other]) == (NAMES.index(wrong) + 1, 0)
        assert desk.said["missing"] == [name for name in BRAIN_SEQUENCES if name not in kept]
        assert sorted(desk.said["used"]) == sorted(kept)


# whose turn it is


def test_a_case_is_begun_once_its_first_answer_is_in_memory(task: InteractiveTask, sit: Callable) -> None:
    asked, other_image = InferRequest("slem_brain", "A"), InferRequest("slem_brain", "A/t2w")
    assert not task.begun(asked)
    sit("A", image="A").plays(look())
    assert task.begun(asked)
    assert not task.begun(other_image), "nobody has asked for it under this name"
    assert not task.begun(InferRequest("slem_brain"))
    task.compute.caches.starts.values.clear()
    assert not task.begun(asked)


def test_the_first_click_after_an_automatic_segmentation_goes_on_from_it(
    task: InteractiveTask, sit: Callable, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.automatic.compute = LocalCompute(Caches.of_size(64, 256))
    wanted = sit("A").plays(positive("edema", A))
    task.compute.caches.starts.values.clear()
    task.memory.works.clear()
    task.compute.caches.results.values.clear()
    Desk(task.automatic, {"case": cases.find("A")}).plays(look())
    monkeypatch.setattr(Predictor, "probabilities", None)  # nothing is segmented from now on
    np.testing.assert_array_equal(sit("A").plays(positive("edema", A)), wanted)


def test_clicks_of_one_reader_in_the_middle_of_another_s_first_click_change_nothing_of_either(
    make_task: Callable, sit: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slem_app.serving.models.history.STRIPES", 1)  # their works share a lock
    deeds = (positive("edema", A), positive("necrosis", B), negative(C))
    alone = make_task()
    wanted = sit("A", alone, client_id="ann").plays(look(), *deeds), sit("B", alone).plays(deeds[0])
    task = make_task()
    ann, bob = sit("A", task, client_id="ann"), sit("B", task, client_id="bob")
    ann.plays(look())
    left = list(deeds)

    def between() -> None:
        if left:
            with torch.inference_mode(False):
                ann.plays(left.pop(0))

    with preemptible(between):
        bob.plays(deeds[0])
    assert not left
    np.testing.assert_array_equal(ann.shown, wanted[0])
    np.testing.assert_array_equal(bob.shown, wanted[1])
