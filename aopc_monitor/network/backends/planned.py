"""What costs little to make first, and OpenVINO once the forwards to come are worth converting.

While steps follow upon one another, only what they change is computed, where that is faster.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.backends.checked import Checked
from aopc_monitor.network.backends.fused import reason_against
from aopc_monitor.network.backends.stepwise import Stepwise, is_settled_for
from aopc_monitor.network.backends.table import is_installed
from aopc_monitor.network.weight_changes import weight_changes

AT_ONCE, FASTER = "fused", "openvino"
# Seconds that a conversion takes, about: small networks took 0.2, mobilenet_v2 of 140 layers 0.8
# and, on a busy machine, several times as long.
SECONDS, SECONDS_PER_LAYER = 0.3, 0.01
# What it saves of the time of fused forwards, about: a sixth to a third was seen for most networks,
# 0.06 for shufflenet_v2, and 0.6 for efficientnet_lite0, which pads on its own.
SAVED = 0.15
# Chunks of a converted network that are timed before it is kept; the quickest of each counts.
TURNS = 3
# Of images that are perturbed step by step; with fewer, there is little to be kept.
LEAST_WALKED = 16
# To come, if steps are to be answered as such: before it pays, some ten are made for a plan, to be
# compared, and to be timed.
LEAST_CHUNKS = 64
_LOGGER = logging.getLogger("aopc_monitor")


@dataclass
class Spent:
    """Forwards of a network so far, before it was converted.

    Attributes:
        weights: changes of its parameters that torch had counted.
        inputs: how many inputs it was given.
        seconds: what they took.
        quickest: seconds of an input, in the quickest chunk.
        has_changed: whether its weights have changed in between: it is in training.
        has_paid: whether something faster was made for it.
        later: seconds of an input in the first chunks of what was made.
        is_slower: whether that turned out to be slower, and is not used any more.
    """

    weights: int = 0
    inputs: int = 0
    seconds: float = 0.0
    quickest: float = math.inf
    has_changed: bool = False
    has_paid: bool = False
    later: list[float] = field(default_factory=list)
    is_slower: bool = False

    def add(self, inputs: int, seconds: float) -> None:
        """Note a chunk."""
        self.seconds += seconds
        self.inputs += inputs
        self.quickest = min(self.quickest, seconds / inputs)


@dataclass(eq=False)
class Planned:
    """A network that is not converted until that pays.

    It pays when a share of the time of the forwards to come is more than the conversion takes. To
    come are those of the batch, and otherwise as many as there were. Where the network then turns
    out to be slower than it was, as on processors that torch makes good use of, it is called as
    before.

    Attributes:
        first: the network until then.
        to_come: how many inputs it will be given, if somebody knows.
        inputs: a batch.
        faster: what answers in its place, once that pays.
        is_settled: whether it was timed, and is kept.
        can_convert: whether there is something faster at all.
        stepwise: what answers while steps are walked.
    """

    first: Checked
    to_come: int
    inputs: Tensor
    faster: Checked | None = None
    is_settled: bool = False
    can_convert: bool = True
    stepwise: Stepwise | None = None

    @property
    def layout(self) -> torch.memory_format | None:
        """How inputs have to lie in memory; None where the network decides."""
        return self._answers.layout

    @property
    def has_threads(self) -> bool:
        """Whether what answers computes on threads of its own."""
        return self._answers.has_threads

    @property
    def _answers(self) -> Checked:
        return self.stepwise.answers if self.stepwise is not None else self._usual

    @property
    def _usual(self) -> Checked:
        return self.faster or self.first

    @contextmanager
    def walking(self, steps: int, at_once: int) -> Iterator[bool]:
        """For the time in which so many steps follow upon one another, if that is of use.

        Args:
            steps: of an image.
            at_once: images of a chunk.

        Yields:
            Whether it is, so that they are to be asked for in turn.
        """
        network = network_in(self.first.model)
        to_come = max(self.to_come, _spent_on(network).inputs)
        is_worth = is_settled_for(network) or to_come >= LEAST_CHUNKS * at_once
        if steps >= LEAST_WALKED and is_worth:
            self.stepwise = Stepwise.of(self.first.model, self.inputs)
        try:
            yield self.stepwise is not None
        finally:
            self.stepwise = None

    def __call__(self, inputs: Tensor, rows: Tensor | None) -> Tensor:
        """Outputs (M, classes) of inputs (M, ...)."""
        if self.stepwise is not None:
            self.to_come -= len(inputs)
            outputs = self.stepwise(inputs, rows, self._usual)
            self.stepwise = self.stepwise if self.stepwise.is_of_use else None
            return outputs
        if self.faster is not None and self.is_settled:
            return self.faster(inputs, rows)
        spent = _spent_on(network_in(self.first.model))
        answers = self._usual
        is_compared = answers.answers is not None and answers.is_first
        began = time.perf_counter()
        outputs = answers(inputs, rows)
        seconds = time.perf_counter() - began
        self.to_come -= len(inputs)
        if is_compared:  # which takes more than the answer alone
            return outputs
        if self.faster is not None:
            self._settle(spent, seconds / len(inputs))
            return outputs
        spent.add(len(inputs), seconds)
        is_open = self.can_convert and not (spent.has_changed or spent.has_paid)
        if is_open and self._pays(spent):
            self.be_faster(spent)
        return outputs

    def be_faster(self, spent: Spent) -> None:
        """Leave the forwards from here on to the faster back end, if it can have them."""
        spent.has_paid = True
        faster = Checked(FASTER, self.first.model).prepare(self.inputs)
        self.faster = faster if faster.answers is not None else None
        self.is_settled = len(spent.later) >= TURNS

    def _settle(self, spent: Spent, seconds: float) -> None:
        """Note what an input took; after a few chunks, go back if that is more than before."""
        spent.later.append(seconds)
        self.is_settled = len(spent.later) >= TURNS
        if not self.is_settled or min(spent.later) <= spent.quickest:
            return
        spent.is_slower, self.faster = True, None
        self.first.prepare(self.inputs)
        _LOGGER.info(
            "OpenVINO takes %.2g ms for a forward, and torch took %.2g: torch carries them out",
            min(spent.later) * 1e3, spent.quickest * 1e3,
        )  # fmt: skip

    def _pays(self, spent: Spent) -> bool:
        layers = sum(1 for module in self.first.model.modules() if not any(module.children()))
        price, of_one = SECONDS + SECONDS_PER_LAYER * layers, spent.seconds / spent.inputs
        to_come = max(self.to_come, spent.inputs)
        if SAVED * to_come * of_one <= price:
            return False
        _LOGGER.info(
            "about %s forwards of %.2g ms are to come: OpenVINO carries them out, which takes some "
            "%.0f s to prepare",
            f"{to_come:,}", of_one * 1e3, price,
        )  # fmt: skip
        return True


# What was found out about networks, as long as they exist; these are facts, not settings.
_SPENT = WeakIdKeyDictionary()


def _spent_on(network: nn.Module) -> Spent:
    weights = weight_changes(network.parameters())
    spent: Spent = _SPENT.setdefault(network, Spent(weights))
    if spent.weights != weights:
        spent.weights, spent.has_changed = weights, True
    return spent


def planned(
    model: nn.Module, inputs: Tensor, autocast: torch.dtype | None, to_come: int
) -> Checked | Planned:
    """What answers for a batch (N, ...), if that is left to the planner.

    Args:
        model: the network as it is asked.
        inputs: the batch.
        autocast: the precision that is asked for, if one is.
        to_come: how many inputs the network will be given, if somebody knows.
    """
    has_more = isinstance(model, AskedNetwork) and bool(model.inputs)
    is_for_it = inputs.device.type == "cpu" and inputs.dtype == torch.float32 and autocast is None
    is_fused = is_for_it and reason_against(model, inputs) is None
    first = Checked(AT_ONCE if is_fused else "eager", model)
    if has_more or not is_for_it:
        return first.prepare(inputs)
    answers, spent = Planned(first, to_come, inputs), _spent_on(network_in(model))
    answers.can_convert = is_installed(FASTER)
    is_open = answers.can_convert and not (spent.has_changed or spent.is_slower)
    if is_open and spent.has_paid:
        answers.be_faster(spent)
    if answers.faster is None:
        first.prepare(inputs)
    return answers
