"""How time grows with the size of a study, over processes, and whether the planner foretells it.

    python -m benchmarks.growth

(1) Wall time with twice as many images, steps, repeats, pixels or heatmaps, over that of the base.
(2) The same images on two processes with one thread each, over one process with one thread. (3) A
study of the size of CIFAR-10's images as `recipes.plan` foretells it, and as it was then measured.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

from aopc_monitor import Execution, estimate_aopc
from benchmarks.timing import in_turns, machine, quickest, ratio_text, seconds_of
from recipes import plan
from recipes.shared.heatmap_study import chosen_heatmaps
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.training.networks import build

NETWORK = "small_cnn"
BASE: dict[str, Any] = {"images": 64, "steps": 16, "repeats": 1, "side": 32, "heatmaps": 1}
DOUBLED: dict[str, dict[str, Any]] = {
    "twice the images": {"images": 128},
    "twice the steps": {"steps": 32},
    "twice the repeats": {"repeats": 2},
    "four times the pixels": {"side": 64},
    "twice the heatmaps": {"heatmaps": 2},
}
BATCH_SIZE = 32
STUDY = ["--network", NETWORK, "--image-size", "32", "--num-classes", "10", "--repeats", "1"]
STUDY_IMAGES = 200


def study(
    images: int, steps: int, repeats: int, side: int, heatmaps: int, chunk_size: int = 64
) -> None:
    """Estimates of one or several heatmaps, each with its control."""
    torch.manual_seed(0)
    model = build(NETWORK, 10, side).eval()
    batches = torch.rand(images, 3, side, side).split(BATCH_SIZE)
    for _ in range(heatmaps):
        estimate(model, batches, steps, repeats=repeats, execution=Execution(chunk_size))


def estimate(model: Any, batches: Sequence[Tensor], steps: int, **choices: Any) -> Any:
    """All steps, with the control."""
    return estimate_aopc(
        model,
        batches,
        region_size=4,
        steps=steps,
        data_range=(0.0, 1.0),
        sampled_steps=None,
        **choices,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args(arguments)
    print(f"{NETWORK}; {machine('torchvision')}\n")
    print(growth(options.turns), flush=True)
    print(f"\n{over_processes(options.turns)}", flush=True)
    print(f"\n{foretold(options.turns)}")


def growth(turns: int) -> str:
    """A table of ratios of wall times."""
    contestants = {"base": partial(study, **BASE)}
    contestants |= {name: partial(study, **{**BASE, **change}) for name, change in DOUBLED.items()}
    contestants["base"]()
    seconds = quickest(contestants, turns)
    rows = [[name, f"{seconds[name] / seconds['base']:.2f}"] for name in DOUBLED]
    return markdown_table(["with", "time, base = 1"], rows)


def over_processes(turns: int) -> str:
    """A line: two processes beside one."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(turns):
        for count, found in seconds.items():
            found.append(_seconds_on(count))
    return (
        "Two processes, time over that of one, median over turns: "
        f"{ratio_text(seconds[2], seconds[1])}"
    )


def _seconds_on(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        spawn(_process, (count, folder), nprocs=count)
        return max(float(file.read_text()) for file in Path(folder).glob("seconds_*"))


def _process(rank: int, count: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    torch.manual_seed(0)
    model = build(NETWORK, 10, 32).eval()
    batches = torch.rand(4 * BASE["images"], 3, 32, 32).split(BATCH_SIZE)
    share = batches[rank::count]
    estimate(model, share[:1], BASE["steps"], execution=Execution(64))
    dist.barrier()
    seconds = seconds_of(partial(estimate, model, share, BASE["steps"], execution=Execution(64)))
    Path(folder, f"seconds_{rank}").write_text(str(seconds))
    dist.destroy_process_group()


def foretold(turns: int) -> str:
    """A line: planned time and measured time, in turns."""
    options = plan.parse_arguments([*STUDY, "--num-images", str(STUDY_IMAGES)])
    protocol = plan.protocol_of(options)
    model, images = plan.subject(options, STUDY_IMAGES)
    heatmaps = chosen_heatmaps(options.heatmaps, plan.DATA_RANGE)

    def planned() -> None:
        speed = plan.measured(model, images[: plan.MEASURED_IMAGES], heatmaps, protocol)
        expected.append(speed.seconds(STUDY_IMAGES, protocol))

    def measured() -> None:
        estimate(model, images.split(BATCH_SIZE), protocol.steps, execution=Execution(64))

    expected: list[float] = []
    seconds = in_turns({"planned": planned, "measured": measured}, turns)["measured"]
    return (
        f"Planned over measured time of {STUDY_IMAGES} images, {protocol.steps} steps, median over "
        f"turns: {ratio_text(expected, seconds)}"
    )


if __name__ == "__main__":
    main()
