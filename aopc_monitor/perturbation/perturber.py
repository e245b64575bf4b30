"""Perturbed images of many (image, step, repeat) at once.

Since x^(k) = where(rank < k, replacement, x), any set of such triples is made by one `where`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from aopc_monitor.perturbation.noisy_linear import Imputation
from aopc_monitor.perturbation.replacements import Replacement
from aopc_monitor.perturbation.spans import Spans
from aopc_monitor.utilities.randomness import seed_from
from aopc_monitor.utilities.where import where

# Triples are drawn in blocks with a seed of their own: so noise does not depend on the chunk size.
# On a CPU, a block is to stay in the cache; elsewhere, several are made at once, to be worth the
# calls.
MOST_TRIPLES = 64
NUMBERS_IN_CACHE, NUMBERS_ELSEWHERE = 2**18, 2**23
# Between seeds of blocks: 2**64 divided by the golden ratio, so that they lie far apart.
_APART = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Perturber:
    """Makes the perturbed images x^(k) of a batch.

    Attributes:
        images: (N, C, H, W) clean images.
        replacement: what regions become.
        low: (C, 1, 1) lower end of the data range.
        high: (C, 1, 1) upper end.
        steps: (N * repeats, J) regions that each evaluated step perturbs: k, or a share of them.
        repeats: independent draws per image and step.
        generator: source of the draws.
        spans: what is perturbed where it is not the first regions of an order; the numbers of
            these spans then stand in the place of steps.
    """

    images: Tensor
    replacement: Replacement
    low: Tensor
    high: Tensor
    steps: Tensor
    repeats: int
    generator: torch.Generator
    spans: Spans | None = None

    @cached_property
    def imputation(self) -> Imputation | None:
        """The replacement, if what it makes depends on which locations are perturbed."""
        # Asking a protocol takes as long as an operation on small images.
        return self.replacement if isinstance(self.replacement, Imputation) else None

    @property
    def num_triples(self) -> int:
        """Number of (image, repeat, step) triples, the step running fastest."""
        return self.steps.numel()

    @cached_property
    def image_and_repeat(self) -> Tensor:
        """(triples,) which row of the steps each one is of."""
        rows = torch.arange(len(self.steps), device=self.images.device)
        return rows.repeat_interleave(self.steps.shape[1])

    @cached_property
    def image(self) -> Tensor:
        """(triples,) which image each one is of."""
        # Small operations between forwards take ten times as long as many at once.
        return self.image_and_repeat // self.repeats

    @cached_property
    def step(self) -> Tensor:
        """(triples,) how many regions each one perturbs."""
        return self.steps.flatten()

    @property
    def block_size(self) -> int:
        """Triples that share a seed: a power of two, which depends on the shape of images only."""
        return min(MOST_TRIPLES, self._fitting(self.generator.device))

    @property
    def made_at_once(self) -> int:
        """Triples that are made at once: on a CPU one block, elsewhere as many as fit."""
        device = self.images.device
        return self.block_size if device.type == "cpu" else self._fitting(device)

    def _fitting(self, device: torch.device) -> int:
        numbers = NUMBERS_IN_CACHE if device.type == "cpu" else NUMBERS_ELSEWHERE
        fitting = max(1, numbers // self.images[0].numel())
        return int(2 ** (fitting.bit_length() - 1))

    def of_group(self, group: slice, steps: Tensor) -> Perturber:
        """The same for some of the images, at steps (n, J) of a single draw."""
        spans = None if self.spans is None else self.spans.of_group(group)
        return replace(self, images=self.images[group], steps=steps, repeats=1, spans=spans)

    def draws(self) -> Draws:
        """The replacements of all triples, each drawn when it is needed."""
        if not (self.replacement.is_random and self.replacement.fresh_each_step):
            repeated = self.images.repeat_interleave(self.repeats, dim=0)
            return Draws(self, self.generator, self.drawn(repeated, self.generator))
        return Draws(self, torch.Generator(self.generator.device), seed=seed_from(self.generator))

    def drawn(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """What the replacement makes of clean images (M, C, H, W)."""
        return self.replacement(clean, self.low, self.high, generator)


@dataclass(frozen=True)
class Draws:
    """The replacements of all triples of a batch; the same however often they are asked for.

    Attributes:
        perturber: the batch and how to perturb it.
        generator: where they come from; seeded anew for each block of triples, unless they are
            fixed.
        fixed: (N * repeats, C, H, W) replacements that all steps share, if they do.
        seed: of the first block.
    """

    perturber: Perturber
    generator: torch.Generator
    fixed: Tensor | None = None
    seed: int = 0

    def blocks(self, start: int, end: int) -> Iterator[Block]:
        """The triples from a start to an end, as many at once as pays."""
        size, most = self.perturber.block_size, self.perturber.made_at_once
        # All that share a seed are drawn, also those that are not asked for.
        whole = min(-(-end // size) * size, self.perturber.num_triples)
        for first in range(start - start % size, end, most):
            block = self._block(first, min(first + most, whole))
            yield block.part(max(start - first, 0), end - first)

    def _block(self, first: int, last: int) -> Block:
        perturber, triples = self.perturber, slice(first, last)
        image = perturber.image[triples]
        if self.fixed is None:
            replaced = self._drawn(first, image)
        else:
            replaced = self.fixed.index_select(0, perturber.image_and_repeat[triples])
        return Block(perturber, image, perturber.step[triples], replaced)

    def _drawn(self, first: int, image: Tensor) -> Tensor:
        """The replacements of triples from a first one on, whose images these are."""
        perturber, parts = self.perturber, []
        for number, of_seed in enumerate(image.split(perturber.block_size)):
            start = first + number * perturber.block_size
            self.generator.manual_seed((self.seed + start * _APART) % 2**63)
            # A copy of its own, which a replacement may write into.
            clean = perturber.images.index_select(0, of_seed)
            parts.append(perturber.drawn(clean, self.generator))
        return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True)
class Block:
    """Some triples, ready to be perturbed by any order of the same images.

    Attributes:
        perturber: the batch and how to perturb it.
        image: (M,) which image each triple is of.
        step: (M,) how many regions are perturbed in each triple.
        replaced: (M, C, H, W) what the replacement returned, which knows no order.
    """

    perturber: Perturber
    image: Tensor
    step: Tensor
    replaced: Tensor

    def part(self, start: int, end: int) -> Block:
        """The triples from a start to an end."""
        if start == 0 and end >= len(self.image):
            return self
        rows = slice(start, end)
        return Block(self.perturber, self.image[rows], self.step[rows], self.replaced[rows])

    def perturbed(self, rank_map: Tensor, out: Tensor) -> None:
        """Write x^(k) under the order of a (N, 1, H, W) rank map into (M, C, H, W)."""
        ranks, spans = self._ranks(rank_map), self.perturber.spans
        if spans is None:
            self._write(ranks < self._steps(rank_map), out)
        else:
            self._write(spans.mask(ranks, self.image, self.step), out)

    def occluded(self, rank_map: Tensor, out: Tensor) -> None:
        """Write the images with nothing replaced but the k-th region of the order."""
        self._write(self._ranks(rank_map) == self._steps(rank_map) - 1, out)

    def _ranks(self, rank_map: Tensor) -> Tensor:
        return rank_map.index_select(0, self.image)

    def _steps(self, rank_map: Tensor) -> Tensor:
        # Steps get the type of the ranks: a wider one would make a wider copy of all ranks.
        return self.step.view(-1, *[1] * (rank_map.ndim - 1)).to(rank_map.dtype)

    @cached_property
    def _clean(self) -> Tensor:
        """(M, C, H, W), for all orders."""
        return self.perturber.images.index_select(0, self.image)

    def _write(self, perturbed: Tensor, out: Tensor) -> None:
        of, clean = self.perturber, self._clean
        if of.imputation is not None:
            # A copy of its own, which an imputation may write into.
            made = of.imputation.impute(clean.clone(), perturbed, self.replaced, of.low, of.high)
        else:
            made = where(perturbed, self.replaced.to(clean.dtype), clean)
        # Straight into room with the channels last, `where` would take half as long again.
        out.copy_(made)
