"""Fig. 4 and 8 of Samek et al. 2017: which heatmap finds the regions that a network relies on?

python -m recipes.compare_heatmaps                        # digits, nothing is downloaded
python -m recipes.compare_heatmaps --dataset cifar10      # downloads CIFAR-10
python -m recipes.compare_heatmaps --image-folder DIR --weights FILE
python -m recipes.compare_heatmaps --image-folder DIR --image-size 224 --network resnet18 \
    --pretrained                                          # nothing is trained

A run that is started again goes on where it was. With `--dropout active` both the heatmaps and the
perturbed images see the network in its training phase, as in section IV-B.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from aopc_monitor import Execution, normalized_data_range
from aopc_monitor.perturbation import PerturbationProtocol, suggested_region_size
from recipes.compare_heatmaps.active_dropout import with_active_dropout
from recipes.compare_heatmaps.areas import Comparison, part_of
from recipes.compare_heatmaps.report import Areas, Report, area_by_step
from recipes.shared.arguments import command_line
from recipes.shared.freed_memory import keep_all_freed_memory
from recipes.shared.heatmap_blocks import Blocks, Measurement, measured
from recipes.shared.heatmap_study import REFERENCE, Study, add_study_arguments, study_options

# The paper's, section IV-A and the appendix.
REGION_SIZES = (1, 3, 5, 9, 19)
MOST_STEPS = 100
# A single region has only one order.
FEWEST_REGIONS = 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line to settings."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.compare_heatmaps",
        description="Compare heatmaps by region perturbation on the test images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_study_arguments(parser, num_images=1000)
    study = parser.add_argument_group("study")
    study.add_argument("--reference", default=REFERENCE, help="what fig8.png is relative to")
    study.add_argument("--region-size", nargs="+", type=int, default=list(REGION_SIZES))
    study.add_argument("--steps", type=int, default=MOST_STEPS, help="fewer where fewer fit")
    study.add_argument(
        "--sampled-steps", type=int, help="evaluated for each image; all if not given"
    )
    study.add_argument("--repeats", type=int, default=1, help="draws of noise; the paper's 10")
    study.add_argument("--dropout", choices=("off", "active"), default="off")
    study.add_argument("--block-size", type=int, default=20, help="images between two savings")
    study.add_argument(
        "--chunk-size",
        type=int,
        help="images per forward; 64, on a CPU 16 of 224 x 224, if not given",
    )
    study.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "eager", "compile", "openvino"),
        help="what carries out the forwards that give scores: auto is OpenVINO, where it is "
        "installed and pays; see Execution. With active dropout always eager",
    )
    options = study_options(parser, arguments)
    if len(set(options.heatmaps)) < 2:
        parser.error(f"--heatmaps {' '.join(options.heatmaps)}: a comparison needs at least two")
    if options.reference not in options.heatmaps:
        parser.error(f"--reference {options.reference} is not among --heatmaps: add it there")
    if options.repeats > 1 and options.sampled_steps is not None:
        parser.error(
            f"--repeats {options.repeats} and --sampled-steps {options.sampled_steps} do not go "
            "together: each draw of noise would evaluate other steps, and the curves averaged over "
            "draws no longer tell how often each step was evaluated; leave one of them out"
        )
    if options.block_size < 1:
        parser.error(f"--block-size must be at least 1; got {options.block_size}")
    return options


def main(arguments: Sequence[str] | None = None) -> Report | None:
    """Train or read the network, measure, report; None on other processes than the first."""
    options = parse_arguments(arguments)
    # What the library tells while it works, such as what it carries forwards out with.
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("aopc_monitor").setLevel(logging.INFO)
    study = Study.of(options, "compare_heatmaps")
    comparison = planned(study, options)
    network = study.network
    if options.dropout == "active":
        network = with_active_dropout(network)
    blocks = Blocks(study.data, study.rows, options.block_size)
    measurement = measured(network, comparison, blocks, study.folder / "blocks", options)
    if measurement is None:
        return None
    command = command_line("recipes.compare_heatmaps", arguments)
    report = report_of(measurement, comparison, study, options, command)
    report.write(study.folder)
    print(f"\n{report.areas[0].ranking_table()}\n\n{report.areas[0].order_found()}\n")
    print(f"report   {study.folder / 'report.md'}")
    return report


def planned(study: Study, options: argparse.Namespace) -> Comparison:
    """Heatmaps, and how to perturb with each region size that fits.

    Raises:
        ValueError: if no region size fits the images.
    """
    side, protocols = study.data.image_size, {}
    # A converted network has a random generator of its own.
    backend = "eager" if options.dropout == "active" else options.backend
    execution = Execution(options.chunk_size, backend=backend)
    for size in dict.fromkeys(options.region_size):
        regions = (side // size) ** 2 if size > 0 else 0
        if regions < FEWEST_REGIONS:
            print(f"regions of {size} x {size}: left out, {regions} fit images of {side} x {side}")
            continue
        steps = min(options.steps, regions)
        protocols[size] = PerturbationProtocol(
            region_size=size,
            steps=steps,
            data_range=normalized_data_range(study.data.mean, study.data.std),
            repeats=options.repeats,
            sampled_steps=options.sampled_steps and min(options.sampled_steps, steps),
            execution=execution,
        )
    if not protocols:
        raise ValueError(
            f"--region-size {options.region_size}: at least {FEWEST_REGIONS} regions of one of "
            f"these sizes must fit images of {side} x {side} pixels"
        )
    return Comparison(study.heatmaps, protocols, options.seed, len(study.rows))


def report_of(
    measurement: Measurement,
    comparison: Comparison,
    study: Study,
    options: argparse.Namespace,
    command: str,
) -> Report:
    """Read all blocks and put together what they hold."""
    areas = []
    for size, protocol in comparison.protocols.items():
        found = measurement.collected(part_of(size))
        by_step = area_by_step(found["curves"], protocol.strata).unbind(dim=1)
        areas.append(Areas(size, dict(zip(comparison.names, by_step, strict=True))))
    suggested = suggested_region_size(study.data.image_size, study.data.image_size)
    areas.sort(key=lambda one: abs(one.region_size - suggested))
    protocols, orders = comparison.protocols.values(), len(comparison.names)
    forwards = sum(protocol.forwards(len(study.rows), orders) for protocol in protocols)
    settings = study.settings(options, found["predicted"]) | {
        "dropout": options.dropout,
        "steps": ", ".join(f"{one.steps} of size {one.region_size}" for one in areas),
        "evaluated steps per image": options.sampled_steps or "all",
        "draws of noise": options.repeats,
        "forwards": f"{forwards:,}",
    }
    title = f"{study.title}, {options.network}"
    images = study.images_of(found["predicted"])
    side = study.data.image_size
    notes = list(study.notes.values())
    return Report(title, areas, options.reference, images, settings, command, side, notes)


if __name__ == "__main__":
    keep_all_freed_memory()
    main()
