"""Torch first, and a faster back end once the forwards to come are worth what it costs to make."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.backends.base import asked
from aopc_monitor.network.backends.checked import Checked
from aopc_monitor.network.backends.table import is_installed

FASTER = "openvino"
# Seconds that a conversion takes, about: small networks took 0.6, mobilenet_v2 of 140 layers 4.5.
SECONDS, SECONDS_PER_LAYER = 0.5, 0.03
# What it saves of the forwards' time, at least of convolutional networks: half of it for some.
SAVED = 0.2
_LOGGER = logging.getLogger("aopc_monitor")


@dataclass
class Spent:
    """Forwards of a network so far, as it is.

    Attributes:
        weights: changes of its parameters that torch had counted.
        inputs: how many inputs it was given.
        seconds: what they took.
        has_changed: whether its weights have changed in between: it is in training.
        has_paid: whether something faster was made for it.
    """

    weights: int = 0
    inputs: int = 0
    seconds: float = 0.0
    has_changed: bool = False
    has_paid: bool = False


@dataclass(eq=False)
class Planned:
    """A network that is called as it is, until something faster pays.

    It pays when a fifth of the time of the forwards to come is more than the conversion takes. To
    come are those of the batch, and otherwise as many as there were.

    Attributes:
        model: the network as it is asked.
        to_come: how many inputs it will be given, if somebody knows.
        inputs: a batch.
        faster: what answers in its place, once that pays.
    """

    model: nn.Module
    to_come: int
    inputs: Tensor
    faster: Checked | None = None

    @property
    def layout(self) -> torch.memory_format | None:
        """How inputs have to lie in memory; None where the network decides."""
        return None if self.faster is None else self.faster.layout

    def __call__(self, inputs: Tensor, rows: Tensor | None) -> Tensor:
        """Outputs (M, classes) of inputs (M, ...)."""
        if self.faster is not None:
            return self.faster(inputs, rows)
        spent = _spent_on(network_in(self.model))
        began = time.perf_counter()
        outputs = asked(self.model, inputs, rows)
        spent.seconds += time.perf_counter() - began
        spent.inputs += len(inputs)
        self.to_come -= len(inputs)
        if not spent.has_changed and self._pays(spent):
            self.be_faster(spent)
        return outputs

    def be_faster(self, spent: Spent) -> None:
        """Leave the forwards from here on to the faster back end."""
        spent.has_paid = True
        self.faster = Checked(FASTER, self.model).prepare(self.inputs)

    def _pays(self, spent: Spent) -> bool:
        layers = sum(1 for module in self.model.modules() if not any(module.children()))
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
    weights = sum(0 if p.is_inference() else p._version for p in network.parameters())
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
    if has_more or not is_for_it or not is_installed(FASTER):
        return Checked("eager", model)
    answers, spent = Planned(model, to_come, inputs), _spent_on(network_in(model))
    if spent.has_paid and not spent.has_changed:
        answers.be_faster(spent)
    return answers
