"""What `pretraining.py` compares: settings (what all arms of a comparison share) and arms (how
they begin).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

__all__ = ["ARMS", "EVERY", "SETTINGS", "VARIANTS", "Arm", "Setting"]


@dataclass(frozen=True)
class Setting:
    """What all arms of one comparison share."""

    about: str
    """One line for the table."""
    network: Mapping[str, object]
    """Differences of the network from the recipe's."""
    preparation: Mapping[str, object]
    """Differences of the preparation."""
    pretext: Mapping[str, object]
    """Differences of PretextSettings."""
    finetune: Mapping[str, object]
    """Differences of FinetuneSettings."""
    recipe: str = "brain"
    """Fine-tuning recipe: sequences, regions, and what the other fields differ from."""
    table: str = "pretraining"
    """Name of the table in results/ that holds its rows; tables of unlike organs, or of phantoms and
    patients, are never one.
    """
    labels: tuple[int, ...] = (4, 8, 12)
    """Labelled cases of the training fold."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the fine-tuning: weights, patches, which cases are labelled."""
    folds: int = 4
    """Test folds by patient."""
    pretext_per_seed: bool = False
    """False: one pre-training (seed 0) a fold serves all seeds, so that the spread over seeds is that of
    fine-tuning.
    """


SETTINGS = {
    "small": Setting(
        (
            "2 CPU cores: whole heads at 3 mm, network of 0.4 M weights, 400 pretext steps of 8, 250 "
            "fine-tuning steps of 4"
        ),
        {
            "channels": [12, 24, 48],
            "stem_channels": 12,
            "blocks": [1, 1, 2],
            "context_levels": [2],
            "deep_supervision": 1,
        },
        {"spacing": [3.0, 3.0, 3.0], "multiple": 8},
        {"steps": 400, "batch": 8, "rate": 2e-3, "save_every": 100, "view": {"shape": [48, 64, 48]}},
        {"steps": 250, "batch": 4, "patch": [48, 64, 48], "rate": 3e-3, "save_every": 250, "average": 0.98},
    ),
    "medium": Setting(
        (
            "CPU hours or one GPU: the served network (3.1 M weights) on whole heads at 1.5 mm, 1000 "
            "pretext steps "
            "of 4, 800 fine-tuning steps of 2; a pre-training for each seed"
        ),
        {},
        {"spacing": [1.5, 1.5, 1.5], "multiple": 16},
        {
            "steps": 1000,
            "batch": 4,
            "pool": 40,
            "rate": 1e-3,
            "save_every": 250,
            "average": 0.99,
            "view": {"shape": [96, 128, 96]},
        },
        {"steps": 800, "batch": 2, "patch": [96, 96, 96], "save_every": 200},
        labels=(4, 8, 16),
        seeds=(0, 1),
        folds=6,
        pretext_per_seed=True,
    ),
    "large": Setting(
        (
            "one GPU: whole heads at 1.5 mm, network of 7 M weights, 1500 pretext steps of 8, 800 "
            "fine-tuning steps of 4"
        ),
        {
            "channels": [32, 64, 128, 160],
            "stem_channels": 32,
            "blocks": [1, 2, 2, 2],
            "context_levels": [3],
            "deep_supervision": 2,
        },
        {"spacing": [1.5, 1.5, 1.5], "multiple": 16},
        {
            "steps": 1500,
            "batch": 8,
            "rate": 1e-3,
            "save_every": 250,
            "average": 0.99,
            "view": {"shape": [96, 128, 96]},
        },
        {"steps": 800, "batch": 4, "patch": [96, 96, 96], "rate": 2e-3, "save_every": 200},
    ),
    "tiny": Setting(
        (
            "1 CPU core: whole heads at 4 mm, network of 0.1 M weights, 300 pretext steps of 8, 200 "
            "fine-tuning steps of 4"
        ),
        {
            "channels": [8, 16, 32],
            "stem_channels": 8,
            "blocks": [1, 1, 1],
            "context_levels": [2],
            "deep_supervision": 1,
        },
        {"spacing": [4.0, 4.0, 4.0], "multiple": 8},
        {"steps": 300, "batch": 8, "rate": 2e-3, "save_every": 100, "view": {"shape": [32, 48, 32]}},
        {"steps": 200, "batch": 4, "patch": [32, 48, 32], "rate": 4e-3, "save_every": 1000, "average": 0.97},
    ),
    "abdomen_tiny": Setting(
        "1 CPU core, phantoms alone (`slem demo --cases 16 --body abdomen`; each patient's T1 and "
        "T2, truth of T1): 8 x 8 x 10 mm, network of 0.1 M "
        "weights, 150 pretext steps of 8, 500 fine-tuning steps of 1 (steps and rate: by scratch on "
        "fold 0, seed 0)",
        {
            "channels": [8, 16, 32],
            "stem_channels": 8,
            "blocks": [1, 1, 1],
            "context_levels": [2],
            "deep_supervision": 1,
        },
        {"spacing": [8.0, 8.0, 10.0], "multiple": 8},
        {
            "steps": 150,
            "batch": 8,
            "rate": 2e-3,
            "save_every": 50,
            "view": {"shape": [48, 40, 24], "flip": 0.0},
        },
        {"steps": 500, "batch": 1, "patch": [48, 40, 24], "rate": 4e-3, "save_every": 1000, "average": 0.97},
        recipe="chaos",
        table="pretraining_abdomen",
        labels=(4, 8),
    ),
    "smoke": Setting(
        "some steps, to see that it runs",
        {
            "channels": [4, 8],
            "stem_channels": 4,
            "blocks": [1, 1],
            "context_levels": [1],
            "deep_supervision": 0,
        },
        {"spacing": [6.0, 6.0, 6.0], "multiple": 4},
        {"steps": 2, "batch": 2, "measured": 2, "view": {"shape": [24, 32, 24]}},
        {"steps": 2, "batch": 2, "patch": [24, 32, 24]},
        labels=(1, 2),
        seeds=(0,),
        folds=2,
    ),
}


@dataclass(frozen=True)
class Arm:
    """One way to begin."""

    recipe: str = ""
    """Pretext recipe; empty: from nothing."""
    pretext: Mapping[str, object] = field(default_factory=dict)
    """What differs from the setting's pre-training, e.g. options, or 'longer': how many times as many steps.
    """
    finetune: Mapping[str, object] = field(default_factory=dict)
    """What differs from the setting's fine-tuning."""
    longer: bool = False
    """The pre-training's steps are added to the fine-tuning's."""


ARMS = {  # the comparison
    "scratch": Arm(),
    "slem": Arm("slem"),
    "slem_slots": Arm("slem_slots"),
    "slem_restore": Arm("slem_restore"),
    "slem_slots_restore": Arm("slem_slots_restore"),
    "masked": Arm("masked"),
    "jigen": Arm("jigen"),
    "multimodal_puzzle": Arm("multimodal_puzzle"),
    "supervoxel": Arm("supervoxel"),
    "placebo": Arm("placebo"),
    "scratch_longer": Arm(longer=True),
}
WARM = {"frozen": 0.1, "encoder_rate": 0.3}
VARIANTS = {  # changes that were tried; not part of the comparison unless named with --arms
    "slem_all": Arm("slem_all"),
    "slem_3d": Arm("slem_3d"),
    "slem_long": Arm("slem", {"longer": 3}),
    "slem_warm": Arm("slem", {}, WARM),
    "slem_decay": Arm("slem", {}, {"layer_decay": 0.7}),
    "slem_fresh_context": Arm("slem", {}, {"fresh": ["context"]}),
    "slem_fresh_fusion": Arm("slem", {}, {"fresh": ["fusion"]}),
    "slem_plain_blocks": Arm("slem", {"options": {"appearance": {"intensity": "none"}}}),
    "slem_restore_warm": Arm("slem_restore", {}, WARM),
    "masked_warm": Arm("masked", {}, WARM),
}
EVERY = ARMS | VARIANTS
EVERY |= {
    f"{name}_probe": replace(arm, finetune={**arm.finetune, "frozen": 1.0})
    for name, arm in EVERY.items()
    if not arm.longer
}
