"""How an evaluation of one batch begins: the network unwrapped, left untouched, and asked once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution
from aopc_monitor.network.further_inputs import Inputs
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.scores import Score
from aopc_monitor.network.targets import Target
from aopc_monitor.network.wrappers import network_of


class Opened(NamedTuple):
    """What an evaluation of a batch works with.

    Attributes:
        clean: what the network says of the batch.
        images: (N, C, H, W) as the network is given them, each once.
        chunks: images at once.
    """

    clean: CleanBatch
    images: Tensor
    chunks: ChunkSizes


@contextmanager
def opened(
    model: nn.Module,
    images: Tensor,
    score: Score,
    execution: Execution,
    sizes: ChunkSizesByNetwork,
    *,
    target: Target = None,
    output_fn: OutputFunction | None = None,
    inputs: Inputs = (),
    to_come: int = 0,
    seed: int = 0,
) -> Iterator[Opened]:
    """Ask a network about a batch, and go on asking it inside.

    Args:
        model: the network, wrapped or not; afterwards it is as it was.
        images: (N, C, H, W), or inputs of another kind.
        score: what f is.
        execution: how forwards are carried out.
        sizes: images at once, by network.
        target: what is explained; the predictions if not given.
        output_fn: from what the network returns to (N, classes).
        inputs: what its forward takes after the images.
        to_come: how many images will go through the network, if somebody knows.
        seed: where the global random generators start inside.

    Yields:
        The clean batch, the images and how many of them are worked on at once.
    """
    with network_of(model, images) as (network, images), untouched(network, seed):
        chunks = sizes.of(network, images)
        clean = CleanBatch.of(
            network,
            images,
            score,
            execution,
            chunks,
            target,
            output_fn=output_fn,
            inputs=inputs,
            to_come=to_come,
        )
        yield Opened(clean, images, chunks)
