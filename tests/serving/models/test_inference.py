"""What a client is told of a result, as JSON."""

from dataclasses import replace

from slem_app.serving.models.inference import InferFacts

FACTS = InferFacts(
    label_names={"edema": 2},
    case="A",
    sequence="t1c",
    used=("t1c",),
    missing=("t2f",),
    volumes_ml={"edema": 1.5},
    notes=("one",),
    warnings=(),
    not_assessable=(),
    preparation={"moved_mm": {}},
    model_version="2",
)


def test_only_a_model_that_follows_prompts_tells_of_them() -> None:
    assert not {"prompts", "steps"} & set(FACTS.to_json())
    told = replace(FACTS, prompts=0, steps=3).to_json()
    assert (told["prompts"], told["steps"]) == (0, 3)


def test_lists_are_lists_in_the_order_of_the_protocol() -> None:
    told = replace(FACTS, prompts=1, steps=1, latencies={"total": 0.1}).to_json()
    told_lists = [told[name] for name in ("used", "missing", "notes", "not_assessable")]
    assert told_lists == [["t1c"], ["t2f"], ["one"], []]
    assert list(told)[-4:] == ["model_version", "prompts", "steps", "latencies"]
