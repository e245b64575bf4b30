"""Peak memory of an evaluation above that of the network alone, in chunks of images.

    python -m benchmarks.memory_use

Both send chunks of the same size through the same network; tensors that are alive at a time are
added up. Heatmaps and orders belong to the batch and not to the chunk, so batches of two sizes are
measured.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aopc_monitor import AOPC, Execution, SymmetricRelevanceGain
from benchmarks.timing import machine
from recipes.shared.reporting.markdown import markdown_table
from recipes.shared.training.networks import SMALL, build

CASES = (("small_cnn", 32, 4, 128), ("alexnet", 224, 9, 64), ("resnet18", 224, 9, 32))
IMAGES = 4


class PeakOfTensors(TorchDispatchMode):
    """Adds up the bytes of all tensors that are made inside and still alive.

    Attributes:
        peak: the most there were at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak, self._bytes = 0, 0
        self._owners: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and take down what it made."""
        given = {_place(tensor) for tensor in _tensors((args, kwargs))}
        found = func(*args, **(kwargs or {}))
        for tensor in _tensors(found):
            # A view of what there was before is nothing new.
            if _place(tensor) not in given or _place(tensor) in self._owners:
                self._own(tensor)
        return found

    def _own(self, tensor: Tensor) -> None:
        where, size = _place(tensor), tensor.untyped_storage().nbytes()
        if not size:
            return
        self._owners[where] = self._owners.get(where, 0) + 1
        if self._owners[where] == 1:
            self._bytes += size
            self.peak = max(self.peak, self._bytes)
        weakref.finalize(tensor, self._disown, where, size)

    def _disown(self, where: int, size: int) -> None:
        self._owners[where] -= 1
        if not self._owners[where]:
            del self._owners[where]
            self._bytes -= size


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    print(f"{machine('torchvision')}\n")
    header = ["network", "chunk"]
    for orders, batch in product(("one order", "two orders"), (f"{IMAGES} images", "a chunk")):
        header.append(f"{orders}, batch of {batch}")
    print(markdown_table(header, [row_of(*case) for case in CASES]))


def row_of(name: str, side: int, region_size: int, chunk_size: int) -> list[object]:
    """A row of the table."""
    torch.manual_seed(0)
    is_small = name in SMALL
    model = (build(name, 10, side) if is_small else torchvision.models.get_model(name)).eval()
    chunk = torch.rand(chunk_size, 3, side, side)
    alone = peak_of(lambda: bare_forward(model, chunk.clone()))
    cells = []
    batches = (chunk[:IMAGES].clone(), chunk)
    # The second kind has two orders.
    for kind, batch in product((AOPC, SymmetricRelevanceGain), batches):
        steps = 2 * chunk_size // len(batch)  # two chunks
        metric = kind(
            region_size=region_size,
            steps=steps,
            data_range=(0.0, 1.0),
            execution=Execution(chunk_size),
        )
        extra = peak_of(partial(metric.update, model, batch, batch.mean(dim=1)))
        cells.append(f"{(extra - alone) / chunk.numel() / chunk.element_size():.2f}")
    return [name, f"{chunk_size} of {side} x {side}", *cells]


def bare_forward(model: nn.Module, images: Tensor) -> None:
    """The network and nothing else."""
    with torch.no_grad():
        model(images)


def peak_of(run: Callable[[], object]) -> int:
    """Most bytes of tensors at a time; of a second time, when nothing is tried any more."""
    run()
    with PeakOfTensors() as mode:
        run()
    return mode.peak


if __name__ == "__main__":
    main()
