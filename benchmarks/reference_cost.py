"""What agreement with a reference adds to a look of the monitor.

    python -m benchmarks.reference_cost

prints, for each network, the processor time of a default evaluation of 128 images with a reference
over that without, in turns in one process. What else the machine does adds no processor time. The
reference itself is asked once of a probe, when a training starts, and is told apart: the seconds to
fit it on 5,000 images, and those of its answer to 128.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from aopc_monitor import FixedReference
from aopc_monitor.heatmaps import named_heatmaps
from aopc_monitor.metrics import ReferenceClasses, evaluate
from aopc_monitor.monitor import BLOCK_SIZE
from aopc_monitor.perturbation import SUGGESTED_SAMPLED_STEPS, PerturbationProtocol
from benchmarks.timing import machine, ratio_text
from recipes.shared.training.networks import build

IMAGES, SIDE, CLASSES, FITTED_ON = 128, 32, 10, 5000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=("small_cnn", "resnet18"))
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    print(machine())
    torch.manual_seed(0)
    images, labels = torch.rand(FITTED_ON, 3, SIDE, SIDE), torch.arange(FITTED_ON) % CLASSES
    batches = list(zip(images.split(128), labels.split(128), strict=True))
    began = time.process_time()
    reference = FixedReference.fit(batches)
    fitted = time.process_time()
    classes = ReferenceClasses.of(reference.predict(images[:IMAGES]), CLASSES)
    print(f"fit: {fitted - began:.1f} s; answer: {time.process_time() - fitted:.2f} s")
    for name in arguments.models:
        print(f"{name}: {ratio(name, images[:IMAGES], classes, arguments.turns)}", flush=True)


def ratio(name: str, images: Tensor, classes: ReferenceClasses, turns: int) -> str:
    """Processor time with the reference over that without: of each turn, and of all together."""
    model = build(name, CLASSES, SIDE).eval()
    protocol = PerturbationProtocol(4, 32, (0.0, 1.0), sampled_steps=SUGGESTED_SAMPLED_STEPS)
    heatmaps = named_heatmaps("lrp")

    def look(reference: ReferenceClasses | None) -> None:
        found = None
        for first in range(0, len(images), BLOCK_SIZE):
            rows = range(first, first + BLOCK_SIZE)
            block = images[first : first + BLOCK_SIZE]
            part = None if reference is None else reference.part(rows)
            one = evaluate(model, block, None, heatmaps, protocol, 0, reference=part)
            found = one if found is None else found + one
        assert found is not None
        found.summary()

    look(classes)  # the first is slow
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(turns):
        for compared in (True, False) if turn % 2 else (False, True):
            seconds[compared].append(seconds_of(lambda: look(classes if compared else None)))  # noqa: B023
    of_all = sum(seconds[True]) / sum(seconds[False])
    return f"{ratio_text(seconds[True], seconds[False])}, of all turns together {of_all:.3f}"


def seconds_of(run: Callable[[], None]) -> float:
    """Processor time of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    main()
