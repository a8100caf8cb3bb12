"""From a pre-trained encoder to a segmenter: which weights are taken, which are new, what fails."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slem_app.errors import BadCard, BadWeights, NotFound
from slem_app.network import Decoder, Encoder, Segmenter, SegmenterConfig, build
from slem_app.volumes.prepare import Preparation
from slem_app.weights import EncoderCard, Pretrained, load_parent, load_pretrained, save_pretrained
from slem_app.weights.transfer import transfer

MISSING = ("encoder.fusion.gain", "encoder.fusion.shift")
BRAIN = ("t1n", "t1c", "t2w", "t2f")
CONFIG = SegmenterConfig(
    channels=(4, 6, 8),
    blocks=(1, 1, 1),
    stem_channels=4,
    context_levels=(2,),
    context_dilations=(1, 2),
    deep_supervision=1,
)


class Net(torch.nn.Module):
    """As a pretext names its parts."""

    def __init__(self, config: SegmenterConfig, slots: int, decoder: bool) -> None:
        super().__init__()
        self.encoder = Encoder(replace(config, sequences=slots))
        self.decoder = Decoder(config) if decoder else None
        self.head = torch.nn.Linear(8, 4)


@pytest.fixture
def pretrained(tmp_path: Path) -> Callable[..., Pretrained]:
    def make(
        slots: int = 1,
        decoder: bool = False,
        config: SegmenterConfig = CONFIG,
        sequences: tuple[str, ...] = BRAIN,
    ) -> Pretrained:
        torch.manual_seed(1)
        network = Net(config, slots, decoder)
        for p in network.parameters():
            torch.nn.init.normal_(p)
        card = EncoderCard(
            "small_ssl",
            "1",
            "A test's encoder.",
            "slem",
            sequences,
            slots,
            decoder,
            config,
            Preparation(),
            data="phantoms",
        )
        folder = tmp_path / f"{slots}{decoder}"
        save_pretrained(folder, card, network)
        return load_pretrained(folder)

    return make


def segmenter(config: SegmenterConfig = CONFIG) -> Segmenter:
    torch.manual_seed(0)
    return build(config)


def test_stem_levels_context_and_fusion_are_taken_heads_decoder_and_what_is_for_missing_ones_are_new(
    pretrained: Callable[..., Pretrained],
) -> None:
    parent, network = pretrained(), segmenter()
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    done = transfer(parent, network, BRAIN)
    now = network.state_dict()
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in done.taken} == {
        "encoder.stem",
        "encoder.fusion",
        "encoder.down",
        "encoder.levels",
        "encoder.context",
    }
    assert {name.split(".")[0] for name in done.new if name not in MISSING} == {
        "decoder",
        "head",
        "deep_heads",
    }
    assert sorted(done.taken + done.new) == sorted(now)
    for name in done.taken:
        if name != "encoder.fusion.project":
            torch.testing.assert_close(now[name], parent.state[name], rtol=0, atol=0)
    for name in done.new:
        torch.testing.assert_close(now[name], fresh[name], rtol=0, atol=0)


def test_slots_made_from_one_add_up_to_it_so_that_equal_images_look_as_before(
    pretrained: Callable[..., Pretrained],
) -> None:
    parent, network = pretrained(), segmenter()
    transfer(parent, network, BRAIN)
    slots = network.encoder.fusion.project.data
    torch.testing.assert_close(slots.sum(dim=0), parent.state["encoder.fusion.project"][0])
    one = Encoder(replace(CONFIG, sequences=1))
    one.load_state_dict(
        {name.removeprefix("encoder."): tensor for name, tensor in parent.state.items()}, strict=True
    )
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        before = one(image, torch.ones(1, 1, dtype=torch.bool))
        after = network.encoder(image.expand(-1, 4, -1, -1, -1), torch.ones(1, 4, dtype=torch.bool))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("slots", [1, 4])
def test_after_the_transfer_the_network_tells_sequences_apart(
    pretrained: Callable[..., Pretrained], slots: int
) -> None:
    network = segmenter()
    transfer(pretrained(slots), network, BRAIN)
    images, present = torch.randn(1, 4, 16, 16, 16), torch.ones(1, 4, dtype=torch.bool)
    exchanged = images[:, [1, 0, 2, 3]]
    with torch.inference_mode():
        bottleneck, other = (network.encoder(x, present)[-1] for x in (images, exchanged))
    assert (bottleneck - other).std() > 0.1 * bottleneck.std()


def test_an_encoder_of_a_slot_a_sequence_keeps_its_slots_by_name(
    pretrained: Callable[..., Pretrained],
) -> None:
    parent, network = pretrained(slots=4, decoder=True), segmenter(replace(CONFIG, sequences=3))
    done = transfer(parent, network, ("t2f", "swi", "t1n"))
    project = parent.state["encoder.fusion.project"]
    torch.testing.assert_close(
        network.encoder.fusion.project.data, torch.stack([project[3], project.mean(dim=0), project[0]])
    )
    shift = parent.state["encoder.fusion.shift"]
    torch.testing.assert_close(
        network.encoder.fusion.shift.data, torch.stack([shift[3], shift.mean(dim=0), shift[0]])
    )
    assert set(MISSING) <= set(done.taken)
    assert {name.split(".")[0] for name in done.new} == {"head", "deep_heads"}


def test_parts_may_be_left_fresh(pretrained: Callable[..., Pretrained]) -> None:
    parent, network = pretrained(decoder=True), segmenter()
    before = network.encoder.context["2"].reduce[0].weight.detach().clone()
    done = transfer(parent, network, BRAIN, fresh=("context", "decoder"))
    torch.testing.assert_close(network.encoder.context["2"].reduce[0].weight.data, before)
    assert not any(name.startswith(("encoder.context.", "decoder.")) for name in done.taken)
    without = segmenter(replace(CONFIG, context="none"))
    assert transfer(parent, without, BRAIN, fresh=("context",)).taken
    with pytest.raises(
        BadWeights,
        match="unknown part 'contxt' of a network: choose out of stem, fusion, levels, context, decoder",
    ):
        transfer(parent, network, BRAIN, fresh=("contxt",))


def test_a_surprise_key_fails(pretrained: Callable[..., Pretrained]) -> None:
    parent = pretrained()
    more = replace(parent, state={**parent.state, "encoder.extra.weight": torch.zeros(1)})
    with pytest.raises(
        BadWeights, match=r"small_ssl 1 holds weights that the segmenter does not have: encoder.extra.weight"
    ):
        transfer(more, segmenter(), BRAIN)
    fewer = replace(
        parent, state={name: tensor for name, tensor in parent.state.items() if "stem" not in name}
    )
    with pytest.raises(BadWeights, match=r"small_ssl 1 lacks weights that the segmenter needs: encoder.stem"):
        transfer(fewer, segmenter(), BRAIN)
    name = "encoder.levels.0.0.first.0.weight"
    other = replace(parent, state={**parent.state, name: torch.zeros(1, 2)})
    with pytest.raises(
        BadWeights, match=r"encoder.levels.0.0.first.0.weight has shape \(1, 2\), the segmenter needs"
    ):
        transfer(other, segmenter(), BRAIN)


def test_nothing_is_changed_when_it_fails(pretrained: Callable[..., Pretrained]) -> None:
    parent, network = pretrained(), segmenter()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadWeights):
        transfer(
            replace(parent, state={**parent.state, "encoder.extra.weight": torch.zeros(1)}), network, BRAIN
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_networks_that_differ_without_showing_it_in_shapes_are_refused(
    pretrained: Callable[..., Pretrained],
) -> None:
    with pytest.raises(
        BadWeights, match=r"trained for another network \(context_dilations: \(1, 2\) there, \(1, 3\) here\)"
    ):
        transfer(pretrained(), segmenter(replace(CONFIG, context_dilations=(1, 3))), BRAIN)
    with pytest.raises(BadWeights, match="context: cfb there, none here"):
        transfer(pretrained(), segmenter(replace(CONFIG, context="none")), BRAIN)


def test_an_encoder_serves_a_segmenter_with_prompts(pretrained: Callable[..., Pretrained]) -> None:
    done = transfer(pretrained(), segmenter(replace(CONFIG, prompts=3)), BRAIN)
    assert [name for name in done.new if name.startswith("encoder.prompt")]


def test_saved_encoders_are_checked(
    pretrained: Callable[..., Pretrained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = pretrained()
    assert not any(name.startswith("head.") for name in parent.state)
    weights = parent.folder / parent.card.file
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    parent.folder.rename(tmp_path / "shelf" / "small_ssl")
    assert load_parent("small_ssl").card == parent.card
    weights = tmp_path / "shelf" / "small_ssl" / parent.card.file
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BadWeights, match="is damaged or of another model"):
        load_pretrained("small_ssl")
    card = tmp_path / "shelf" / "small_ssl" / "encoder.yaml"
    card.write_text(card.read_text() + "surprise: 1\n")
    with pytest.raises(BadCard, match="unknown key 'surprise'"):
        load_pretrained("small_ssl")
    with pytest.raises(NotFound, match="no pre-trained encoder 'none'"):
        load_pretrained("none")
    with pytest.raises(NotFound, match="no model 'none'"):
        load_parent("none")


def test_cards_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(BadCard, match="has 1 slot or one for each"):
        EncoderCard("x", "1", "", "slem", BRAIN, 2, False, CONFIG, Preparation())
    with pytest.raises(BadCard, match="encoder name 'a b'"):
        EncoderCard("a b", "1", "", "slem", BRAIN, 1, False, CONFIG, Preparation())


def test_derived_slots_come_from_the_same_difference_and_else_from_the_mean(
    pretrained: Callable[..., Pretrained],
) -> None:
    parent = pretrained(slots=4, config=replace(CONFIG, differences=((1, 0),)))
    project = parent.state["encoder.fusion.project"]
    assert project.shape[0] == 5
    config = replace(CONFIG, sequences=3, differences=((2, 1), (0, 1)))
    network = segmenter(config)
    transfer(parent, network, ("t2w", "t1n", "t1c"))
    expected = [project[2], project[0], project[1], project[4], project.mean(dim=0)]
    torch.testing.assert_close(network.encoder.fusion.project.data, torch.stack(expected))
