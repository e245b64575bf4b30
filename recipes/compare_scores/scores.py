"""The scores of heatmaps, measured side by side on a block of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aopc_monitor import Execution
from aopc_monitor.heatmaps import Heatmap
from aopc_monitor.metrics import (
    CleanBatch,
    ComprehensivenessMeasure,
    DeletionMeasure,
    FidelityMinusMeasure,
    FidelityPlusMeasure,
    InsertionMeasure,
    RemovalMeasure,
    SaCoMeasure,
    SubsetChoices,
    SufficiencyMeasure,
    file_size,
    results_of_orders,
    results_of_removals,
    results_of_subsets,
)
from aopc_monitor.network import ChunkSizes, untouched
from aopc_monitor.perturbation import (
    Constant,
    Mean,
    Order,
    PerturbationProtocol,
    generator_for,
)

CONTROL = "random"
PART = "scores"
# Of an image's regions, between a few and most of them.
FIDELITY_SHARES, SUBSET_SHARES = (0.1, 0.5), (0.1, 0.5)


@dataclass(frozen=True)
class Score:
    """What a report says of a score.

    Attributes:
        higher_is_better: whether the better heatmap has the larger number.
        replacement: what removed regions become.
        question: what it asks.
    """

    higher_is_better: bool
    replacement: str
    question: str


SCORES = {
    "aopc": Score(True, "noise", "how far does the score fall, the most relevant regions first?"),
    "lerf": Score(False, "noise", "how far does it fall, the least relevant first?"),
    "srg": Score(True, "noise", "the first minus the second: symmetric relevance gain"),
    "deletion": Score(False, "zeros", "how much is left while the most relevant regions go?"),
    "insertion": Score(True, "zeros", "how much is there while they come back to nothing?"),
    "comprehensiveness": Score(True, "zeros", "how far does it fall without a few of them?"),
    "sufficiency": Score(False, "zeros", "how far does it fall with a few of them alone?"),
    "saco": Score(True, "mean colour", "does a group of more relevance have more effect?"),
    "fidelity_plus": Score(True, "zeros", "how far does it fall without some of them, at random?"),
    "fidelity_minus": Score(False, "zeros", "how far does it fall without some of the others?"),
    "sensitivity_n": Score(True, "zeros", "does summed relevance foretell the drop of the logit?"),
    "png_bytes": Score(False, "none", "how simple is the picture? It asks nothing of the network"),
}  # fmt: skip


@dataclass(frozen=True)
class Amounts:
    """How much is asked for each image and heatmap.

    Attributes:
        region_size: side of the regions in pixels.
        steps: L of AOPC.
        sampled_steps: J of them.
        parts: in which regions go and come back.
        groups: K of SaCo.
        draws: random removals of fidelity, for each of two sizes.
        subsets: of sensitivity-n, for each of two sizes.
    """

    region_size: int
    steps: int
    sampled_steps: int
    parts: int
    groups: int
    draws: int
    subsets: int

    @property
    def measures(self) -> dict[str, RemovalMeasure]:
        """What is measured by removals that become zeros, by the name of the score."""
        return {
            "deletion": DeletionMeasure(self.parts),
            "insertion": InsertionMeasure(self.parts),
            "comprehensiveness": ComprehensivenessMeasure(),
            "sufficiency": SufficiencyMeasure(),
            "fidelity_plus": FidelityPlusMeasure(FIDELITY_SHARES, draws=self.draws),
            "fidelity_minus": FidelityMinusMeasure(FIDELITY_SHARES, draws=self.draws),
        }

    @property
    def forwards(self) -> int:
        """About how many an image costs for each heatmap."""
        fidelity = 2 * len(FIDELITY_SHARES) * self.draws
        return 2 * self.sampled_steps + 2 * self.parts + 10 + self.groups + fidelity


@dataclass(frozen=True)
class Scores:
    """Measures blocks of images: every score of every heatmap, and of random ones.

    Attributes:
        heatmaps: by name, the random one among them.
        amounts: how much is asked.
        data_range: of the images as the network sees them.
        seed: of ties, steps, random removals and noise.
        backend: what carries out the forwards.
    """

    heatmaps: Mapping[str, Heatmap]
    amounts: Amounts
    data_range: tuple[Sequence[float], Sequence[float]]
    seed: int
    backend: str

    @property
    def parts(self) -> dict[str, str]:
        """A single part."""
        return {PART: f"{self.heatmaps} {self.amounts} {self.data_range} {self.seed} {[*SCORES]}"}

    def __call__(
        self, network: nn.Module, images: Tensor, parts: Sequence[str]
    ) -> dict[str, dict[str, Tensor]]:
        """Measure a block of images (N, 3, H, W).

        Returns:
            Of the single part "values" (N, heatmaps, scores), in the order of `SCORES`, and
            "predicted" (N,), the explained classes.
        """
        with untouched(network, self.seed):
            chunks = ChunkSizes.of(None, images)
            to_come = len(images) * len(self.heatmaps) * self.amounts.forwards
            how = (Execution(backend=self.backend), chunks)
            clean = CleanBatch.of(network, images, "probability", *how, to_come=to_come)
            maps = clean.all_heatmaps([*self.heatmaps.values()], chunks)
            found = {
                **self._of_orders(clean, maps, chunks),
                **self._of_removals(clean, maps, chunks),
                "png_bytes": torch.stack([file_size(of, "png") for of in maps], dim=1),
            }
            # Its score is the logit, as in the paper.
            logits = CleanBatch.of(network, images, "logit", *how, to_come=to_come)
            found["sensitivity_n"] = self._of_subsets(logits, maps, chunks)
        values = torch.stack([found[name].double().cpu() for name in SCORES], dim=2)
        return {PART: {"values": values, "predicted": clean.target.cpu()}}

    def _of_orders(
        self, clean: CleanBatch, maps: Sequence[Tensor], chunks: ChunkSizes
    ) -> dict[str, Tensor]:
        """(N, heatmaps) by score."""
        amounts, generator = self.amounts, generator_for(clean.images, self.seed)
        protocol = PerturbationProtocol(
            amounts.region_size, amounts.steps, self.data_range, sampled_steps=amounts.sampled_steps
        )
        orders: list[tuple[Tensor, Order]] = [(of, "morf") for of in maps]
        orders += [(of, "lerf") for of in maps]
        results = results_of_orders(clean, protocol, orders, generator, chunks)
        areas = torch.stack([result.per_image for result in results], dim=1)
        first, last = areas.chunk(2, dim=1)
        return {"aopc": first, "lerf": last, "srg": first - last}

    def _of_removals(
        self, clean: CleanBatch, maps: Sequence[Tensor], chunks: ChunkSizes
    ) -> dict[str, Tensor]:
        found, size = {}, self.amounts.region_size
        saco: dict[str, RemovalMeasure] = {"saco": SaCoMeasure(self.amounts.groups)}
        for replacement, measures in ((Constant(0.0), self.amounts.measures), (Mean(), saco)):
            protocol = PerturbationProtocol(size, 1, None, replacement)
            generator = generator_for(clean.images, self.seed, "removals")
            given = (maps, list(measures.values()), generator, chunks)
            results = results_of_removals(clean, protocol, *given)
            for number, name in enumerate(measures):
                values = [of_heatmap[number].per_image for of_heatmap in results]
                found[name] = torch.stack(values, dim=1)
        return found

    def _of_subsets(self, clean: CleanBatch, maps: Sequence[Tensor], chunks: ChunkSizes) -> Tensor:
        """(N, heatmaps) sensitivity-n; NaN where it is undefined."""
        size = self.amounts.region_size
        regions = (clean.images.shape[-1] // size) ** 2
        n = {max(1, round(share * regions)) for share in SUBSET_SHARES}
        choices = SubsetChoices(
            sorted(n), self.amounts.subsets, size, 0.0, "logit", Execution(backend=self.backend)
        )
        generator = generator_for(clean.images, self.seed, "subsets")
        results = results_of_subsets(clean, maps, choices, generator, chunks)
        return torch.stack([result.per_image for result in results], dim=1)
