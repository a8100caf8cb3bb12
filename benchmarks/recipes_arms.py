"""What `recipes.py` compares: arms, each a recipe of fine-tuning, in settings that all arms share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ARMS", "SETTINGS", "Arm", "Setting"]


@dataclass(frozen=True)
class Setting:
    """What all arms share."""

    about: str
    """One line for the table."""
    steps: int
    """Optimizer steps."""
    passes: int
    """Patches that pass the network in each step, whatever the arm."""
    network: Mapping[str, object] = field(default_factory=dict)
    """Differences of the network from the brain recipe's."""
    preparation: Mapping[str, object] = field(default_factory=dict)
    """Differences of the preparation."""
    finetune: Mapping[str, object] = field(default_factory=dict)
    """Differences of FinetuneSettings."""
    mirror: tuple[int, ...] = (0,)
    """Axes whose mirror images are averaged in at prediction."""
    folds: int = 6
    """Test folds by patient."""


SETTINGS = {
    "large": Setting(
        "the served network at 1.5 mm, recipe `brain`",
        3600,
        4,
        finetune={"save_every": 500},
    ),
    "small": Setting(
        "whole heads at 3 mm, network of 0.4 M weights",
        1000,
        2,
        {
            "channels": [12, 24, 48],
            "stem_channels": 12,
            "blocks": [1, 1, 2],
            "context_levels": [2],
            "deep_supervision": 1,
        },
        {"spacing": [3.0, 3.0, 3.0], "multiple": 8},
        {"patch": [48, 64, 48], "rate": 3e-3, "save_every": 50, "average": 0.98},
        mirror=(),
    ),
    "tiny": Setting(
        "whole heads at 3 mm, network of 0.1 M weights",
        500,
        4,
        {
            "channels": [8, 16, 32],
            "stem_channels": 8,
            "blocks": [1, 1, 1],
            "context_levels": [2],
            "deep_supervision": 1,
        },
        {"spacing": [3.0, 3.0, 3.0], "multiple": 8},
        {"patch": [32, 48, 32], "rate": 4e-3, "save_every": 50, "average": 0.98},
        mirror=(),
    ),
    "smoke": Setting(
        "some steps, to see that it runs",
        2,
        2,
        {
            "channels": [4, 8],
            "stem_channels": 4,
            "blocks": [1, 1],
            "context_levels": [1],
            "deep_supervision": 0,
        },
        {"spacing": [6.0, 6.0, 6.0], "multiple": 4},
        {"patch": [24, 32, 24]},
        mirror=(),
        folds=2,
    ),
}


@dataclass(frozen=True)
class Arm:
    """One recipe."""

    about: str
    """One line for the table."""
    finetune: Mapping[str, object] = field(default_factory=dict)
    """Differences of FinetuneSettings, nested tables too."""
    network: Mapping[str, object] = field(default_factory=dict)
    """Differences of the network."""
    width: float = 1.0
    """Factor of its channels."""


PAIRS = {"on": True, "twice": [["t1n"], ["t1c"], ["t1n", "t1c"]]}
ACQUISITION = {
    "thick": 0.15,
    "displaced": 0.1,
    "bias": 0.15,
    "contrast": 0.15,
    "inverted": 0.1,
    "border": 0.1,
}
VARIED = {"pairs": PAIRS, "augment": {"keep_sequence": 1.0, "paste": 0.15, **ACQUISITION}}
ENHANCEMENT = {"differences": [[1, 0]]}  # t1c - t1n

ARMS = {
    "old": Arm("recipe `brain` as it is: each sequence kept with probability 0.75"),
    "paired": Arm(
        "every patch complete and once more with a subset, which also learns from the complete set",
        {"pairs": PAIRS, "augment": {"keep_sequence": 1.0}},
    ),
    "derived": Arm("`old` with T1c - T1 as a derived channel", network=ENHANCEMENT),
    "acquisition": Arm(
        "`old` with thick slices, displaced sequences, bias, contrast, inverted gamma, mask borders",
        {"augment": ACQUISITION},
    ),
    "paste": Arm("`old` with tumours of other training cases pasted in", {"augment": {"paste": 0.25}}),
    "soup": Arm("`old`, the late checkpoints averaged", {"soup": 0.25}),
    "wide": Arm("`old` with 1.5 times the channels, 7 M weights instead of 3.1 M", width=1.5),
    "new": Arm(
        "`paired`, `derived` and `acquisition` together",
        {"pairs": PAIRS, "augment": {"keep_sequence": 1.0, **ACQUISITION}},
        ENHANCEMENT,
    ),
    "continued": Arm(
        "`paired` and `acquisition`, from a served model (--parent) at a third of the rate",
        {"rate": 7e-4, "pairs": PAIRS, "augment": {"keep_sequence": 1.0, **ACQUISITION}},
        {"prompts": 8},
    ),
    "varied": Arm("`paired` and `acquisition` with some tumours of other training cases", VARIED),
    "varied_further": Arm(
        "`varied` from a model (--parent) at a third of the rate", {"rate": 7e-4, **VARIED}, {"prompts": 8}
    ),
    "all": Arm(
        "`new`, `paste` and `soup` together",
        {"pairs": PAIRS, "augment": {"keep_sequence": 1.0, "paste": 0.25, **ACQUISITION}, "soup": 0.25},
        ENHANCEMENT,
    ),
}
