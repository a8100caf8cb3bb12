"""In which order cases come, and why."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from slem_app.errors import NotFound
from slem_app.selection import DEFAULT, STRATEGIES, CaseChoice, Measures, Pool, choices

NAMES = ("necrosis", "edema", "enhancing tumor")


def measures(
    uncertainty: float = 0.1,
    ml: tuple[float, ...] = (1.0, 1.0, 1.0),
    at: float = 0.0,
    change: float | None = None,
) -> Measures:
    return Measures(
        uncertainty=uncertainty,
        uncertainty_in=dict.fromkeys(NAMES, uncertainty),
        volumes_ml=dict(zip(NAMES, ml, strict=True)),
        features=np.array([at, 0.0], np.float32),
        change=change,
        change_in={} if change is None else dict.fromkeys(NAMES, change),
    )


def first(strategy: str, pool: Pool, seed: int = 0) -> CaseChoice:
    return next(choices(strategy, pool, np.random.default_rng(seed)))


def order(strategy: str, pool: Pool, seed: int = 0) -> list[str]:
    return [choice.case for choice in choices(strategy, pool, np.random.default_rng(seed))]


def pool(known: Mapping[str, Measures], **more: object) -> Pool:
    return Pool(candidates=tuple(more.pop("candidates", known)), measures=known, **more)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_every_case_once(strategy: str) -> None:
    known = {name: measures(0.1 * n, at=n, change=0.1 * n) for n, name in enumerate("abcd")}
    assert sorted(order(strategy, pool(known, candidates="abcdef", taken=("z",)))) == list("abcdef")
    assert order(strategy, Pool(())) == []


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(NotFound, match="no strategy 'oracle'; there are diverse, balanced"):
        first("oracle", Pool(("a",)))
    assert DEFAULT == next(iter(STRATEGIES)) == "diverse"  # clients show the first one


def test_uncertainty_takes_the_least_sure_and_names_the_label() -> None:
    known = {"a": measures(0.2), "b": measures(0.7), "c": measures(0.4)}
    known["b"].uncertainty_in["edema"] = 0.9
    assert order("uncertainty", pool(known)) == ["b", "c", "a"]
    choice = first("uncertainty", pool(known))
    assert choice.score == pytest.approx(0.7)
    assert "most about edema" in choice.reason


def test_disagreement_takes_what_changed_most() -> None:
    known = {"a": measures(0.9, change=0.1), "b": measures(0.1, change=0.6)}
    assert first("disagreement", pool(known)).case == "b"
    assert first("disagreement", pool(known)).notes == ()


def test_disagreement_of_one_model_is_uncertainty_and_says_so() -> None:
    choice = first("disagreement", pool({"a": measures(0.9), "b": measures(0.1)}))
    assert choice.case == "a"
    assert choice.notes == ("there is no earlier model to compare with: ordered by uncertainty",)


def test_diverse_goes_away_from_what_is_labelled_and_from_its_own_choices() -> None:
    known = {
        name: measures(at=at) for name, at in {"done": 0.0, "near": 1.0, "far": 10.0, "far too": 9.9}.items()
    }
    given = order("diverse", pool(known, candidates=("near", "far", "far too"), taken=("done",)))
    assert given == ["far", "near", "far too"]


def test_foreground_random_follows_the_predicted_volume() -> None:
    known = {
        "large": measures(ml=(0, 30, 0)),
        "small": measures(ml=(0, 10, 0)),
        "none": measures(ml=(0, 0, 0)),
    }
    drawn = Counter(first("foreground_random", pool(known), seed).case for seed in range(400))
    assert drawn["none"] == 0
    assert 0.65 < drawn["large"] / 400 < 0.85
    assert order("foreground_random", pool(known))[-1] == "none"


def test_random_is_blind_to_measures_and_rather_gives_what_was_not_given_lately() -> None:
    known = {"a": measures(0.9), "b": measures(0.1)}
    assert {first("random", pool(known), seed).case for seed in range(20)} == {"a", "b"}
    lately = pool(known, idle={"a": 1.0})
    assert {first("random", lately, seed).case for seed in range(20)} == {"b"}
    assert first("random", pool(known)).score is None


def test_first_goes_by_name() -> None:
    assert order("first", Pool(("b", "c", "a"))) == ["a", "b", "c"]


def test_measured_cases_come_before_the_others_and_it_is_said() -> None:
    known = {"a": measures(0.1), "b": measures(0.5)}
    given = list(choices("uncertainty", pool(known, candidates="abcd"), np.random.default_rng(0)))
    assert [one.case for one in given[:2]] == ["b", "a"]
    assert given[0].notes == ("2 of 4 cases are measured so far: the best of these",)
    assert given[2].notes == ("no case that is left is measured yet: drawn at random",)
    assert given[2].score is None


def test_unmeasured_cases_are_drawn_evenly() -> None:
    drawn = Counter(first("balanced", Pool(tuple("abcd")), seed).case for seed in range(400))
    assert min(drawn.values()) > 60


def test_balanced_prefers_the_class_that_is_rare_among_the_labelled() -> None:
    known = {"edema": measures(ml=(0, 20, 0)), "necrosis": measures(ml=(20, 0, 0))}
    for rare, labelled in (
        ("necrosis", {"edema": 50.0, "enhancing tumor": 50.0}),
        ("edema", {"necrosis": 50.0, "enhancing tumor": 50.0}),
    ):
        choice = first("balanced", pool(known, labelled_ml=labelled))
        assert choice.case == rare
        assert f"much {rare}, which is rare" in choice.reason


def test_balanced_weighs_uncertainty_by_how_rare_the_class_is() -> None:
    known = {"a": measures(), "b": measures()}
    known["a"].uncertainty_in.update({"necrosis": 0.1, "edema": 0.9})
    known["b"].uncertainty_in.update({"necrosis": 0.9, "edema": 0.1})
    assert first("balanced", pool(known, labelled_ml={"edema": 90.0, "enhancing tumor": 9.0})).case == "b"
    assert first("balanced", pool(known, labelled_ml={"necrosis": 90.0, "enhancing tumor": 9.0})).case == "a"


def test_balanced_counts_each_measure_alike() -> None:
    known = {
        "plain": measures(0.1, at=0.0, change=0.0),
        "all": measures(0.9, at=9.0, change=0.5),
        "sure": measures(0.05, at=1.0, change=0.1),
    }
    choice = first("balanced", pool(known, taken=("done",)))
    assert choice.case == "all"
    assert set(choice.details) == {"uncertainty", "change", "diversity", "rarity"}
    assert choice.score == pytest.approx(np.mean(list(choice.details.values())), abs=1e-3)
    without = {
        name: Measures(one.uncertainty, one.uncertainty_in, one.volumes_ml, one.features)
        for name, one in known.items()
    }
    assert set(first("balanced", pool(without)).details) == {"uncertainty", "diversity", "rarity"}
