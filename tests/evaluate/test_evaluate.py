"""The challenge's metrics, on masks whose distances are known and on a set in CHAOS's folders; what such a
set may have wrong.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from slem_app.evaluate.evaluate import evaluate
from slem_app.evaluate.scores import surface_distances, volume_difference
from slem_app.finetune.cases import cache_cases
from slem_app.finetune.recipe import load_recipe
from slem_app.labels import codings
from slem_app.network import SegmenterConfig, build
from slem_app.phantom import BodyPhantom, make_abdomen, write_chaos
from slem_app.predict import Prediction, Predictor
from slem_app.studies import StudySource, open_source
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Preparation
from slem_app.weights import Model

LABELS = load_recipe("chaos").card.labels
COARSE = Preparation(spacing=(12.0, 12.0, 12.0), multiple=8, stripped=False)


@pytest.fixture(scope="module")
def case() -> BodyPhantom:
    return make_abdomen(2, (16.0, 16.0, 16.0))


@pytest.fixture
def root(case: BodyPhantom, tmp_path: Path) -> Path:
    write_chaos(case, tmp_path / "set", "7")
    return tmp_path / "set"


def cached(root: Path, tmp_path: Path):
    cache = CaseCache(tmp_path / "cache")
    return cache, cache_cases(open_source(root), cache, ("t1_in", "t1_out", "t2"), COARSE, LABELS)


def box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((20, 20, 20), bool)
    mask[start:stop, 4:12, 4:12] = True
    return mask


def test_a_shifted_box_has_the_distances_that_one_can_count() -> None:
    average, largest = surface_distances(box(4, 12), box(6, 14), (1.5, 1.0, 1.0))
    assert largest == pytest.approx(3.0)
    assert 0 < average < 3.0
    assert surface_distances(box(4, 12), box(4, 12), (1.5, 1.0, 1.0)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("mine", "right", "ravd"),
    [((4, 12), (4, 8), 100.0), ((4, 8), (4, 12), 50.0), ((4, 4), (4, 4), 0.0), ((4, 4), (4, 8), 100.0)],
)
def test_volume_difference_is_relative_to_the_truth(
    mine: tuple[int, int], right: tuple[int, int], ravd: float
) -> None:
    assert volume_difference(box(*mine), box(*right)) == pytest.approx(ravd)


def test_an_organ_that_only_one_of_both_has_is_infinitely_far() -> None:
    assert surface_distances(box(4, 4), box(4, 8), (1, 1, 1)) == (np.inf, np.inf)
    assert surface_distances(box(4, 4), box(4, 4), (1, 1, 1)) == (0.0, 0.0)
    assert volume_difference(box(4, 8), box(4, 4)) == np.inf


def test_both_truths_are_cached_as_cases_of_one_patient(
    root: Path, tmp_path: Path, case: BodyPhantom
) -> None:
    cache, report = cached(root, tmp_path)
    assert report.ready == ("7", "7_T2SPIR")
    assert report.patients == {"7": "7", "7_T2SPIR": "7"}
    whole, part = cache.load("7"), cache.load("7_T2SPIR")
    assert (whole.present.tolist(), part.present.tolist()) == ([True] * 3, [False, False, True])
    for one, name in ((whole, "t1_in"), (part, "t2")):
        ml = [(case.truths[name] == v).sum() * case.grids[name].voxel_volume for v in range(1, 5)]
        assert [r.sum(dtype=float) / 255 * one.grid.voxel_volume for r in one.regions] == pytest.approx(
            ml, rel=0.2
        )


def spoil_size(root: Path) -> None:
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(root / "MR/7/T1DUAL/Ground/IMG-0004-00006.png")


def spoil_grey(root: Path) -> None:
    path = root / "MR/7/T1DUAL/Ground/IMG-0004-00006.png"
    grey = np.array(Image.open(path))
    grey[0, 0] = 100
    Image.fromarray(grey).save(path)


def spoil_slices(root: Path) -> None:
    (root / "MR/7/T1DUAL/Ground/IMG-0004-00006.png").unlink()


def spoil_image(root: Path) -> None:
    (root / "MR/7/T1DUAL/DICOM_anon/InPhase/IMG-0004-00006.dcm").unlink()
    (root / "MR/7/T1DUAL/Ground/IMG-0004-00006.png").unlink()


def spoil_place(root: Path) -> None:
    for path in (root / "MR/7/T2SPIR/DICOM_anon").iterdir():
        dataset = dcmread(path)
        dataset.ImagePositionPatient = [v + 900 for v in dataset.ImagePositionPatient]
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_size, r"IMG-0004-00006.png has 8x5 pixels, but the slices of T1DUAL InPhase have 24x18"),
        (spoil_grey, r"values \[63, 100, 126, 189, 252\] in a study of layout 'chaos' fit no known coding"),
        (spoil_slices, "1 of 14 slices have no PNG file"),
        (spoil_image, "misses slices: 32.00 mm from slice 2 to 3 of 13 where 16.00 mm is usual"),
        (spoil_place, "sequence t1_in and sequence t2 do not overlap in space"),
    ],
)
def test_a_spoilt_case_is_left_out_with_its_reason_and_the_other_truth_still_counts(
    spoil, reason: str, root: Path, tmp_path: Path
) -> None:
    spoil(root)
    _, report = cached(root, tmp_path)
    assert re.search(reason, report.skipped["7"])
    assert report.ready == ("7_T2SPIR",)


class Oracle(Predictor):
    """Answers with the truth of the case, displaced by one voxel along I."""

    def __init__(self, source: StudySource, case: BodyPhantom) -> None:
        network = SegmenterConfig(
            sequences=3,
            regions=4,
            channels=(8, 16),
            stem_channels=8,
            blocks=(1, 1),
            context_levels=(1,),
            deep_supervision=0,
        )
        card = replace(load_recipe("chaos").card, network=network, preparation=COARSE)
        super().__init__(Model(card, build(network), source.root), "cpu")
        self.case = case

    def predict(self, prepared) -> Prediction:
        name = next(name for name, grid in self.case.grids.items() if grid.same_as(prepared.reference))
        array = np.roll(self.case.truths[name], 1, axis=0)
        return Prediction(
            array, prepared.reference, self.card.labels, prepared.used, prepared.missing, {}, ()
        )


def test_every_truth_of_a_patient_is_compared_on_its_own_grid(root: Path, case: BodyPhantom) -> None:
    source = open_source(root)
    found = evaluate(Oracle(source, case), source, source.ids())
    assert [(row.case, row.region, row.reference) for row in found.rows] == [
        (one, name, sequence)
        for one, sequence in (("7", "t1_in"), ("7_T2SPIR", "t2"))
        for name in LABELS.names
    ]
    assert [row.sequences for row in found.rows[::4]] == ["t1_in t1_out t2", "t2"]
    for row in found.rows:
        assert 0.4 < row.dice < 1
        assert row.ravd == 0
        assert 0 < row.assd < row.mssd
    assert [row.mssd for row in found.rows[:4]] == pytest.approx([16.0] * 4, abs=1)
    assert found.mean("liver", "dice") == pytest.approx(
        np.mean([row.dice for row in found.rows if row.region == "liver"])
    )
    assert [line.split()[0] for line in found.table().splitlines()] == [
        "region",
        "liver",
        "right",
        "left",
        "spleen",
    ]
    assert found.csv().splitlines()[0] == "case,region,dice,ravd,assd,mssd,reference,sequences"


def test_a_case_without_truth_is_told_and_an_organ_not_found_is_counted(
    root: Path, case: BodyPhantom
) -> None:
    shutil.rmtree(root / "MR/7/T1DUAL/Ground")
    shutil.rmtree(root / "MR/7/T2SPIR/Ground")
    source = open_source(root)
    found = evaluate(Oracle(source, case), source, ["7", "8"])
    assert found.skipped["7"] == "there is no segmentation in this study"
    assert "no case '8'" in found.skipped["8"]
    assert found.rows == ()


def test_the_greys_of_the_set_are_those_of_its_documentation() -> None:
    values = codings()["chaos"].values
    assert [values[grey] for grey in (63, 126, 189, 252)] == list(LABELS.names)
