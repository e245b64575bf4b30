"""One look at a network: AOPC of several heatmaps with its control and its error, over many images.

No arithmetic of AOPC is here (see `functional`), and nothing of trainers (see `monitor`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps import Heatmap, with_data_range
from aopc_monitor.metrics.clean_values import (
    agreement_table,
    can_survive,
    values_of_clean_images,
)
from aopc_monitor.metrics.functional.agreement import (
    kappa_of_table,
    kappa_standard_error_of_table,
)
from aopc_monitor.metrics.functional.aopc import results_of_orders
from aopc_monitor.metrics.functional.aopc_result import AOPCResult
from aopc_monitor.metrics.functional.clean_batch import CleanBatch
from aopc_monitor.metrics.reference_classes import ReferenceClasses
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork, proceed
from aopc_monitor.network.further_inputs import Inputs
from aopc_monitor.network.isolation import untouched
from aopc_monitor.perturbation.data_range import rounded
from aopc_monitor.perturbation.input_kinds import kind_of
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.perturbation.regions import Order
from aopc_monitor.utilities.randomness import generator_for
from aopc_monitor.utilities.statistics import accumulator_dtype, standard_error

TABLE = "agreement_table"


@dataclass(frozen=True)
class Evaluation:
    """Sums over images, from which every mean and every standard error follows.

    Attributes:
        sums: for each quantity the number of images, the sum and the sum of squares, (3, D); D is
            1 for a number per image and L+1 for a curve. "agreement_table" is another one, see
            `ReferenceClasses.table`.
        forwards: images that went through the network.
    """

    sums: Mapping[str, Tensor]
    forwards: int

    @classmethod
    def of(cls, values: Mapping[str, Tensor], forwards: int) -> Evaluation:
        """Sum up values per image, (N,) or (N, D) each; NaN stands for no value."""
        sums = {}
        for name, value in values.items():
            rows = value.reshape(len(value), -1).to(accumulator_dtype(value.device))
            # NaN is no value: a step of the curve that was not evaluated for this image.
            counts = (~rows.isnan()).sum(dim=0).to(rows)
            sums[name] = torch.stack([counts, rows.nansum(dim=0), rows.square().nansum(dim=0)])
        return cls(sums, forwards)

    def __add__(self, other: Evaluation) -> Evaluation:
        sums = {name: self.sums[name] + other.sums[name] for name in self.sums}
        return Evaluation(sums, self.forwards + other.forwards)

    @property
    def num_images(self) -> int:
        """Number of images looked at."""
        return int(next(sums for name, sums in self.sums.items() if name != TABLE)[0, 0])

    @property
    def has_lerf(self) -> bool:
        """Whether the least relevant regions were perturbed first, too."""
        return any(name.endswith("_lerf_curve") for name in self.sums)

    def curve(self, name: str) -> Tensor:
        """(D,) mean of a quantity over the images that have it; NaN where none has."""
        count, total, _ = self.sums[name]
        return total / count

    def curve_sem(self, name: str) -> Tensor:
        """(D,) standard error of the mean over the images; NaN for a single image."""
        return standard_error(*self.sums[name])

    def mean(self, name: str) -> float:
        """Mean of a quantity that has one number per image."""
        return float(self.curve(name))

    def sem(self, name: str) -> float:
        """Standard error of `mean`."""
        return float(self.curve_sem(name))

    def summary(self) -> dict[str, float]:
        """Each quantity that has one number per image: its mean, and as "NAME_sem" its error.

        What no image has, such as an accuracy where none is labelled, has no entry; and what a
        single image has, no standard error. Beside these, "agreement" and its standard error.
        """
        names = [name for name in self.sums if not name.endswith("_curve") and name != TABLE]
        counts = {name: int(self.sums[name][0, 0]) for name in names}
        summary = {name: self.mean(name) for name in names if counts[name]}
        summary |= {f"{name}_sem": self.sem(name) for name in names if counts[name] > 1}
        return summary | self._agreement()

    def _agreement(self) -> dict[str, float]:
        if TABLE not in self.sums:
            return {}
        table = self.sums[TABLE]
        found = {"agreement": kappa_of_table(table)}
        found["agreement_sem"] = kappa_standard_error_of_table(table)
        return {name: float(value) for name, value in found.items() if value.isfinite()}

    def emptied(self) -> Evaluation:
        """The same quantities of no images."""
        return Evaluation({name: sums * 0 for name, sums in self.sums.items()}, 0)

    def as_vector(self) -> Tensor:
        """All sums in one float vector, to be added up over processes in one go."""
        flat = [self.sums[name].flatten() for name in sorted(self.sums)]
        return torch.cat([*flat, flat[0].new_tensor([self.forwards])])

    def with_vector(self, vector: Tensor) -> Evaluation:
        """This evaluation with the sums of `vector`, which `as_vector` of the same kind made."""
        names = sorted(self.sums)
        *parts, forwards = vector.split([*(self.sums[name].numel() for name in names), 1])
        sums = {
            name: part.view_as(self.sums[name]) for name, part in zip(names, parts, strict=True)
        }
        return Evaluation(sums, int(forwards))


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    heatmaps: Mapping[str, Heatmap],
    protocol: PerturbationProtocol,
    seed: int,
    chunks: ChunkSizes | None = None,
    before_each: Callable[[], None] = proceed,
    lerf: bool = False,
    inputs: Inputs = (),
    reference: ReferenceClasses | None = None,
) -> Evaluation:
    """Look at one batch.

    All heatmaps share the clean forward, the random control and the noise, so that the gains are
    paired differences.

    Args:
        model: network that returns (N, classes); left as it was.
        images: (N, C, H, W).
        labels: (N,) classes, only to tell the accuracy, and anything outside 0 ... classes - 1 for
            an image without a label; (N, classes) truth values of independent labels;
            `(N, *space)` classes of pixels; or None.
        heatmaps: the heatmaps by name.
        protocol: how to perturb.
        seed: seed of ties, sampled steps and noise.
        chunks: images at once; smaller afterwards where memory was short. Those of the protocol if
            not given.
        before_each: called before each chunk; raises to stop.
        inputs: what the network's forward takes after the images, one row for each image.
        lerf: also perturb the least relevant regions first. All other numbers stay what they are.
        reference: what a fixed reference predicts of these images.

    Returns:
        An `Evaluation` of, for each heatmap, "NAME" (its AOPC), "NAME_gain" (AOPC minus that of the
        random order), "NAME_curve"; of "random", "random_curve"; of "confidence" (probability of
        the explained class) and, given labels, "accuracy" (of independent labels: that all are
        right; of pixels: the share of the labelled ones that is right) and "label_accuracy" (the
        share of independent labels that is right), as far as the score gives them a meaning.
        With `lerf` also, for each heatmap, "NAME_lerf" (area with the least relevant regions
        first), "NAME_srg" (AOPC minus that, image by image: the symmetric relevance gain of
        Bluecher et al. 2024) and "NAME_lerf_curve"; and of networks that predict one class of each
        image "NAME_survival", "random_survival", "NAME_survival_lerf" (the share of the perturbed
        images that are predicted as the clean one, in each order) and "NAME_survival_gap" (least
        minus most relevant first). With a reference also "agreement_table".
    """
    sizes = ChunkSizesByNetwork(protocol.execution.chunk_size, searching=False)
    chunks = chunks or sizes.of(model, images)
    with untouched(model, seed):
        clean = CleanBatch.of(
            model, images, protocol.score, protocol.execution, chunks, protocol.target, before_each,
            output_fn=protocol.output_fn, inputs=inputs,
        )  # fmt: skip
        makers = [with_data_range(make, protocol.data_range) for make in heatmaps.values()]
        made = clean.all_heatmaps(makers, chunks, before_each)
        maps = dict(zip(heatmaps, made, strict=True))
        nothing = clean.images.new_zeros(kind_of(clean.images).locations(clean.images))
        orders: list[tuple[Tensor, Order]] = [(relevance, "morf") for relevance in maps.values()]
        orders.append((nothing, "random"))
        if lerf:
            orders += [(relevance, "lerf") for relevance in maps.values()]
        rest = (generator_for(images, seed), chunks, before_each)
        results = results_of_orders(
            clean, protocol, orders, *rest, survival=lerf and can_survive(clean, protocol.score)
        )
    values = values_of_clean_images(clean, labels, protocol.score) | _of_orders(list(maps), results)
    found = Evaluation.of(values, results[0].forwards)
    if reference is None:
        return found
    table = agreement_table(clean, protocol.score, reference)
    return replace(found, sums={**found.sums, TABLE: table})


def _of_orders(names: Sequence[str], results: Sequence[AOPCResult]) -> dict[str, Tensor]:
    """From results in the order: each heatmap, the random order, each heatmap reversed or none."""
    random, reversed_ones = results[len(names)], results[len(names) + 1 :]
    values = {"random": random.per_image, "random_curve": random.curves}
    for name, result in zip(names, results, strict=False):
        values[name] = result.per_image
        values[f"{name}_gain"] = result.per_image - random.per_image
        values[f"{name}_curve"] = result.curves
    for name, result in zip(names, reversed_ones, strict=False):
        values[f"{name}_lerf"] = result.per_image
        values[f"{name}_srg"] = values[name] - result.per_image
        values[f"{name}_lerf_curve"] = result.curves
    return values | _survivals(names, results)


def _survivals(names: Sequence[str], results: Sequence[AOPCResult]) -> dict[str, Tensor]:
    """The same of survival, where results have it, as they do if orders are reversed, too."""
    kept = [result.survival for result in results if result.survival is not None]
    if not kept:
        return {}
    values = {"random_survival": kept[len(names)]}
    for name, morf, lerf in zip(names, kept, kept[len(names) + 1 :], strict=False):
        values[f"{name}_survival"] = morf
        values[f"{name}_survival_lerf"] = lerf
        values[f"{name}_survival_gap"] = lerf - morf
    return values


def num_orders(num_heatmaps: int, lerf: bool = False) -> int:
    """Orders that an evaluation perturbs each image in, the random one included.

    Example:
        >>> num_orders(2), num_orders(2, lerf=True)
        (3, 5)
    """
    return 1 + num_heatmaps * (2 if lerf else 1)


def plan(
    images: Tensor,
    names: Collection[str],
    protocol: PerturbationProtocol,
    range_read_off: bool,
    lerf: bool = False,
) -> str:
    """One line for people: what an evaluation of these images looks at, and what it costs.

    Example:
        >>> protocol = PerturbationProtocol(region_size=4, steps=30, data_range=(0.0, 1.0))
        >>> line = plan(torch.rand(8, 3, 32, 32), ["lrp"], protocol, range_read_off=False)
        >>> print(line)  # doctest: +ELLIPSIS
        8 images of 32 x 32, regions of 4 x 4, 30 steps, lrp and a random order: 488 forwards...
    """
    kind = kind_of(images)
    of_input = kind.extent_text(images)
    # A single number beside that of the steps needs its unit.
    noun, unit = "regions" if kind.is_dense else "words", "" if " x " in of_input else kind.unit
    of_region = protocol.regions_of(images).text(noun, unit)
    forwards = protocol.forwards(len(images), num_orders(len(names), lerf))
    sampled = protocol.strata.count
    steps = f"{protocol.steps} steps"
    if sampled < protocol.steps:
        steps = f"{sampled} sampled of {steps}"
    line = (
        f"{len(images)} {kind.name} of {of_input}, {of_region}, {steps}, "
        f"{', '.join(names)}{' (also least relevant first)' if lerf else ''} and a random order: "
        f"{forwards:,} forwards an evaluation"
        f"{'' if protocol.target is None else ' of one class of each'}"
    )
    if not range_read_off or protocol.data_range is None:
        return line
    low, high = (rounded(bound) for bound in protocol.data_range)
    return f"{line}; data range read off the images: {low} to {high}"
