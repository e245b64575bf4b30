"""Which scores of heatmaps agree, and which contradict each other?

python -m recipes.compare_scores                        # digits, nothing is downloaded
python -m recipes.compare_scores --dataset photographs --image-size 224 \
    --network efficientnet_lite0 --pretrained           # six photographs, nothing is trained
python -m recipes.compare_scores --image-folder DIR --image-size 224 \
    --network efficientnet_lite0 --pretrained
python -m recipes.compare_scores --network small_cnn --beside runs/.../scores.csv

AOPC of the most and of the least relevant first, deletion, insertion, comprehensiveness,
sufficiency, SaCo, fidelity and sensitivity-n of the same heatmaps and images. A run that is started
again goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from aopc_monitor import heatmaps, normalized_data_range
from aopc_monitor.perturbation import suggested_region_size
from recipes.compare_scores.agreement import Measured
from recipes.compare_scores.report import Other, Report
from recipes.compare_scores.scores import CONTROL, PART, Amounts, Scores
from recipes.shared.arguments import command_line
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_blocks import Blocks, measured
from recipes.shared.heatmap_study import Study, add_study_arguments, study_options

HEATMAPS = (
    "lrp", "lrp_epsilon_1", "lrp_alpha2_beta1", "gradient_x_input", "integrated_gradients",
    "grad_cam", "deconvolution_l2", "sensitivity_l2",
)  # fmt: skip
MOST_STEPS = 100
LEAST = {"sampled_steps": 1, "parts": 1, "groups": 2, "draws": 1, "subsets": 3, "block_size": 1}
# Of fewer heatmaps a rank correlation says little.
FEWEST_HEATMAPS = 3


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.compare_scores",
        description="Measure heatmaps by many scores, and the scores by each other.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_study_arguments(parser, num_images=100, default=HEATMAPS)
    study = parser.add_argument_group("study")
    study.add_argument("--region-size", type=int, help="pixels; 4 of 32 x 32, 9 of 224 x 224")
    study.add_argument("--steps", type=int, help="L of AOPC; half of the regions, at most 100")
    study.add_argument("--sampled-steps", type=int, default=8, help="of these, for each image")
    study.add_argument("--parts", type=int, default=10, help="of deletion and insertion")
    study.add_argument("--groups", type=int, default=10, help="K of SaCo")
    study.add_argument("--draws", type=int, default=10, help="random removals of fidelity")
    study.add_argument("--subsets", type=int, default=50, help="of sensitivity-n")
    study.add_argument("--block-size", type=int, default=10, help="images between two savings")
    study.add_argument("--beside", type=Path, help="scores.csv of another network")
    study.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "eager", "compile", "openvino"),
        help="what carries out the forwards that give scores; see Execution",
    )
    options = study_options(parser, arguments)
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            flag = f"--{name.replace('_', '-')}"
            parser.error(f"{flag} {getattr(options, name)}: must be at least {least}")
    if len(set(options.heatmaps)) < FEWEST_HEATMAPS:
        given = " ".join(options.heatmaps)
        parser.error(f"--heatmaps {given}: ranks need at least {FEWEST_HEATMAPS}")
    return options


def main(arguments: Sequence[str] | None = None) -> Report | None:
    """Train or read the network, measure, report; None on other processes than the first."""
    options = parse_arguments(arguments)
    # Before the work, which would be in vain.
    other = Other.read(options.beside) if options.beside else None
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("aopc_monitor").setLevel(logging.INFO)
    study = Study.of(options, "compare_scores")
    amounts = amounts_of(options, study.data.image_size)
    data_range = normalized_data_range(study.data.mean, study.data.std)
    makers = {**study.heatmaps, CONTROL: heatmaps.get(CONTROL)}
    scores = Scores(makers, amounts, data_range, options.seed, options.backend)
    blocks = Blocks(study.data, study.rows, options.block_size)
    measurement = measured(study.network, scores, blocks, study.folder / "blocks", options)
    if measurement is None:
        return None
    found = measurement.collected(PART)
    report = Report(
        f"{study.title}, {options.network}",
        Measured(tuple(makers), found["values"]),
        study.images_of(found["predicted"]),
        {**study.settings(options, found["predicted"]), **told(amounts)},
        command_line("recipes.compare_scores", arguments),
        other,
    )
    report.write(study.folder)
    print(f"\n{report.table()}\n")
    print("\n".join([*report.agreements(), report.both_ends()]))
    print(f"\nreport   {study.folder / 'report.md'}")
    return report


def amounts_of(options: argparse.Namespace, side: int) -> Amounts:
    """How much is asked of images of so many pixels a side.

    Raises:
        ValueError: for regions that do not fit.
    """
    size = options.region_size or suggested_region_size(side, side)
    regions = (side // size) ** 2
    if regions < options.groups:
        raise ValueError(
            f"--region-size {size}: {regions} regions fit images of {side} x {side}, and --groups "
            f"{options.groups} need as many at least"
        )
    steps = options.steps or min(MOST_STEPS, regions // 2)
    return Amounts(
        size,
        steps,
        min(options.sampled_steps, steps),
        options.parts,
        options.groups,
        options.draws,
        options.subsets,
    )


def told(amounts: Amounts) -> dict[str, object]:
    """The amounts, for people."""
    return {
        "regions": f"{amounts.region_size} x {amounts.region_size} pixels",
        "AOPC": f"{amounts.sampled_steps} sampled of {amounts.steps} steps",
        "deletion, insertion": f"{amounts.parts} parts",
        "SaCo": f"{amounts.groups} groups",
        "fidelity": f"{amounts.draws} draws of each of 2 sizes",
        "sensitivity-n": f"{amounts.subsets} subsets of each of 2 sizes",
    }


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
