"""The second way of relevance: R itself, from the first layer back to the images.

Signals are R / a, which a pixel of value zero cannot have. Some rules of the first layer give such
pixels relevance all the same, so what the network does to the images before that layer (a shift, a
crop, a permutation) is done to a tensor of zeros as well, whose gradient is then R.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call, tensors_in
from aopc_monitor.heatmaps.engine.operations import AFFINE, AVERAGES, RESHAPES
from aopc_monitor.heatmaps.engine.tensor_table import TensorTable

_MOVED_ALONG = RESHAPES | AVERAGES


@dataclass(frozen=True)
class Carrier:
    """What goes along with a tensor near the images.

    Attributes:
        relevance: where R goes on.
        low: the lowest value that the tensor could have had, or None.
        high: the highest.
    """

    relevance: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def scaled_and_shifted(self, call: Call, signal: Tensor, result: Tensor) -> Carrier:
        """After a constant scaled or shifted the tensor: relevance stays what it is."""
        low, high = self.low, self.high
        if low is not None and high is not None:
            ends = [
                call.with_tensors(lambda v, end=end: end if v is signal else v).run()  # type: ignore[misc]
                for end in (low.clone(), high.clone())
            ]
            low, high = torch.minimum(*ends), torch.maximum(*ends)
        return Carrier(self.relevance.expand_as(result), low, high)


class Carriers:
    """The carriers of all tensors that have one."""

    def __init__(self, images: Tensor, low: Tensor | None, high: Tensor | None) -> None:
        self.relevance = torch.zeros_like(images, requires_grad=True)
        self._has_bounds = low is not None and high is not None
        self._of: TensorTable[Carrier] = TensorTable()
        ends = (None if end is None else end.to(images).expand_as(images) for end in (low, high))
        self._of[images] = Carrier(self.relevance, *ends)

    def of(self, tensor: Tensor) -> Carrier | None:
        """The carrier of a tensor, or None if it is not near the images."""
        return self._of.get(tensor)

    def put(self, tensor: Tensor, carrier: Carrier) -> None:
        """Give a tensor a carrier."""
        self._of[tensor] = carrier

    def before(self, call: Call, signals: list[Tensor]) -> list[Carrier] | None:
        """Carriers of what the call makes, to be given to its results; None if it makes none.

        To be asked before the call runs, which may write into its arguments.
        """
        carriers = [self._of[signal] for signal in signals if signal in self._of]
        if not carriers:
            return None
        if len(carriers) < len(signals):
            return []
        if call.name in AFFINE and len(signals) == 1:
            with torch.no_grad():
                shape = call.run()
            return [carriers[0].scaled_and_shifted(call, signals[0], shape)]
        if call.name not in _MOVED_ALONG or call.in_place:
            return []
        parts = ("relevance", "low", "high") if self._has_bounds else ("relevance",)
        ways = [self._moved(call, part) for part in parts]
        return [Carrier(*moved) for moved in zip(*ways, strict=True)]

    def _moved(self, call: Call, part: str) -> list[Tensor]:
        def counterpart(value: Tensor) -> Tensor:
            carrier = self._of.get(value)
            found = None if carrier is None else getattr(carrier, part)
            if found is not None:
                return found
            constant = value.is_floating_point() and part == "relevance"
            return torch.zeros_like(value) if constant else value

        return tensors_in(call.with_tensors(counterpart).run())

    def after(self, call: Call, carriers: list[Carrier] | None, results: list[Tensor]) -> None:
        """Give the results of a call their carriers."""
        if carriers is None:
            return
        if call.in_place:
            self._of.discard(call.first)
        for result, carrier in zip(results, carriers, strict=False):
            self._of[result] = carrier
