"""Trains the brain mask network on heads made from label maps; goes on where it was left.

    python benchmarks/train_brainmask.py --maps FOLDER --out RUN --minutes 60

The last three maps are held out. A checkpoint and a line of progress every 100 steps; `--publish FOLDER`
writes weights and card of what there is.
"""

from __future__ import annotations

import argparse
import pickle
import time
from pathlib import Path

import numpy as np
import torch

from slem_app.phantom.heads import HeadMap, HeadSettings, SyntheticHead, label_maps, make_head, read_map
from slem_app.volumes.brainmask import MaskCard, MaskNetwork, save_mask_network
from slem_app.volumes.brainmask.network import SPACING, mask_input
from slem_app.volumes.geometry import resample

HELD_OUT = 3
SETTINGS = HeadSettings(
    sequences=("image",),
    spacing=SPACING,
    field=(192.0, 232.0, 208.0),
    tumour=0.5,
    thick=0.6,
    thickness=(3.0, 7.0),
    cut=0.35,
    most_cut=0.3,
    stripped=0.04,
    mask_error=8.0,
    pose=22.0,
)
NAMED = ("t1n", "t1c", "t2w", "t2f")


def settings_of(rng: np.random.Generator) -> HeadSettings:
    """Half of the images have a contrast of their own sequence, half any."""
    name = str(rng.choice(NAMED)) if rng.random() < 0.5 else "image"
    return HeadSettings(**{**SETTINGS.__dict__, "sequences": (name,)})


def sample(maps: list[HeadMap], seed: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 1, I, J, K) image and brain, both float32, by number alone."""
    rng = np.random.default_rng([seed, number, 7])
    head = make_head(maps[rng.integers(len(maps))], (seed, number), settings_of(rng))
    return tensors(head)


def tensors(head: SyntheticHead) -> tuple[torch.Tensor, torch.Tensor]:
    """Network input and brain of a head of one image."""
    (volume,) = head.images.values()
    array, grid = mask_input(volume.array, volume.grid, "a made head")
    brain = resample(head.brain.astype(np.float32), head.grid, grid, order=1)
    return torch.from_numpy(array)[None, None], torch.from_numpy(brain)[None, None]


def loss_of(logits: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice."""
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, brain)
    share = torch.sigmoid(logits)
    dice = 1 - (2 * (share * brain).sum() + 1) / (share.sum() + brain.sum() + 1)
    return entropy + dice


def train(maps: list[HeadMap], out: Path, minutes: float, seed: int) -> None:
    """Go on until the time is over; the rate falls with the share of it that is spent."""
    torch.manual_seed(seed)
    network = MaskNetwork().to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    step, spent, losses, last = 0, 0.0, [], time.monotonic()
    if (out / "state.pt").is_file():
        state = torch.load(out / "state.pt", weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    while spent < 60 * minutes:
        rate = 2e-3 * min(1.0, (step + 1) / 100) * max(0.01, 1 - spent / (60 * minutes)) ** 0.9
        for group in optimizer.param_groups:
            group["lr"] = rate
        image, brain = sample(maps, seed, step)
        loss = loss_of(network(image), brain)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent, last = spent + time.monotonic() - last, time.monotonic()
        losses.append(float(loss.detach()))
        if step % 100 == 0:
            save(out, network, optimizer, step, spent)
            print(f"{step} loss {np.mean(losses[-100:]):.4f} {spent:.0f} s", flush=True)
    save(out, network, optimizer, step, spent)


def kept_maps(paths: tuple[Path, ...], file: Path) -> list[HeadMap]:
    """The maps, read once: a second start takes them from a file of its own making."""
    if not file.is_file():
        file.write_bytes(pickle.dumps([read_map(path) for path in paths]))
    return pickle.loads(file.read_bytes())


def save(out: Path, network: MaskNetwork, optimizer: torch.optim.Optimizer, step: int, spent: float) -> None:
    """Replace the checkpoint."""
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "spent": spent,
    }
    torch.save(state, out / "state.new")
    (out / "state.new").replace(out / "state.pt")


def publish(out: Path, folder: Path, count: int) -> None:
    """Weights and card of the checkpoint."""
    state = torch.load(out / "state.pt", weights_only=True)
    network = MaskNetwork()
    network.load_state_dict(state["network"])
    card = MaskCard(
        name="slem_brainmask",
        version="1",
        description="Finds the brain in one MR image of a whole head, of any contrast and resolution.",
        kind="slem",
        channels=network.channels,
        data=f"{count} whole heads as label maps, SynthSeg's training maps (Billot 2023); every image was "
        f"made from them by slem_app.phantom.heads; no scan was used.",
        terms="The label maps: Apache-2.0. The weights: the project's own licence.",
        training=f"{state['step']} images, one at a time, on one CPU core; seed 0.",
        figures={"million weights": round(sum(p.numel() for p in network.parameters()) / 1e6, 3)},
    )
    print(save_mask_network(folder, card, network))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", type=Path)
    given = parser.parse_args()
    paths = label_maps(given.maps)[:-HELD_OUT]
    if given.publish:
        publish(given.out, given.publish, len(paths))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    maps = kept_maps(paths, given.out / "maps.pkl")
    print(f"{len(maps)} maps", flush=True)
    train(maps, given.out, given.minutes, given.seed)


if __name__ == "__main__":
    main()
