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
    """The carriers of all tensors that have one.

    Attributes:
        relevance: where R ends; None as long as nobody asked for the carrier of the images.
    """

    def __init__(self, images: Tensor, low: Tensor | None, high: Tensor | None) -> None:
        self.relevance: Tensor | None = None
        self._images, self._ends = images.detach(), (low, high)
        self._has_bounds = low is not None and high is not None
        # The images have none before somebody asks for it.
        self._of: TensorTable[Carrier | None] = TensorTable()
        self._of[images] = None

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is near the images, so that it has a carrier."""
        return tensor in self._of

    def of(self, tensor: Tensor) -> Carrier | None:
        """The carrier of a tensor, or None if it is not near the images."""
        if tensor not in self._of:
            return None
        found = self._of[tensor]
        if found is None:
            found = self._of[tensor] = self._at_images()
        return found

    def _at_images(self) -> Carrier:
        images = self._images
        self.relevance = torch.zeros_like(images, requires_grad=True)
        low, high = (None if e is None else e.to(images).expand_as(images) for e in self._ends)
        return Carrier(self.relevance, low, high)

    def put(self, tensor: Tensor, carrier: Carrier) -> None:
        """Give a tensor a carrier."""
        self._of[tensor] = carrier

    def before(self, call: Call, signals: list[Tensor]) -> list[Carrier] | None:
        """Carriers of what the call makes, to be given to its results; None if it makes none.

        To be asked before the call runs, which may write into its arguments.
        """
        near = self._of.by_id
        are_near = [id(signal) in near for signal in signals]
        if True not in are_near:
            return None
        if False in are_near:
            return []
        if call.name in AFFINE and len(signals) == 1:
            carrier = self.of(signals[0])
            assert carrier is not None
            with torch.no_grad():
                shape = call.run()
            return [carrier.scaled_and_shifted(call, signals[0], shape)]
        if call.name not in _MOVED_ALONG or call.in_place:
            return []
        parts = ("relevance", "low", "high") if self._has_bounds else ("relevance",)
        ways = [self._moved(call, part) for part in parts]
        return [Carrier(*moved) for moved in zip(*ways, strict=True)]

    def _moved(self, call: Call, part: str) -> list[Tensor]:
        def counterpart(value: Tensor) -> Tensor:
            carrier = self.of(value)
            found = None if carrier is None else getattr(carrier, part)
            if found is not None:
                return found
            constant = value.is_floating_point() and part == "relevance"
            return torch.zeros_like(value) if constant else value

        return tensors_in(call.with_tensors(counterpart).run())

    def after(self, call: Call, carriers: list[Carrier], results: list[Tensor]) -> None:
        """Give the results of a call their carriers."""
        if call.in_place:
            self._of.discard(call.first)
        for result, carrier in zip(results, carriers, strict=False):
            self._of[result] = carrier
