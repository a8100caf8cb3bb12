"""Models on disk: checked when read, never half written."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from slem_app.errors import BadWeights, NotFound, StorageFailed
from slem_app.network import Segmenter, build
from slem_app.weights import Card, card_text, find, load_card, load_model, model_names, save_model


def rewrite(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Put another state into a saved model, with a card that names it."""
    card = load_card(folder)
    data = safetensors.torch.save(state)
    (folder / card.file).write_bytes(data)
    (folder / "card.yaml").write_text(
        card_text(replace(card, sha256=hashlib.sha256(data).hexdigest())), encoding="utf-8"
    )


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / load_card(folder).file)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_gives_back_the_weights_in_half_precision(card: Card, network: Segmenter, tmp_path: Path) -> None:
    written = save_model(tmp_path / "small", card, network)
    model = load_model(tmp_path / "small")
    assert model.card == written == load_card(tmp_path / "small")
    assert names(tmp_path / "small") == {"card.yaml", written.file}
    assert all(t.dtype == torch.float16 for t in stored(tmp_path / "small").values())
    for name, tensor in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor.half().float()), name
    assert not model.network.training


def test_saving_again_replaces_the_old_pair(card: Card, network: Segmenter, tmp_path: Path) -> None:
    first = save_model(tmp_path, card, network)
    torch.manual_seed(1)
    second = save_model(tmp_path, replace(card, version="4"), build(card.network))
    assert first.file != second.file
    assert names(tmp_path) == {"card.yaml", second.file}
    assert load_model(tmp_path).card.version == "4"


def test_weights_of_before_the_gain_and_shift_of_missing_sequences_load_as_what_they_did(
    card: Card, network: Segmenter, tmp_path: Path
) -> None:
    """A substitute in front of the norm did nothing; a name that nobody knows still fails."""
    save_model(tmp_path, card, network)
    state = {name: tensor.clone() for name, tensor in stored(tmp_path).items()}
    shape = state.pop("encoder.fusion.gain").shape
    del state["encoder.fusion.shift"]
    rewrite(tmp_path, {**state, "encoder.fusion.substitute": torch.ones(shape).half()})
    now = load_model(tmp_path).network.state_dict()
    assert not now["encoder.fusion.gain"].any()
    assert not now["encoder.fusion.shift"].any()
    assert torch.equal(now["encoder.fusion.project"], state["encoder.fusion.project"].float())
    rewrite(tmp_path, {**state, "encoder.fusion.substitutes": torch.ones(shape).half()})
    with pytest.raises(
        BadWeights, match="holds weights that the card's network does not have: encoder.fusion.substitutes"
    ):
        load_model(tmp_path)


KILLED = """
import os, sys
from pathlib import Path
import torch
from slem_app.network import build
from slem_app.weights import load_card, save_model
card = load_card(Path(sys.argv[1]))
real, left = os.replace, [int(sys.argv[2])]
def replace(*args):
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    real(*args)
os.replace = replace
torch.manual_seed(5)
save_model(Path(sys.argv[1]), card, build(card.network))
"""


@pytest.mark.parametrize("moment", [0, 1], ids=["before the weights", "before the card"])
def test_a_kill_while_saving_leaves_the_old_model(
    card: Card, network: Segmenter, tmp_path: Path, moment: int
) -> None:
    before = save_model(tmp_path, card, network)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(moment)], cwd=Path(__file__).parents[2]
    )
    assert process.returncode == -9
    assert load_model(tmp_path).card == before
    after = save_model(tmp_path, replace(card, version="9"), network)
    assert load_model(tmp_path).card == after
    assert {name for name in names(tmp_path) if name.startswith("small-")} == {after.file}


def test_a_full_disk_leaves_the_old_model(
    card: Card, network: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save_model(tmp_path, card, network)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    torch.manual_seed(2)
    with pytest.raises(
        StorageFailed,
        match=r"cannot save small in .*No space left on device; what was there before is unchanged",
    ):
        save_model(tmp_path, card, build(card.network))
    assert load_model(tmp_path).card == before
    assert not list(tmp_path.glob("*.part"))


def test_refuses_damaged_and_foreign_weights(card: Card, network: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / save_model(tmp_path, card, network).file
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(
        BadWeights, match=r"small-.*\.safetensors is damaged or of another model: sha256 .* but the card says"
    ):
        load_model(tmp_path)
    path.unlink()
    with pytest.raises(BadWeights, match=r"names the weight file 'small-.*', which is not there"):
        load_model(tmp_path)
    path.write_bytes(b"not at all")
    (tmp_path / "card.yaml").write_text(
        card_text(replace(load_card(tmp_path), sha256=hashlib.sha256(b"not at all").hexdigest())),
        encoding="utf-8",
    )
    with pytest.raises(BadWeights, match="is not a safetensors file"):
        load_model(tmp_path)


def test_refuses_surprise_missing_and_misshapen_weights(
    card: Card, network: Segmenter, tmp_path: Path
) -> None:
    save_model(tmp_path, card, network)
    state = stored(tmp_path)
    rewrite(tmp_path, state | {"head.extra": torch.zeros(1)})
    with pytest.raises(BadWeights, match=r"holds weights that the card's network does not have: head\.extra"):
        load_model(tmp_path)
    rewrite(tmp_path, {name: tensor for name, tensor in state.items() if name != "head.bias"})
    with pytest.raises(BadWeights, match=r"lacks weights that the card's network has: head\.bias"):
        load_model(tmp_path)
    rewrite(tmp_path, state | {"head.bias": torch.zeros(3)})
    with pytest.raises(BadWeights, match=r"head\.bias has shape \(3,\), the card's network needs \(24,\)"):
        load_model(tmp_path)


def test_refuses_to_save_what_cannot_be_used(card: Card, network: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="shape"):
        save_model(tmp_path, card, build(replace(card.network, channels=(6, 6))))
    wide = replace(card, network=replace(card.network, channels=(96, 320), blocks=(1, 3)))
    with pytest.raises(BadWeights, match=r"take .* MiB in half precision, the limit is 16"):
        save_model(tmp_path, wide, build(wide.network))
    with torch.no_grad():
        network.head.bias[0] = float("nan")
    with pytest.raises(BadWeights, match=r"head\.bias is not finite in half precision"):
        save_model(tmp_path, card, network)
    assert not list(tmp_path.iterdir())


def test_finds_models_by_name(
    card: Card, network: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "shelf" / "small", card, network)
    monkeypatch.setenv("SLEM_MODELS", os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "shelf")]))
    assert find("small") == tmp_path / "shelf" / "small"
    assert "small" in model_names()
    assert load_model("small").card.name == "small"
    for wrong in ("tiny", "", "..", "../shelf/small", "shelf/small"):
        with pytest.raises(NotFound, match=r"no model .* known: .*small"):
            find(wrong)
