"""Heatmaps perturbed side by side: what `compare_heatmaps` measures on a block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics import CleanBatch, results_of_orders
from aopc_monitor.network import ChunkSizes, untouched
from aopc_monitor.perturbation import Order, PerturbationProtocol, generator_for
from recipes.compare_heatmaps.active_dropout import restart

CONTROL = "random"


@dataclass(frozen=True)
class Comparison:
    """Perturbs images in the order of each heatmap, and at random.

    All orders share ties, sampled steps and noise, so that their differences are paired.

    Attributes:
        heatmaps: by name.
        protocols: how to perturb, by region size in pixels.
        seed: of ties, sampled steps and noise.
        num_images: images in all blocks, where somebody knows: whether a faster network is worth
            making depends on it.
    """

    heatmaps: Mapping[str, Heatmap]
    protocols: Mapping[int, PerturbationProtocol]
    seed: int
    num_images: int = 0

    @property
    def names(self) -> list[str]:
        """The names of all orders that images are perturbed in: the heatmaps and the random one."""
        return [*self.heatmaps, CONTROL]

    @property
    def parts(self) -> dict[str, str]:
        """One part for each region size."""
        return {
            part_of(size): f"{self.heatmaps} {protocol.comparable()} {self.seed}"
            for size, protocol in self.protocols.items()
        }

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Perturb a block of images with some of the region sizes.

        Args:
            network: returns (N, classes); left as it was.
            images: (N, 3, H, W).
            parts: of `self.parts`; which others are asked for changes nothing in the results.

        Returns:
            By part: "curves" (N, orders, L+1) with f(x^(0)) ... f(x^(L)), NaN at steps that were
            not evaluated, and "predicted" (N,), the explained classes.
        """
        wanted = {size: one for size, one in self.protocols.items() if part_of(size) in parts}
        restart(network, generator_for(images.cpu(), self.seed, "dropout").initial_seed())
        with untouched(network, self.seed):
            chunks = ChunkSizes.of(None, images)
            any_of_them = next(iter(wanted.values()))
            count = max(len(images), self.num_images)
            clean = CleanBatch.of(
                network,
                images,
                any_of_them.score,
                any_of_them.execution,
                chunks,
                to_come=sum(p.forwards(count, len(self.names)) for p in wanted.values()),
            )
            orders: list[tuple[Tensor, Order]] = [
                (found, "morf") for found in clean.all_heatmaps([*self.heatmaps.values()], chunks)
            ]
            orders.append((torch.zeros_like(images[:, 0]), "random"))
            return {
                part_of(size): self._perturbed(network, clean, protocol, orders)
                for size, protocol in wanted.items()
            }

    def _perturbed(
        self,
        network: nn.Module,
        clean: CleanBatch,
        protocol: PerturbationProtocol,
        orders: Sequence[tuple[Tensor, Order]],
    ) -> dict[str, Tensor]:
        chunks = ChunkSizes.of(protocol.execution.chunk_size, clean.images)
        generator = generator_for(clean.images, self.seed)
        # Once more, so that active dropout drops the same whichever sizes came before.
        with untouched(network, self.seed):
            results = results_of_orders(clean, protocol, orders, generator, chunks)
        curves = torch.stack([result.curves for result in results], dim=1)
        return {"curves": curves.float().cpu(), "predicted": clean.target.cpu()}


def part_of(region_size: int) -> str:
    """Name of what is measured with a region size.

    Example:
        >>> part_of(9)
        'regions_of_9'
    """
    return f"regions_of_{region_size}"
