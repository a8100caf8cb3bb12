"""Figures by lesion beside Dice, by panoptica (Kofler et al. 2023, arXiv 2312.02608), in two steps.

    python benchmarks/lesionwise.py export --maps MAPS --card pretrained/slem_brain --out PAIRS
    python -m venv TOOL && TOOL/bin/pip install panoptica==2.1.7 nibabel
    TOOL/bin/python benchmarks/lesionwise.py count PAIRS > rows.md

`export` runs in the project's environment: from what `trust_maps.py` made it writes result and truth of each
case as NIfTI, on the network's grid. `count` runs in panoptica's own environment, since both cannot be
installed in one (docs/decisions/0017). A lesion is a connected component of a region. A lesion of the truth
is found by the lesion of the result that overlaps it most, with an IoU above 0.1. *Lesion-wise Dice* is the
mean over all lesions, where one that was missed, and one that is none, count 0; *lesion-wise HD95* likewise,
where they count 374 mm, as in BraTS 2023. Unlike there, nothing is dilated and no small lesion is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
LEAST_IOU = 0.1
MISSED = 374.0  # mm


def export(maps: Path, card_folder: Path, out: Path) -> None:
    """Result and truth of each case as CASE.SET.result.nii.gz and CASE.SET.truth.nii.gz."""
    from slem_app.regions import decide
    from slem_app.types import Grid
    from slem_app.weights import load_card

    card = load_card(card_folder)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(maps.glob("*.npz")):
        data = np.load(path)
        grid = Grid(data["truth"].shape, data["affine"])
        array = decide(data["known"].astype(np.float32), card.labels, card.postprocess, grid.voxel_volume)
        for what, one in (("result", array), ("truth", data["truth"])):
            image = nibabel.Nifti1Image(one.astype(np.uint8), grid.affine)
            nibabel.save(image, out / f"{path.name.removesuffix('.npz')}.{what}.nii.gz")


def count(pairs: Path) -> None:
    """Print a row of each case and region, and the means."""
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        Metric,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )
    from panoptica.utils.edge_case_handling import (
        EdgeCaseHandler,
        EdgeCaseResult,
        MetricZeroTPEdgeCaseHandling,
    )

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(matching_threshold=LEAST_IOU),
        edge_case_handler=EdgeCaseHandler(
            {one: MetricZeroTPEdgeCaseHandling(EdgeCaseResult.NAN) for one in (Metric.DSC, Metric.HD95)}
        ),
        instance_metrics=[Metric.DSC, Metric.HD95],
        global_metrics=[Metric.DSC],
    )
    print("| case | sequences | region | lesions of the truth | found | missed | none | Dice ", end="")
    print("| lesion-wise Dice | lesion-wise HD95, mm |\n|---|---|---|---|---|---|---|---|---|---|")
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for path in sorted(pairs.glob("*.truth.nii.gz")):
        case, subset = path.name.removesuffix(".truth.nii.gz").rsplit(".", 1)
        truth = nibabel.load(path)
        result = np.asarray(nibabel.load(path.with_name(path.name.replace(".truth.", ".result."))).dataobj)
        right, spacing = np.asarray(truth.dataobj), tuple(map(float, truth.header.get_zooms()))
        for region, values in REGIONS.items():
            masks = [np.isin(one, values).astype(np.uint8) for one in (result, right)]
            if not masks[0].any() and not masks[1].any():
                print(f"| {case} | {subset} | {region} | 0 | 0 | 0 | 0 | 1.00 | 1.00 | 0 |")
                rows.setdefault((subset, region), []).append((0, 0, 0, 1.0, 1.0, 0.0))
                continue
            found = next(iter(evaluator.evaluate(*masks, voxelspacing=spacing).values()))
            tp, fp, fn = found.tp, found.fp, found.fn
            every = tp + fp + fn
            dice = found.sq_dsc * tp / every if tp else 0.0
            distance = ((found.sq_hd95 * tp if tp else 0.0) + MISSED * (fp + fn)) / every
            whole = 2 * np.count_nonzero(masks[0] & masks[1]) / (masks[0].sum() + masks[1].sum())
            rows.setdefault((subset, region), []).append((tp, fn, fp, whole, dice, distance))
            told = f"{tp + fn} | {tp} | {fn} | {fp} | {whole:.2f} | {dice:.2f} | {distance:.0f}"
            print(f"| {case} | {subset} | {region} | {told} |", flush=True)
    for (subset, region), values in sorted(rows.items()):
        tp, fn, fp, whole, dice, distance = np.array(values).mean(axis=0)
        told = f"{tp + fn:.1f} | {tp:.1f} | {fn:.1f} | {fp:.1f} | {whole:.2f} | {dice:.2f} | {distance:.0f}"
        print(f"| **mean of {len(values)}** | {subset} | {region} | {told} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["count"]:
        count(Path(sys.argv[2]))
    else:
        import tyro

        def main(maps: Path, card: Path, out: Path) -> None:
            """Write pairs of result and truth."""
            export(maps, card, out)

        tyro.extras.subcommand_cli_from_dict({"export": main}, args=sys.argv[1:])
