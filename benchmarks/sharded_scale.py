"""What a look at a sharded model costs on more devices than are at hand: computed, not measured.

python -m benchmarks.sharded_scale

Forwards, bytes that each device gathers, and seconds, for transformers of 0.1 to 70 billion
parameters under FSDP2 with 1 to 512 devices. The coefficients below are assumptions about devices
and networks of cables; give those of your own. How many exchanges a look makes was counted in
`tests/integration/sharded/test_faults.py`: one gathering of all parameters for a forward, two for a
heatmap of one forward and one backward pass, and one small exchange for a chunk.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK, BYTES = 16, 2
BILLIONS, DEVICES = (0.1, 1, 7, 70), (1, 8, 64, 512)
# Numbers that a forward multiplies and adds for each parameter and token.
OPERATIONS = 2
# A backward pass to the images alone computes what a forward does; the rules of LRP as much again.
FORWARDS_OF_HEATMAP = 3
# Of up to four images, once for changed weights: what the network returns, and whether images meet.
ASKING_FORWARDS, ASKED_IMAGES = 2, 6


@dataclass(frozen=True)
class Setting:
    """What is assumed.

    Attributes:
        images: in the probe.
        tokens: an image is.
        copies: perturbed copies of an image for each order (sampled steps times repeats).
        heatmaps: beside the random order.
        chunk: images of one forward.
        flops: a device computes in a second, in practice.
        bandwidth: bytes a device gathers in a second.
        latency: seconds of a small exchange between two devices; of many, times the logarithm.
    """

    images: int = 128
    tokens: int = 256
    copies: int = 4
    heatmaps: int = 1
    chunk: int = 64
    flops: float = 2e14
    bandwidth: float = 2.5e10
    latency: float = 3e-5


@dataclass(frozen=True)
class Look:
    """What a look costs each device.

    Attributes:
        rounds: blocks that it looks at.
        forwards: forward passes of a chunk, a heatmap's counted as one.
        gathered: bytes that it receives.
        seconds: that it takes, if nothing is gathered while something is computed.
    """

    rounds: int
    forwards: int
    gathered: float
    seconds: float


def look(billions: float, devices: int, of: Setting) -> Look:
    """Cost of a look at a model of so many billion parameters.

    Example:
        >>> alone, many = (look(7, devices, Setting()) for devices in (1, 8))
        >>> alone.rounds, many.rounds, alone.gathered
        (8, 1, 0.0)
    """
    rounds = math.ceil(math.ceil(of.images / BLOCK) / devices)
    perturbed = BLOCK * of.copies
    chunks = math.ceil(perturbed / of.chunk)
    orders = 1 + of.heatmaps
    forwards = ASKING_FORWARDS + rounds * (1 + of.heatmaps + chunks * orders)
    gatherings = forwards + rounds * of.heatmaps
    gathered = gatherings * billions * 1e9 * BYTES * (devices - 1) / devices
    images = ASKED_IMAGES + rounds * (
        BLOCK * (1 + FORWARDS_OF_HEATMAP * of.heatmaps) + perturbed * orders
    )
    computing = images * of.tokens * OPERATIONS * billions * 1e9 / of.flops
    exchanges = rounds * (3 + of.heatmaps + chunks) * of.latency * math.log2(max(devices, 2))
    return Look(rounds, forwards, gathered, computing + gathered / of.bandwidth + exchanges)


def table(of: Setting) -> str:
    """The table, in Markdown."""
    lines = [
        "| parameters | devices | blocks each | forwards each | GB gathered each | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for billions in BILLIONS:
        for devices in DEVICES:
            found = look(billions, devices, of)
            lines.append(
                f"| {billions:g} billion | {devices} | {found.rounds} | {found.forwards} | "
                f"{found.gathered / 1e9:.3g} | {found.seconds:.2g} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sharded_scale",
        description="Compute what looks at sharded models cost.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    defaults = Setting()
    for name, value in vars(defaults).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    print(table(Setting(**vars(parser.parse_args(arguments)))))


if __name__ == "__main__":
    main()
